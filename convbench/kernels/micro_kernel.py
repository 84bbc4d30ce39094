"""The micro-kernel: a block of sums in registers, to which each tap adds the products of weights and inputs.

    sums[k, v] = bias[k] + sum over taps t of weights[t, k] * x[offset of t + v * x_step ...]

where k runs over a few filters and v over a few vectors of output pixels. Several algorithms use it: for `direct`, the
taps are shifts of the input; for a matrix product, they are the inner index.

The register block determines the speed (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication",
2008; Van Zee and van de Geijn, "BLIS", 2015). A tap costs `filters * vectors` multiply-adds and `filters + vectors`
loads. The sums, the vectors and a weight must fit the registers, and there must be enough sums to hide the latency of a
multiply-add.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.tuning import tuning
from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, MaybeConstant, vector_code

LOOP: Final = 2  # loop overhead of a tap, in multiply-adds
TAP: Final = 0.5  # overhead of a tap, in cycles
BLOCK: Final = 20  # overhead of a block, in cycles
FAR_RATE: Final = 22  # bytes that the second-level cache delivers in a cycle, of rows that begin anywhere in a line
PREFETCH_TAPS: Final = 16  # prefetch distance of the weights, in taps


def best_block(
    filters: int, rows: int, columns: int, lanes: int, *, stack: bool = False, fetch: bool = False
) -> tuple[int, int, int]:
    """The register block of least estimated cost for an output of given filters, rows and columns.

    The cost of a tap is the larger of its multiply-adds and its loads, since processors execute two of each in a cycle;
    an unaligned vector counts as two loads.

    Args:
        filters: Number of filters.
        rows: Output rows.
        columns: Output columns.
        lanes: Elements of a vector.
        stack: Whether a block at the right edge may place its vectors below each other, one in each row.
        fetch: Whether every block reads input that is not in the first-level cache; narrow blocks then fetch less.

    Returns:
        (filters, vectors, edge) for the processor that Numba compiles for: the vectors of a block lie side by side left
        of column `edge`, and below each other from there on. Ties go to the first entry of the table.
    """

    def cost(candidate: tuple[int, int, int]) -> float:
        block_filters, vectors, edge = candidate
        blocks = math.ceil(edge / (vectors * lanes)) * rows
        blocks += math.ceil((columns - edge) / lanes) * math.ceil(rows / vectors)
        tap = max(block_filters * vectors, block_filters + 2 * vectors) + LOOP
        return math.ceil(filters / block_filters) * blocks * (tap + 2 * vectors if fetch else tap)

    candidates = []
    blocks = tuning().far_blocks if fetch else ()
    for block_filters, vectors in blocks or tuning().register_blocks:
        width = vectors * lanes
        edges = {columns, columns // width * width} if stack else {columns}
        candidates += [(block_filters, vectors, edge) for edge in sorted(edges, reverse=True)]
    return min(candidates, key=cost)


def block_cycles(filters: int, vectors: int, taps: int, far_bytes: int = 0) -> float:
    """Estimated cycles of a register block, of a processor that executes two loads or a store in a cycle.

    Where two multiply-adds begin in a cycle, loads can take longer than they; an unaligned vector counts as two. So can
    the `far_bytes` of pixels of a tap, which the second-level cache delivers.
    """
    rate = tuning().multiply_adds
    tap = filters * vectors if rate == 1 else max(filters * vectors / rate, (filters + 2 * vectors) / 2)
    return taps * (max(tap, far_bytes / FAR_RATE) + TAP) + 2 * filters * vectors + BLOCK


@vector_code
def micro_kernel(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    filters: Constant,
    vectors: Constant,
    lanes: Constant,
    x: Array,
    x_begin: ir.Value,
    x_step: ir.Value,
    prefetch: MaybeConstant,
    outer_offsets: Array,
    inner_offsets: Array,
    weights: Array,
    weights_begin: ir.Value,
    bias_begin: ir.Value,
    out: Array,
    out_begin: ir.Value,
    filter_step: ir.Value,
    vector_step: ir.Value,
    filters_used: ir.Value,
    vectors_used: ir.Value,
    lanes_used: ir.Value,
    lane_step: ir.Value,
    relu: ir.Value,
) -> None:
    """Compute one register block and write it.

    Args:
        emit: Emits the code.
        filters: Filters in the block.
        vectors: Vectors of pixels in the block.
        lanes: Pixels in a vector.
        x: Input.
        x_begin: Index in `x` that the first pixel of the first vector reads at offset 0.
        x_step: Elements from one vector of the block to the next, in `x`.
        prefetch: Prefetch distance in elements of `x`; the constant 0 disables it. Otherwise `out` is taken to be
            scratch, whose lines need not be asked for.
        outer_offsets: int64; tap (o, i) reads at offset `outer_offsets[o] + inner_offsets[i]`.
        inner_offsets: int64, see `outer_offsets`.
        weights: Weights, `filters` consecutive numbers for each tap, and biases.
        weights_begin: Index in `weights` of the first tap's first number.
        bias_begin: Index in `weights` of the first filter's bias, the initial value of its sums.
        out: Output.
        out_begin: Index in `out` of the first filter's first pixel.
        filter_step: Elements from one filter to the next, in `out`.
        vector_step: Elements from one vector to the next, in `out`.
        filters_used: Filters with index < filters_used are stored.
        vectors_used: Vectors with index < vectors_used are stored.
        lanes_used: Lanes of vector v with index < lanes_used - v * lane_step are stored.
        lane_step: `lanes` if vectors lie side by side in a row, 0 if they lie below each other.
        relu: Whether negative sums become zero before they are stored.
    """
    builder = emit.builder
    sums = _initial_sums(emit, emit.at(weights.data, bias_begin), filters, vectors)
    tap_weights = cgutils.alloca_once_value(builder, emit.at(weights.data, weights_begin))
    steps = [builder.mul(index(v), x_step) for v in range(vectors)]
    first, out_steps = emit.at(out.data, out_begin), (filter_step, vector_step)
    if tuning().fetches_output and isinstance(prefetch, int):  # otherwise the output is scratch
        for target in itertools.chain(*_targets(emit, first, (filters, vectors), out_steps)):
            emit.prefetch(target, writes=True)
    with cgutils.for_range(builder, outer_offsets.size) as outer:
        row = emit.at(x.data, x_begin, builder.load(emit.at(outer_offsets.data, outer.index)))
        with cgutils.for_range(builder, inner_offsets.size) as inner:
            begin = emit.at(row, builder.load(emit.at(inner_offsets.data, inner.index)))
            _add_tap(emit, sums, [emit.at(begin, step) for step in steps], prefetch, tap_weights)
    with builder.if_then(builder.icmp_signed("!=", relu, index(0))):
        for place in itertools.chain(*sums):
            builder.store(emit.at_least(builder.load(place), emit.constant(0.0)), place)
    targets = _targets(emit, first, (filters, vectors), out_steps)
    everything = builder.and_(
        builder.and_(
            builder.icmp_signed(">=", filters_used, index(filters)),
            builder.icmp_signed(">=", vectors_used, index(vectors)),
        ),
        builder.icmp_signed(">=", lanes_used, builder.add(builder.mul(index(vectors - 1), lane_step), index(lanes))),
    )
    with builder.if_else(everything) as (whole, part):
        with whole:
            for place, target in zip(itertools.chain(*sums), itertools.chain(*targets), strict=True):
                emit.store(builder.load(place), target)
        with part:
            _write_part(emit, sums, targets, (filters_used, vectors_used, lanes_used), lane_step)


Sums = list[list[ir.Value]]
"""Addresses of a block's vectors, [filter][vector]; LLVM promotes the sums to registers."""


