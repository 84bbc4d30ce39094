"""The micro-kernel with filters in the lanes of vectors: for maps of few columns, which fill vectors of pixels badly.

    sums[v, p] = bias[v] + sum over taps t of weights[t, v] * x[offset of t + p * x_step]

where v runs over a few vectors of filters and p over a few pixels of a row. A tap costs `vectors * pixels`
multiply-adds, `vectors` loads and `pixels` broadcasts. The output is stored by channel: the sums are transposed in
registers, so that each filter's pixels lie side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Final

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.tuning import tuning
from convbench.kernels.vector import Vectors, index, instruction_set
from convbench.kernels.vector_code import Array, Constant, MaybeConstant, vector_code

PREFETCH_TAPS: Final = 8  # prefetch distance of the weights, in taps ...
PREFETCH_PIXELS: Final = 5  # ... of blocks of so many pixels: with fewer, the hardware streams the weights faster alone
STREAMS: Final = 4  # parts of the taps that such blocks read at once, at most: the hardware streams several faster ...
MIN_STREAMED: Final = 256  # ... of so many taps, at least: those of fewer follow one another soon


def streams(vectors: int, pixels: int, *, any_step: bool = False) -> int:
    """Parts of the taps that a block adds at once, each to sums of its own; `any_step` takes the register for more."""
    if pixels >= PREFETCH_PIXELS or (any_step and pixels > 1):
        return 1
    return max(1, min(STREAMS, (tuning().registers - vectors - 1) // (vectors * pixels)))


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
    sums = _initial_sums(emit, (vectors, pixels), emit.at(weights.data, bias_begin))
    offsets = (outer_offsets, inner_offsets)
    _add_taps(emit, sums, emit.at(x.data, x_begin), x_step, offsets, emit.at(weights.data, weights_begin))
    _finish(emit, sums, emit.at(out.data, out_begin), filter_step, (filters_used, pixels_used), relu)


@vector_code
def filter_lanes_in_parts(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    vectors: Constant,
    pixels: Constant,
    lanes: Constant,
    x: Array,
    x_begin: ir.Value,
    x_step: MaybeConstant,
    offsets: Array,
    weights: Array,
    weights_begin: ir.Value,
    bias_begin: ir.Value,
    sums: Array,
    sums_begin: ir.Value,
    is_first: ir.Value,
    is_last: ir.Value,
    out: Array,
    out_begin: ir.Value,
    filter_step: ir.Value,
    filters_used: ir.Value,
    relu: ir.Value,
) -> None:
    """Add some of the taps of one register block, and write it after the last ones.

    Args:
        emit: Emits the code.
        vectors: See `filter_lanes`.
        pixels: See `filter_lanes`; all are stored.
        lanes: See `filter_lanes`.
        x: See `filter_lanes`.
        x_begin: See `filter_lanes`.
        x_step: See `filter_lanes`.
        offsets: int64; the offset of each of these taps.
        weights: See `filter_lanes`.
        weights_begin: See `filter_lanes`; of these taps.
        bias_begin: See `filter_lanes`.
        sums: Where sums stay from one part of the taps to the next: `vectors * pixels * lanes` numbers.
        sums_begin: Index in `sums` of the first number.
        is_first: Whether these taps are the first: sums begin with the biases, not with what is in `sums`.
        is_last: Whether they are the last: sums are stored to the output, not to `sums`.
        out: See `filter_lanes`.
        out_begin: See `filter_lanes`.
        filter_step: See `filter_lanes`.
        filters_used: See `filter_lanes`.
        relu: See `filter_lanes`.
    """
    builder, kept = emit.builder, emit.at(sums.data, sums_begin)
    places = _initial_sums(emit, (vectors, pixels), emit.at(weights.data, bias_begin))
    numbered = list(enumerate(itertools.chain(*places)))
    with builder.if_then(builder.icmp_signed("==", is_first, index(0))):
        for number, place in numbered:
            builder.store(emit.load(emit.at(kept, number * lanes)), place)
    own = emit.at(weights.data, weights_begin)
    _add_taps(emit, places, emit.at(x.data, x_begin), x_step, (None, offsets), own)
    with builder.if_else(builder.icmp_signed("!=", is_last, index(0))) as (whole, part):
        with whole:
            _finish(emit, places, emit.at(out.data, out_begin), filter_step, (filters_used, pixels), relu)
        with part:
            for number, place in numbered:
                emit.store(builder.load(place), emit.at(kept, number * lanes))


Sums = list[list[ir.Value]]
"""Addresses of a block's vectors, [vector][pixel]; LLVM promotes the sums to registers."""


def _initial_sums(emit: Vectors, size: tuple[int, int], biases: ir.Value) -> Sums:
    """Emit the sums of a block of `size` (vectors, pixels), initialised with the biases."""
    sums = []
    for v in range(size[0]):
        bias = emit.load(emit.at(biases, v * emit.lanes))
        sums.append([cgutils.alloca_once_value(emit.builder, bias) for _ in range(size[1])])
    return sums


