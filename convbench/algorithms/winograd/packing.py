"""Transform and pack the weights of minimal filtering on the host, by compiled code.

A few channels of a block of filters are transformed at a time, so that what is written for each point is a long run:
points lie far apart, often by powers of two, and single vectors for all of them would fight for the same cache sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.winograd.nested import Axis
from convbench.integers import round_up
from convbench.kernels.blocking import empty_lines
from convbench.kernels.channel_lanes import planes_to_lanes
from convbench.kernels.clock import STAGES
from convbench.kernels.fields import Table, pack, splitter, unpacker
from convbench.kernels.output import put_or_stream
from convbench.kernels.tile import TileName, clear, copy, inlined, jit
from convbench.kernels.tile_transforms import weights_to_points
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import fence, instruction_set
from convbench.problem import ITEM_SIZE, Problem

CHANNELS: Final = 8  # channels that are transformed at a time


class Pieces(NamedTuple):
    """The pieces of scratch; sizes in elements, or views.

    Attributes:
        taps: The taps of some channels of a vector of filters, shape (channels, taps, lanes).
        padded: Those of a channel in whole blocks, shape (rows, columns, lanes); zero beyond the kernel.
        points: What they are at the points, shape (points, channels, blocks of taps, filters), padded by a vector.
    """

    taps: int
    padded: int
    points: int


class Parameters(NamedTuple):
    """The parameters of the packing.

    Attributes:
        pieces: Sizes of the pieces of scratch.
        groups: Groups of channels and filters.
        blocks: Filter blocks of a group.
        y_blocks: Blocks of taps along the vertical axis.
        x_blocks: Blocks of taps along the horizontal axis.
        streamed: Whether packed weights are written with non-temporal stores.
        order: Place of each block of taps among those of a channel.
        places: Place of each point among those of a filter block.
    """

    pieces: Pieces
    groups: int
    blocks: int
    y_blocks: int
    x_blocks: int
    streamed: int
    order: Table
    places: Table


unpack = unpacker(Parameters)
split = splitter(Pieces)


@inlined
def take(filters, lanes, p, unit, part, channels, weights, shape, taps):  # type: ignore[no-untyped-def]
    """Copy the taps of channels (first, count) of the filters from `part` on, with a filter in each lane."""
    group_filters, kernel = shape[0] // p.groups, shape[2] * shape[3]
    group, block = divmod(unit, p.blocks)
    number = min(block * filters + part, group_filters - 1)
    planes_to_lanes(
        lanes=lanes,
        source=weights,
        source_begin=((group * group_filters + number) * shape[1] + channels[0]) * kernel,
        plane_step=shape[1] * kernel,
        planes=group_filters - number,
        first=0,
        width=channels[1] * kernel,
        target=taps,
        target_begin=0,
        count=channels[1] * kernel,
    )


@inlined
def transform_channel(filters, lanes, y_outputs, y_taps, x_outputs, x_taps, p, shape, channel, part, pieces):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Transform the taps of a channel of a vector of filters, the block's from filter `part` on."""
    rows, row = shape[2], shape[3] * lanes
    is_whole = rows == p.y_blocks * y_taps and shape[3] == p.x_blocks * x_taps
    columns = p.x_blocks * x_taps * lanes
    if not is_whole:
        for a in range(rows):
            copy(pieces.taps[(channel * rows + a) * row :], pieces.padded[a * columns : a * columns + row])
    source = pieces.taps if is_whole else pieces.padded
    begin = channel * rows * row if is_whole else 0
    for y_block in range(p.y_blocks):
        for x_block in range(p.x_blocks):
            target = channel * p.order.size + p.order[y_block * p.x_blocks + x_block]
            weights_to_points(
                y_outputs=y_outputs,
                y_taps=y_taps,
                x_outputs=x_outputs,
                x_taps=x_taps,
                lanes=lanes,
                source=source,
                source_begin=begin + y_block * y_taps * columns + x_block * x_taps * lanes,
                row_step=columns,
                target=pieces.points,
                target_begin=target * filters + part,
                target_step=CHANNELS * p.y_blocks * p.x_blocks * filters,
                filters=filters,
            )


