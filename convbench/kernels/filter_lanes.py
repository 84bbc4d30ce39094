"""The micro-kernel with filters in the lanes of vectors: for maps of few columns, which fill vectors of pixels badly.

    sums[v, p] = bias[v] + sum over taps t of weights[t, v] * x[offset of t + p]

where v runs over a few vectors of filters and p over a few adjacent pixels of a row. A tap costs `vectors * pixels`
multiply-adds, `vectors` loads and `pixels` broadcasts. The output is stored by channel: the sums are transposed in
registers, so that each filter's pixels lie side by side.
"""

from __future__ import annotations

from typing import Final

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_code

PREFETCH_TAPS: Final = 8  # prefetch distance of the weights, in taps


@vector_code
def filter_lanes(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    vectors: Constant,
    pixels: Constant,
    lanes: Constant,
    x: Array,
    x_begin: ir.Value,
    outer_offsets: Array,
    inner_offsets: Array,
    weights: Array,
    weights_begin: ir.Value,
    bias_begin: ir.Value,
    out: Array,
    out_begin: ir.Value,
    filter_step: ir.Value,
    filters_used: ir.Value,
    relu: ir.Value,
) -> None:
    """Compute one register block and write it.

    Args:
        emit: Emits the code.
        vectors: Vectors of filters in the block.
        pixels: Pixels in the block, at most `lanes`.
        lanes: Filters in a vector.
        x: Input.
        x_begin: Index in `x` that the first pixel reads at offset 0.
        outer_offsets: int64; tap (o, i) reads at offset `outer_offsets[o] + inner_offsets[i]`.
        inner_offsets: int64, see `outer_offsets`.
        weights: Weights, `vectors * lanes` consecutive numbers for each tap, and biases.
        weights_begin: Index in `weights` of the first tap's first number.
        bias_begin: Index in `weights` of the first filter's bias, the initial value of its sums.
        out: Output.
        out_begin: Index in `out` of the first filter's first pixel.
        filter_step: Elements from one filter to the next, in `out`.
        filters_used: Filters with index < filters_used are stored.
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
            _add_tap(emit, sums, begin, tap_weights)
    floor = emit.floor(relu)
    target = emit.at(out.data, out_begin)
    for v, row in enumerate(sums):
        finished = [emit.at_least(builder.load(place), floor) for place in row]
        _store_transposed(emit, finished, target, filter_step, builder.sub(filters_used, index(v * lanes)))
        target = emit.at(target, builder.mul(index(lanes), filter_step))


def _add_tap(emit: Vectors, sums: list[list[ir.Value]], begin: ir.Value, tap_weights: ir.Value) -> None:
    """Emit the multiply-adds of one tap, and advance to the next tap's weights."""
    builder, size = emit.builder, len(sums) * emit.lanes
    weights = builder.load(tap_weights)
    for v in range(len(sums)):
        emit.prefetch(emit.at(weights, PREFETCH_TAPS * size + v * emit.lanes))
    loaded = [emit.load(emit.at(weights, v * emit.lanes)) for v in range(len(sums))]
    for p in range(len(sums[0])):
        pixel = emit.splat(builder.load(emit.at(begin, p)))
        for weight, row in zip(loaded, sums, strict=True):
            builder.store(emit.multiply_add(weight, pixel, builder.load(row[p])), row[p])
    builder.store(emit.at(weights, size), tap_weights)


def _store_transposed(
    emit: Vectors, pixels: list[ir.Value], target: ir.Value, filter_step: ir.Value, filters_used: ir.Value
) -> None:
    """Emit the stores of one vector of filters: lane f of pixel p to target + f * filter_step + p."""
    builder, lanes = emit.builder, emit.lanes
    rows = emit.transposed_rows(pixels)
    mask = ir.Constant(ir.VectorType(ir.IntType(1), rows[0].type.count), [p < len(pixels) for p in range(rows[0].type.count)])
    everything = builder.icmp_signed(">=", filters_used, index(lanes))
    targets = [emit.at(target, builder.mul(index(f), filter_step)) for f in range(lanes)]
    with builder.if_else(everything) as (whole, part):
        with whole:
            for f in range(lanes):
                emit.store_lanes(rows[f], targets[f], mask)
        with part:
            for f in range(lanes):
                with builder.if_then(builder.icmp_signed("<", index(f), filters_used)):
                    emit.store_lanes(rows[f], targets[f], mask)
