"""Direct convolution on the host for kernels of one tap without stride and padding: a matrix product.

The input is read as it lies: the rows of an image are one long row, and vectors hold its pixels. Nothing is copied.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS, UNITS, columns_of_unit, pack_weights, packed_size
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import Table, pack, unpacker
from convbench.kernels.grid import Grid, locate
from convbench.kernels.micro_kernel import block_cycles, micro_kernel
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("product and store",)
UNIT_CYCLES: Final = 8000  # a unit of fewer is not split
NEAR: Final = 3 * 2**13  # bytes of pixels that stay in the first-level cache beside weights and outputs
MOST_PIECES: Final = 8  # register blocks of pixels for the same filters in a row: more gain nothing


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units.
        channels: Channels of a group.
        pixels: Pixels of an image.
        columns: Pixels of a unit.
        pieces: Register blocks of pixels that a register block of filters is computed for before the next.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
        no_offset: A table of one zero.
        channel: Offsets of the channels.
    """

    grid: Grid
    channels: int
    pixels: int
    columns: int
    pieces: int
    blocks: int
    unit_blocks: int
    biases: int
    relu: int
    no_offset: Table
    channel: Table


unpack = unpacker(Parameters)


@inlined
def columns_of_blocks(filters, vectors, lanes, p, place, pieces, x, x_channels, weights, out, out_channels):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute the register blocks of a unit's filters for its pieces [first, last) of `vectors * lanes` pixels."""
    group_filters, width = out_channels // p.grid.groups, vectors * lanes
    first_channel = place.image * x_channels + place.group * p.channels
    first_block, begin = place.filter_block * p.unit_blocks, place.segment * p.columns
    last_pixel = begin + min(p.columns, p.pixels - begin) - width  # the last block computes some pixels again
    for block in range(first_block, min(p.blocks, first_block + p.unit_blocks)):
        group_block = place.group * p.blocks + block
        plane = (place.image * p.grid.groups + place.group) * group_filters + block * filters
        for piece in range(pieces[0], pieces[1]):
            pixel = min(begin + piece * width, last_pixel)
            micro_kernel(
                filters=filters,
                vectors=vectors,
                lanes=lanes,
                x=x,
                x_begin=first_channel * p.pixels + pixel,
                x_step=lanes,
                prefetch=0,
                outer_offsets=p.no_offset,
                inner_offsets=p.channel,
                weights=weights,
                weights_begin=group_block * p.channels * filters,
                bias_begin=p.biases + group_block * filters,
                out=out,
                out_begin=plane * p.pixels + pixel,
                filter_step=p.pixels,
                vector_step=lanes,
                filters_used=group_filters - block * filters,
                vectors_used=vectors,
                lanes_used=width,
                lane_step=lanes,
                relu=p.relu,
            )


def make_tile(filters: int, vectors: int, lanes: int) -> Any:
    """The tile for a register block of `filters` x `vectors`, with `lanes` pixels in a vector."""
    width = vectors * lanes

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is `unit_blocks` register blocks of filters for some pixels of one group of one image."""
        p, flat, given = unpack(parameters), out.reshape(out.size), x.reshape(x.size)
        since = ticks()
        for unit in range(first, last):
            place = locate(p.grid, unit)
            count = (min(p.columns, p.pixels - place.segment * p.columns) + width - 1) // width
            for first_piece in range(0, count, p.pieces):
                pieces = (first_piece, min(count, first_piece + p.pieces))
                columns_of_blocks(
                    filters, vectors, lanes, p, place, pieces, given, x.shape[1], weights, flat, out.shape[1]
                )
        lap(clock, 0, since)

    return tile


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        filters: Filters of a register block.
        vectors: Vectors of pixels of a register block.
        lanes: Pixels of a vector.
        cycles: Estimated cycles of a call; infinite where this way does not suit a problem.
        columns: See `Parameters`.
        pieces: See `Parameters`.
        blocks: See `Parameters`.
        unit_blocks: See `Parameters`.
    """

    filters: int
    vectors: int
    lanes: int
    cycles: float
    columns: int
    pieces: int
    blocks: int
    unit_blocks: int

    def grid(self, problem: Problem) -> Grid:
        """The grid of units."""
        return Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=1,
            segments=ceil_div(problem.output_height * problem.output_width, self.columns),
            filter_blocks=ceil_div(self.blocks, self.unit_blocks),
        )


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    lanes, pixels = instruction_set().lanes(problem.dtype), problem.output_height * problem.output_width

    def cycles(block: tuple[int, int]) -> float:
        across, down = ceil_div(pixels, block[1] * lanes), ceil_div(problem.group_filters, block[0])
        if pixels < block[1] * lanes or not _suits(problem):
            return math.inf
        of_tap = block[1] * lanes * ITEM_SIZE[problem.dtype]
        far_bytes = of_tap if problem.taps * of_tap > NEAR and down > 1 else 0
        return across * down * block_cycles(*block, problem.taps, far_bytes)

    filters, vectors = min(tuning().register_blocks, key=cycles)
    width, blocks, images = vectors * lanes, ceil_div(problem.group_filters, filters), problem.batch * problem.groups
    estimate = cycles((filters, vectors))
    parts = min(ceil_div(UNITS, images), int(min(estimate, problem.multiply_adds) / UNIT_CYCLES) + 1)
    columns = columns_of_unit(pixels, width, parts)  # no block may reach into another unit
    return Blocking(
        filters=filters,
        vectors=vectors,
        lanes=lanes,
        cycles=images * estimate,
        columns=columns,
        pieces=max(1, min(MOST_PIECES, NEAR // (problem.taps * width * ITEM_SIZE[problem.dtype]))),
        blocks=blocks,
        unit_blocks=ceil_div(blocks, min(blocks, ceil_div(parts, ceil_div(pixels, columns)))),
    )


def _suits(problem: Problem) -> bool:
    """Whether filters have one tap for each channel, and pixels are where outputs are."""
    is_dense = problem.stride == (1, 1) and not any(itertools.chain(*problem.padding))
    return is_dense and problem.taps == problem.group_channels


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights for the micro-kernel, followed by the biases; the blocking becomes the tile's parameters."""
    cut = blocking(problem)
    pixels, grid = problem.height * problem.width, cut.grid(problem)
    parameters = Parameters(
        grid=grid,
        channels=problem.group_channels,
        pixels=pixels,
        columns=cut.columns,
        pieces=cut.pieces,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        biases=problem.groups * cut.blocks * cut.filters * problem.taps,
        relu=epilogue.relu,
        no_offset=np.zeros(1, np.int64),
        channel=np.arange(problem.group_channels) * pixels,
    )
    tile = TileName(__name__, "make_tile", (cut.filters, cut.vectors, cut.lanes))
    return Work(
        phases=(Phase(tile, grid.units, pack(parameters), STAGES),),
        weights=pack_weights(problem, weights, cut.filters, epilogue),
        errors=of_sums(problem),
        variant={
            "register block": f"{cut.filters} x {cut.vectors} x {cut.lanes}",
            "source": "input",
            "units": grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """The packed weights."""
    return Footprint(0, packed_size(problem, blocking(problem).filters) * ITEM_SIZE[problem.dtype])
