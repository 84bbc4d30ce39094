"""Sums of products with tiles in the lanes of vectors, terms in a straight line: products of few terms of `winograd`.

    sums[k, v] = sum over terms i of weights[i, k] * x[offset of i + v * lanes ...]

where k runs over a few filters and v over a few vectors of tiles, for each of a column of points. In a loop, nine terms
of six cycles take 38 cycles more, until the last sums are ready, the loop is left and the next block begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import LINE, Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_function


@vector_function
def column_sums(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    filters: Constant,
    computed: Constant,
    vectors: Constant,
    lanes: Constant,
    terms: Constant,
    last_terms: Constant,
    points: Constant,
    x: Array,
    x_begin: ir.Value,
    x_step: ir.Value,
    ahead: ir.Value,
    offsets: Array,
    last_term: ir.Value,
    weights: Array,
    weights_begin: ir.Value,
    weights_step: ir.Value,
    out: Array,
    out_begin: ir.Value,
    fetched_lines: Constant,
    fetched: Array,
    fetched_begin: ir.Value,
    next_out: Array,
    next_begin: ir.Value,
) -> None:
    """Compute a register block for each of a column of points; written as shape (points, filters, vectors, lanes).

    Args:
        emit: Emits the code.
        filters: Filters in a block, as it lies in `weights` and in `out`.
        computed: So many of them, the first ones, are computed.
        vectors: Vectors of tiles in a block.
        lanes: Tiles in a vector.
        terms: Number of terms at all points but the last.
        last_terms: Number of terms at the last point.
        points: Number of points.
        x: Input.
        x_begin: Index in `x` that the first tile reads at the first point and offset 0.
        x_step: Elements from one point to the next, in `x`.
        ahead: Elements from what a term reads to what it asks for, in `x`.
        offsets: int64; the offset of each term.
        last_term: Index of the first term at the last point; elsewhere it is 0.
        weights: Weights, `filters` consecutive numbers for each term.
        weights_begin: Index in `weights` of term 0 at the first point.
        weights_step: Elements from one point to the next, in `weights`.
        out: Output.
        out_begin: Index in `out` of the first number.
        fetched_lines: Number of lines that are asked for at each point, to be written later.
        fetched: int64; offsets of these, shape (points, lines).
        fetched_begin: Index of the first point's first one.
        next_out: What will be written.
        next_begin: Index in `next_out` of offset 0.
    """
    builder, size, last = emit.builder, filters * vectors * lanes, index(points - 1)
    later = emit.at(next_out.data, next_begin)
    first, own, write = emit.at(x.data, x_begin), emit.at(weights.data, weights_begin), emit.at(out.data, out_begin)

    def sums(point: ir.Value, count: int, begin: ir.Value) -> None:
        pixels, taps = (
            emit.at(place, builder.mul(point, step)) for place, step in ((first, x_step), (own, weights_step))
        )
        taps = emit.at(taps, builder.mul(begin, index(filters)))
        wanted = emit.at(fetched.data, fetched_begin, builder.mul(point, index(fetched_lines)))
        lines = [emit.at(later, builder.load(emit.at(wanted, i))) for i in range(fetched_lines)]
        found = _sums(
            emit,
            (filters, computed, vectors),
            (pixels, ahead),
            [emit.at(offsets.data, begin, i) for i in range(count)],
            taps,
            lines,
        )
        for number, vector in enumerate(found):
            emit.store(vector, emit.at(write, builder.mul(point, index(size)), number * lanes))

    with cgutils.for_range(builder, last) as point:
        sums(point.index, terms, index(0))
    sums(last, last_terms, last_term)


def _sums(
    emit: Vectors,
    size: tuple[int, int, int],
    x: tuple[ir.Value, ir.Value],
    terms: Sequence[ir.Value],
    weights: ir.Value,
    lines: Sequence[ir.Value],
) -> list[ir.Value]:
    """Emit the sums of a block of `size`; `terms` are the addresses of their offsets, `x` is (address, `ahead`).

    The lines at `lines` are asked for along the way, to be written.
    """
    builder, (filters, computed, vectors) = emit.builder, size
    sums = [[emit.constant(0.0)] * vectors for _ in range(computed)]
    for number, term in enumerate(terms):
        begin = emit.at(x[0], builder.load(term))
        loaded = [emit.load(emit.at(begin, v * emit.lanes)) for v in range(vectors)]
        for line in range(0, vectors * emit.lanes, LINE // emit.item_size):
            emit.prefetch(emit.at(begin, x[1], line))
        for wanted in lines[number * len(lines) // len(terms) : (number + 1) * len(lines) // len(terms)]:
            emit.prefetch(wanted, writes=True)
        for k, row in enumerate(sums):
            weight = emit.splat(builder.load(emit.at(weights, number * filters + k)))
            sums[k] = [
                emit.multiply_add(weight, pixel, total) if number else builder.fmul(weight, pixel)
                for pixel, total in zip(loaded, row, strict=True)
            ]
    return list(itertools.chain(*sums))