def _initial_sums(emit: Vectors, biases: ir.Value, filters: int, vectors: int) -> Sums:
    """Emit the sums, initialised with the biases."""
    sums = []
    for k in range(filters):
        bias = emit.splat(emit.builder.load(emit.at(biases, k)))
        sums.append([cgutils.alloca_once_value(emit.builder, bias) for _ in range(vectors)])
    return sums


def _add_tap(emit: Vectors, sums: Sums, pixels: list[ir.Value], prefetch: MaybeConstant, tap_weights: ir.Value) -> None:
    """Emit the multiply-adds of one tap, and advance to the next tap's weights.

    Args:
        emit: Emits the code.
        sums: Sums of the block.
        pixels: Addresses of the vectors that the tap reads.
        prefetch: Prefetch distance in elements of `x`; the constant 0 disables it.
        tap_weights: Stack slot that holds the address of the tap's weights.
    """
    builder = emit.builder
    loaded = [emit.load(address) for address in pixels]
    if not isinstance(prefetch, int):
        for address in pixels:
            emit.prefetch(emit.at(address, prefetch))
    weights = builder.load(tap_weights)
    emit.prefetch(emit.at(weights, PREFETCH_TAPS * len(sums)))
    for k, row in enumerate(sums):
        weight = emit.splat(builder.load(emit.at(weights, k)))
        for place, pixel in zip(row, loaded, strict=True):
            builder.store(emit.multiply_add(weight, pixel, builder.load(place)), place)
    builder.store(emit.at(weights, len(sums)), tap_weights)


def _targets(emit: Vectors, out: ir.Value, size: tuple[int, int], steps: tuple[ir.Value, ir.Value]) -> Sums:
    """Emit the addresses to which a block of `size` (filters, vectors) is stored."""
    builder, (filter_step, vector_step) = emit.builder, steps
    return [
        [
            emit.at(out, builder.add(builder.mul(index(k), filter_step), builder.mul(index(v), vector_step)))
            for v in range(size[1])
        ]
        for k in range(size[0])
    ]


def _write_part(
    emit: Vectors, sums: Sums, targets: Sums, used: tuple[ir.Value, ir.Value, ir.Value], lane_step: ir.Value
) -> None:
    """Emit the stores of a partial block; `used` is (filters_used, vectors_used, lanes_used)."""
    builder, (filters, vectors, lanes) = emit.builder, used
    steps = [builder.mul(index(v), lane_step) for v in range(len(sums[0]))]
    masks = [emit.lanes_below(builder.sub(lanes, step)) for step in steps]
    for k, (row, row_targets) in enumerate(zip(sums, targets, strict=True)):
        for v, (place, target) in enumerate(zip(row, row_targets, strict=True)):
            written = builder.and_(
                builder.icmp_signed("<", index(k), filters), builder.icmp_signed("<", index(v), vectors)
            )
            with builder.if_then(written):
                emit.store_lanes(builder.load(place), target, masks[v])
