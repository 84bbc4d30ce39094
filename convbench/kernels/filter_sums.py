"""Sums of products with filters in the lanes of vectors, left as they lie in registers: the products of `winograd`.

    sums[t, v] = sum over terms i of weights[i, v] * x[offset of i + t * x_step]

where v runs over a few vectors of filters and t over a few tiles. A term costs `vectors * tiles` multiply-adds,
`vectors` loads and `tiles` broadcasts.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import LINE, Vectors
from convbench.kernels.vector_code import Array, Constant, vector_code


@vector_code
def filter_sums(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    vectors: Constant,
    tiles: Constant,
    lanes: Constant,
    x: Array,
    x_begin: ir.Value,
    x_step: Constant,
    offsets: Array,
    weights: Array,
    weights_begin: ir.Value,
    ahead: ir.Value,
    out: Array,
    out_begin: ir.Value,
) -> None:
    """Compute one register block and write it as shape (tiles, vectors, lanes).

    Args:
        emit: Emits the code.
        vectors: Vectors of filters in the block.
        tiles: Tiles in the block.
        lanes: Filters in a vector.
        x: Input.
        x_begin: Index in `x` that the first tile reads at offset 0.
        x_step: Elements from one tile to the next, in `x`.
        offsets: int64; the offset of each term.
        weights: Weights, `vectors * lanes` consecutive numbers for each term.
        weights_begin: Index in `weights` of the first term's first number.
        ahead: Elements from the weights of a term to those that are asked for with it.
        out: Output.
        out_begin: Index in `out` of the first number.
    """
    builder, size = emit.builder, vectors * lanes
    sums = [[cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(vectors)] for _ in range(tiles)]
    first, own = emit.at(x.data, x_begin), cgutils.alloca_once_value(builder, emit.at(weights.data, weights_begin))
    with cgutils.for_range(builder, offsets.size) as term:
        begin, read = emit.at(first, builder.load(emit.at(offsets.data, term.index))), builder.load(own)
        later = emit.at(read, ahead)
        for line in range(0, size, LINE // emit.item_size):
            emit.prefetch(emit.at(later, line))
        loaded = [emit.load(emit.at(read, v * lanes)) for v in range(vectors)]
        for t, row in enumerate(sums):
            pixel = emit.splat(builder.load(emit.at(begin, t * x_step)))
            for weight, place in zip(loaded, row, strict=True):
                builder.store(emit.multiply_add(weight, pixel, builder.load(place)), place)
        builder.store(emit.at(read, size), own)
    write = emit.at(out.data, out_begin)
    for t, row in enumerate(sums):
        for v, place in enumerate(row):
            emit.store(builder.load(place), emit.at(write, t * size + v * lanes))
