"""The micro-kernel with filters in the lanes of vectors: for maps of few columns, which fill vectors of pixels badly.

    sums[v, p] = bias[v] + sum over taps t of weights[t, v] * x[offset of t + p * x_step]

where v runs over a few vectors of filters and p over a few pixels of a row. A tap costs `vectors * pixels`
multiply-adds, `vectors` loads and `pixels` broadcasts. The output is stored by channel: the sums are transposed in
registers, so that each filter's pixels lie side by side.
"""

from __future__ import annotations

import math
from typing import Final

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.micro_kernel import BLOCK, TAP
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, MaybeConstant, vector_code

PREFETCH_TAPS: Final = 8  # prefetch distance of the weights, in taps ...
PREFETCH_PIXELS: Final = 5  # ... of blocks of so many pixels: with fewer, the hardware streams the weights faster alone
PIXELS: Final = (14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)  # of a block; each that is taken is compiled
LATENCY: Final = 4  # cycles of a multiply-add, which fewer sums than that wait for
FAR: Final = 5  # cycles by which a vector of parts of cache lines takes longer where the output leaves the caches


def best_block(filters: int, columns: int, lanes: int, taps: int, *, far: bool) -> tuple[int, int, float]:
    """The register block of least estimated cost for rows of outputs.

    Args:
        filters: Number of filters.
        columns: Output columns.
        lanes: Elements of a vector.
        taps: Taps of a filter.
        far: Whether the output is larger than the caches.

    Returns:
        (vectors, pixels), and the cycles that a row takes of a processor that executes a multiply-add, and two loads or
        a store, in a cycle. The last block of a row computes some pixels again.
    """

    def cycles(vectors: int, pixels: int) -> float:
        tap = max(vectors * pixels, (vectors + pixels) / 2, LATENCY) + TAP
        wide = min(lanes, 1 << (pixels - 1).bit_length())
        store = vectors * (math.ceil(pixels / wide) * (lanes + wide * math.log2(wide)) + FAR * far * pixels)
        blocks = math.ceil(filters / (vectors * lanes)) * math.ceil(columns / pixels)
        return blocks * (taps * tap + store + BLOCK)

    candidates = [
        (vectors, pixels)
        for vectors, most in tuning().filter_blocks
        for pixels in PIXELS
        if pixels <= min(most, columns)
    ]
    vectors, pixels = min(candidates, key=lambda one: cycles(*one))
    return vectors, pixels, cycles(vectors, pixels)