def _add_taps(
    emit: Vectors,
    sums: Sums,
    first: ir.Value,
    x_step: MaybeConstant,
    offsets: tuple[Array | None, Array],
    weights: ir.Value,
) -> None:
    """Emit the multiply-adds of the taps at `offsets` (outer, inner) from the first pixel.

    Without outer offsets no loop has a loop inside: kernels of few columns spend less on loops.
    """
    builder, (outer_offsets, inner_offsets) = emit.builder, offsets
    own = cgutils.alloca_once_value(builder, weights)

    def add(begin: ir.Value, tap: ir.Value, places: Sums, tap_weights: ir.Value) -> None:
        place = emit.at(begin, builder.load(emit.at(inner_offsets.data, tap)))
        _add_tap(emit, places, place, x_step, tap_weights, fetches=outer_offsets is not None)

    count = streams(len(sums), len(sums[0]), any_step=not isinstance(x_step, int))
    if outer_offsets is None:
        done = _add_streams(emit, sums, inner_offsets.size, count, own, partial(add, first))
        with cgutils.for_range_slice(builder, done, inner_offsets.size, index(1)) as (tap, _):
            add(first, tap, sums, own)
        return

    def add_row(row: ir.Value, places: Sums, tap_weights: ir.Value) -> None:
        begin = emit.at(first, builder.load(emit.at(outer_offsets.data, row)))
        with cgutils.for_range(builder, inner_offsets.size) as inner:
            add(begin, inner.index, places, tap_weights)

    done = _add_streams(emit, sums, outer_offsets.size, count, own, add_row, inner_offsets.size)
    with cgutils.for_range_slice(builder, done, outer_offsets.size, index(1)) as (row, _):
        add_row(row, sums, own)


def _add_streams(
    emit: Vectors,
    sums: Sums,
    rows: ir.Value,
    count: int,
    own: ir.Value,
    add: Callable[[ir.Value, Sums, ir.Value], None],
    taps: ir.Value | None = None,
) -> ir.Value:
    """Emit the first rows of taps, of `taps` each, in `count` parts at once; how many of them that are is returned.

    `add` emits a row. `own` is the address of the next row's weights, which are then those of what is left.
    """
    builder = emit.builder
    if count == 1:
        return index(0)
    taps = index(1) if taps is None else taps
    is_long = builder.icmp_signed(">=", builder.mul(rows, taps), index(MIN_STREAMED))
    each = builder.select(is_long, builder.sdiv(rows, index(count)), index(0))
    step = builder.mul(each, builder.mul(taps, index(len(sums) * emit.lanes)))
    parts, at = [(sums, own)], builder.load(own)
    for _ in range(count - 1):
        at = emit.at(at, step)
        zeros = [[cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in row] for row in sums]
        parts.append((zeros, cgutils.alloca_once_value(builder, at)))
    with cgutils.for_range(builder, each) as loop:
        for number, (places, tap_weights) in enumerate(parts):
            add(builder.add(loop.index, builder.mul(index(number), each)), places, tap_weights)
    for places, _ in parts[1:]:
        for place, other in zip(itertools.chain(*sums), itertools.chain(*places), strict=True):
            builder.store(builder.fadd(builder.load(place), builder.load(other)), place)
    builder.store(builder.load(parts[-1][1]), own)
    return builder.mul(each, index(count))


def _finish(
    emit: Vectors,
    sums: Sums,
    target: ir.Value,
    filter_step: ir.Value,
    used: tuple[ir.Value, MaybeConstant],
    relu: ir.Value,
) -> None:
    """Emit the stores of a block; `used` is (filters_used, pixels_used)."""
    builder, lanes, (filters_used, pixels_used) = emit.builder, emit.lanes, used
    floor = emit.floor(relu)
    for v, row in enumerate(sums):
        finished = [emit.at_least(builder.load(place), floor) for place in row]
        left_filters = builder.sub(filters_used, index(v * lanes))
        for p in range(0, len(row), lanes):
            left = pixels_used - p if isinstance(pixels_used, int) else builder.sub(pixels_used, index(p))
            _store_transposed(emit, finished[p : p + lanes], emit.at(target, p), filter_step, (left_filters, left))
        target = emit.at(target, builder.mul(index(lanes), filter_step))


def _add_tap(
    emit: Vectors, sums: Sums, begin: ir.Value, x_step: MaybeConstant, tap_weights: ir.Value, *, fetches: bool
) -> None:
    """Emit the multiply-adds of one tap, and advance to the next tap's weights; `fetches` prefetches them."""
    builder, size = emit.builder, len(sums) * emit.lanes
    weights = builder.load(tap_weights)
    if fetches and len(sums[0]) >= PREFETCH_PIXELS:
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

    def store(row: ir.Value, place: ir.Value) -> None:
        if isinstance(pixels_used, int) and not instruction_set().has_masks:
            emit.store_first(row, place, min(len(pixels), pixels_used))
        else:
            emit.store_lanes(row, place, mask)

    with emit.builder.if_else(emit.builder.icmp_signed(">=", filters_used, index(lanes))) as (whole, part):
        with whole:
            for row, place in zip(rows, targets, strict=True):
                store(row, place)
        with part:
            for f, (row, place) in enumerate(zip(rows, targets, strict=True)):
                with emit.builder.if_then(emit.builder.icmp_signed("<", index(f), filters_used)):
                    store(row, place)
