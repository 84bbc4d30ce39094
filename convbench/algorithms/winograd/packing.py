"""Transform and pack the weights of minimal filtering on the host, by compiled code."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.winograd.nested import Axis
from convbench.integers import round_up
from convbench.kernels.channel_lanes import planes_to_lanes
from convbench.kernels.clock import STAGES
from convbench.kernels.fields import pack, splitter, unpacker
from convbench.kernels.tile import TileName, jit
from convbench.kernels.tile_transforms import weights_to_points
from convbench.problem import Problem


class Pieces(NamedTuple):
    """The pieces of scratch; sizes in elements, or views.

    Attributes:
        taps: The taps of a vector of filters, one after the other.
        padded: The same in whole blocks, shape (rows, columns, lanes); zero beyond the kernel.
    """

    taps: int
    padded: int


class Parameters(NamedTuple):
    """The parameters of the packing.

    Attributes:
        pieces: Sizes of the pieces of scratch.
        groups: Groups of channels and filters.
        blocks: Filter blocks of a group.
        y_blocks: Blocks of taps along the vertical axis.
        x_blocks: Blocks of taps along the horizontal axis.
    """

    pieces: Pieces
    groups: int
    blocks: int
    y_blocks: int
    x_blocks: int


unpack = unpacker(Parameters)
split = splitter(Pieces)


def make_packing(filters: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int) -> Any:
    """The packing for blocks of `filters` filters, as many as `lanes` at a time.

    It has the signature of a tile: `x` are the weights, `out` is not used, `workspace` is what is packed: shape
    (groups, filter blocks, points, channels, vertical blocks of taps, horizontal blocks of taps, filters of a block).
    """
    points = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)
    used = min(filters, lanes)

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a filter block of a group."""
        p, flat = unpack(parameters), x.reshape(x.size)
        pieces, group_filters, channels = split(scratch, p.pieces), x.shape[0] // p.groups, x.shape[1]
        kernel, columns = x.shape[2] * x.shape[3], p.x_blocks * x_taps
        step = channels * p.y_blocks * p.x_blocks * filters
        pieces.padded[:] = 0
        for unit in range(first, last):
            group, block = divmod(unit, p.blocks)
            for part in range(0, filters, lanes):
                number = min(block * filters + part, group_filters - 1)
                for channel in range(channels):
                    begin = ((group * group_filters + number) * channels + channel) * kernel
                    planes_to_lanes(lanes=lanes, source=flat, source_begin=begin, plane_step=channels * kernel, planes=group_filters - number, first=0, width=kernel, target=pieces.taps, target_begin=0, count=kernel)
                    for a in range(x.shape[2]):
                        for b in range(x.shape[3] * lanes):
                            pieces.padded[a * columns * lanes + b] = pieces.taps[a * x.shape[3] * lanes + b]
                    for y_block in range(p.y_blocks):
                        for x_block in range(p.x_blocks):
                            target = ((unit * points * channels + channel) * p.y_blocks + y_block) * p.x_blocks + x_block
                            weights_to_points(y_outputs=y_outputs, y_taps=y_taps, x_outputs=x_outputs, x_taps=x_taps, lanes=lanes, source=pieces.padded, source_begin=(y_block * y_taps * columns + x_block * x_taps) * lanes, row_step=columns * lanes, target=workspace, target_begin=target * filters + part, target_step=step, filters=used)

    return tile


def pack_weights(problem: Problem, weights: NDArray[Any], y: Axis, x: Axis, filters: int, blocks: int, lanes: int, target: NDArray[Any]) -> None:
    """Transform the weights to the points, by filter blocks, into the first elements of `target`, 1-D."""
    pieces = packing_pieces(problem, y, x, lanes)
    parameters = Parameters(pieces, problem.groups, blocks, y.blocks, x.blocks)
    tile = TileName(__name__, "make_packing", (filters, lanes, y.outputs, y.taps, x.outputs, x.taps)).load(problem.dtype)
    nothing = np.empty(0, problem.dtype)
    scratch = np.zeros(sum(pieces), problem.dtype)
    tile(weights, nothing, nothing.reshape(0, 0, 0, 0), pack(parameters), target, scratch, np.zeros(STAGES, np.int64), 0, problem.groups * blocks)


def packing_pieces(problem: Problem, y: Axis, x: Axis, lanes: int) -> Pieces:
    """The scratch of the packing."""
    taps = round_up(problem.kernel_height * problem.kernel_width, lanes) * lanes
    return Pieces(taps, y.blocks * y.taps * x.blocks * x.taps * lanes)