@vector_code
def filter_lanes(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    vectors: Constant,
    pixels: Constant,
    lanes: Constant,
    x: Array,
    x_begin: ir.Value,
    x_step: MaybeConstant,
    outer_offsets: Array,
    inner_offsets: Array,
    weights: Array,
    weights_begin: ir.Value,
    bias_begin: ir.Value,
    out: Array,
    out_begin: ir.Value,
    filter_step: ir.Value,
    filters_used: ir.Value,
    pixels_used: MaybeConstant,
    relu: ir.Value,
) -> None:
    """Compute one register block and write it.

    Args:
        emit: Emits the code.
        vectors: Vectors of filters in the block.
        pixels: Pixels in the block.
        lanes: Filters in a vector.
        x: Input.
        x_begin: Index in `x` that the first pixel reads at offset 0.
        x_step: Elements from one pixel to the next, in `x`.
        outer_offsets: int64; tap (o, i) reads at offset `outer_offsets[o] + inner_offsets[i]`.
        inner_offsets: int64, see `outer_offsets`.
        weights: Weights, `vectors * lanes` consecutive numbers for each tap, and biases.
        weights_begin: Index in `weights` of the first tap's first number.
        bias_begin: Index in `weights` of the first filter's bias, the initial value of its sums.
        out: Output.
        out_begin: Index in `out` of the first filter's first pixel.
        filter_step: Elements from one filter to the next, in `out`.
        filters_used: Filters with index < filters_used are stored.
        pixels_used: Pixels with index < pixels_used are stored; the others are read all the same.
        relu: Whether negative sums become zero before they are stored.
    """
    builder = emit.builder
    first = emit.at(weights.data, bias_begin)
    sums = []
    for v in range(vectors):
        bias = emit.load(emit.at(first, v * lanes))
        sums.append([cgutils.alloca_once_value(builder, bias) for _ in range(pixels)])
    tap_weights = cgutils.alloca_once_value(builder, emit.at(weights.data, weights_begin))
    with cgutils.for_range(builder, outer_offsets.size) as outer:
        row = emit.at(x.data, x_begin, builder.load(emit.at(outer_offsets.data, outer.index)))
        with cgutils.for_range(builder, inner_offsets.size) as inner:
            begin = emit.at(row, builder.load(emit.at(inner_offsets.data, inner.index)))
            _add_tap(emit, sums, begin, x_step, tap_weights)
    floor = emit.floor(relu)
    target = emit.at(out.data, out_begin)
    for v, row in enumerate(sums):
        finished = [emit.at_least(builder.load(place), floor) for place in row]
        used = builder.sub(filters_used, index(v * lanes))
        for p in range(0, pixels, lanes):
            left = pixels_used - p if isinstance(pixels_used, int) else builder.sub(pixels_used, index(p))
            _store_transposed(emit, finished[p : p + lanes], emit.at(target, p), filter_step, (used, left))
        target = emit.at(target, builder.mul(index(lanes), filter_step))


def _add_tap(
    emit: Vectors, sums: list[list[ir.Value]], begin: ir.Value, x_step: MaybeConstant, tap_weights: ir.Value
) -> None:
    """Emit the multiply-adds of one tap, and advance to the next tap's weights."""
    builder, size = emit.builder, len(sums) * emit.lanes
    weights = builder.load(tap_weights)
    if len(sums[0]) >= PREFETCH_PIXELS:
        for v in range(len(sums)):
            emit.prefetch(emit.at(weights, PREFETCH_TAPS * size + v * emit.lanes))
    loaded = [emit.load(emit.at(weights, v * emit.lanes)) for v in range(len(sums))]
    place = begin
    for p in range(len(sums[0])):
        pixel = emit.splat(builder.load(place))
        place = emit.at(begin, (p + 1) * x_step) if isinstance(x_step, int) else emit.at(place, x_step)
        for weight, row in zip(loaded, sums, strict=True):
            builder.store(emit.multiply_add(weight, pixel, builder.load(row[p])), row[p])
    builder.store(emit.at(weights, size), tap_weights)


def _store_transposed(
    emit: Vectors, pixels: list[ir.Value], target: ir.Value, filter_step: ir.Value, used: tuple[ir.Value, MaybeConstant]
) -> None:
    """Emit the stores of one vector of filters: lane f of pixel p to target + f * filter_step + p.

    `used` is (filters_used, pixels_used).
    """
    lanes, rows = emit.lanes, emit.transposed_rows(pixels)
    count = rows[0].type.count
    filters_used, pixels_used = used
    mask = ir.Constant(ir.VectorType(ir.IntType(1), count), [p < len(pixels) for p in range(count)])
    if not isinstance(pixels_used, int):
        mask = emit.builder.and_(mask, emit.lanes_below(pixels_used, count))
    targets = [emit.at(target, emit.builder.mul(index(f), filter_step)) for f in range(lanes)]
    with emit.builder.if_else(emit.builder.icmp_signed(">=", filters_used, index(lanes))) as (whole, part):
        with whole:
            for row, place in zip(rows, targets, strict=True):
                emit.store_lanes(row, place, mask)
        with part:
            for f, (row, place) in enumerate(zip(rows, targets, strict=True)):
                with emit.builder.if_then(emit.builder.icmp_signed("<", index(f), filters_used)):
                    emit.store_lanes(row, place, mask)