def make_packing(filters: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int) -> Any:
    """The packing for blocks of `filters` filters, as many as `lanes` at a time.

    It has the signature of a tile: `x` are the weights, `out` is not used, `workspace` is what is packed: shape
    (groups, filter blocks, points, channels, vertical blocks of taps, horizontal blocks of taps, filters of a block).
    """
    points = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a filter block of a group."""
        p, flat = unpack(parameters), x.reshape(x.size)
        pieces, channels = split(scratch, p.pieces), x.shape[1]
        each = p.y_blocks * p.x_blocks * filters  # numbers of a channel at a point
        clear(pieces.padded)
        for unit in range(first, last):
            for channel in range(0, channels, CHANNELS):
                count = min(CHANNELS, channels - channel)
                for part in range(0, filters, lanes):
                    take(filters, lanes, p, unit, part, (channel, count), flat, x.shape, pieces.taps)
                    for own in range(count):
                        transform_channel(
                            filters, lanes, y_outputs, y_taps, x_outputs, x_taps, p, x.shape, own, part, pieces
                        )
                for point in range(points):
                    target = ((unit * points + p.places[point]) * channels + channel) * each
                    source = point * CHANNELS * each
                    put_or_stream(lanes, p.streamed, pieces.points, source, workspace, target, count * each)
        if p.streamed:
            fence()

    return tile


def pack_weights(
    problem: Problem,
    weights: NDArray[Any],
    axes: tuple[Axis, Axis],
    filters: int,
    blocks: int,
    target: NDArray[Any],
    order: Sequence[int] = (),
    *,
    by_columns: bool = False,
) -> None:
    """Transform the weights to the points, by filter blocks.

    Args:
        problem: The problem that the weights belong to.
        weights: Shape `problem.weights_shape`.
        axes: The cuts of the vertical and the horizontal axis.
        filters: Filters of a filter block.
        blocks: Filter blocks of a group.
        target: 1-D; its first elements receive shape (groups, filter blocks, vertical points, horizontal points,
            channels, vertical blocks of taps, horizontal blocks of taps, filters of a block). What is more in the last
            block of a group is finite numbers without meaning.
        order: Place of each block of taps among those of a channel; default: (vertical, horizontal).
        by_columns: Whether the points are (horizontal, vertical) instead.
    """
    y, x = axes
    lanes = _lanes(problem, filters)
    pieces = _pieces(problem, axes, filters)
    is_large = target.nbytes >= tuning().stream_bytes
    taps = np.array(order or range(y.blocks * x.blocks), np.int64)
    points = np.arange(y.points * x.points)
    if by_columns:
        points = points % x.points * y.points + points // x.points
    parameters = Parameters(pieces, problem.groups, blocks, y.blocks, x.blocks, is_large, taps, points)
    tile = TileName(__name__, "make_packing", (filters, lanes, y.outputs, y.taps, x.outputs, x.taps)).load(
        problem.dtype
    )
    nothing, scratch = np.empty(0, problem.dtype), empty_lines(sum(pieces), weights.dtype)
    out, clock = nothing.reshape(0, 0, 0, 0), np.zeros(STAGES, np.int64)
    tile(weights, nothing, out, pack(parameters), target, scratch, clock, 0, problem.groups * blocks)


def packing_bytes(problem: Problem, axes: tuple[Axis, Axis], filters: int) -> int:
    """Memory of the packing in addition to what is packed."""
    return sum(_pieces(problem, axes, filters)) * ITEM_SIZE[problem.dtype]


def _lanes(problem: Problem, filters: int) -> int:
    """Filters that are transformed at a time: the least power of two that holds a block, or a divisor of the block."""
    lanes = instruction_set().lanes(problem.dtype)
    return 1 << (filters - 1).bit_length() if filters <= lanes else math.gcd(filters, lanes)


def _pieces(problem: Problem, axes: tuple[Axis, Axis], filters: int) -> Pieces:
    """The scratch of the packing."""
    y, x = axes
    lanes, taps = _lanes(problem, filters), problem.kernel_height * problem.kernel_width
    return Pieces(
        taps=round_up(CHANNELS * taps, lanes) * lanes,
        padded=y.blocks * y.taps * x.blocks * x.taps * lanes,
        points=y.points * x.points * CHANNELS * y.blocks * x.blocks * filters + lanes,
    )
