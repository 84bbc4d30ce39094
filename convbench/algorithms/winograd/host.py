"""Winograd convolution on the host: tiles of outputs from fewer multiplications.

A kernel that is larger than a tile's taps is cut into blocks. The tile's input is transformed for each block and
channel, multiplied point by point with the transformed weights, summed over blocks and channels, and only the sum is
transformed back: "nested" in that the sum over blocks is a convolution itself. For an 11 x 11 kernel, tiles of 5 x 5
outputs and 3 x 3 blocks of 4 x 4 taps, that is 23 multiplications for an output instead of 121.

A unit is a few rows of tiles, or a segment of one where the transformed input of a whole row is too much for a cache.
Its points are a stack of matrix products (filters x blocks and channels) (blocks and channels x tiles), one for each
point, on the micro-kernel. At one of the points, where every output has the factor 1, sums begin with the bias.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.winograd.cut import Cut, cut_up
from convbench.algorithms.winograd.nested import errors, transformed_shape, transformed_weights
from convbench.epilogue import Epilogue
from convbench.kernels.band import Band, fill_band
from convbench.kernels.blocking import PACKING_BYTES, with_tail
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import Table, pack, splitter, unpacker
from convbench.kernels.grid import Grid, locate
from convbench.kernels.linear_map import INPUT, OUTPUT, transform, transform_row
from convbench.kernels.micro_kernel import micro_kernel
from convbench.kernels.output import streamed, write_rows
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
from convbench.kernels.toom_cook import toom_cook
from convbench.kernels.vector import fence
from convbench.problem import ITEM_SIZE, Problem

STAGES: Final = ("pad", "transform", "product", "inverse", "store")
PAD, TRANSFORM, PRODUCT, INVERSE, STORE = range(5)


class Pieces(NamedTuple):
    """What scratch is cut into.

    Attributes:
        band: The input.
        strip: A row of tiles after the vertical transform.
        points: Shape (vertical points, horizontal points, channels and blocks, tiles).
        sums: Shape (points, filters of a register block, tiles of one).
        half: Shape (vertical outputs, horizontal points, lanes).
        runs: Rows of pixels of a register block's filters, and room for a vector.
    """

    band: int
    strip: int
    points: int
    sums: int
    half: int
    runs: int


class Parameters(NamedTuple):
    """What the tile has to know.

    Attributes:
        grid: Of the units.
        band: How bands are filled.
        pieces: Sizes of the pieces of scratch.
        input_rows: Rows of a band.
        row_stride: From one row of a band to the next.
        y_blocks: Blocks of taps below each other.
        x_blocks: Blocks of taps side by side.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        tiles: Tiles in a unit, with room for whole register blocks.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        streamed: Whether outputs are written past the caches.
        biases: Index in the weights of the first filter's bias.
        zeros: Index in the weights of as many zeros.
        ones: The point at which every output has the factor 1.
        relu: Whether outputs end with ReLU.
        columns: Offsets in a strip, for each block of taps and horizontal point.
        no_offset: Zero.
        parts: Offsets of channels and blocks in the points.
    """

    grid: Grid
    band: Band
    pieces: Pieces
    input_rows: int
    row_stride: int
    y_blocks: int
    x_blocks: int
    tile_rows: int
    tile_columns: int
    tiles: int
    blocks: int
    unit_blocks: int
    streamed: int
    biases: int
    zeros: int
    ones: int
    relu: int
    columns: Table
    no_offset: Table
    parts: Table


unpack = unpacker(Parameters)
split = splitter(Pieces)


@inlined
def to_points(y_outputs, y_taps, x_outputs, x_taps, lanes, p, rows, pieces):  # type: ignore[no-untyped-def]  # over 40 lines: two calls, with the name of each argument
    """Transform a band into its points.

    Vertically first, all columns of a row of tiles into the strip; then horizontally, tile by tile.
    """
    y_points, x_points = y_outputs + y_taps - 1, x_outputs + x_taps - 1
    step = p.parts.size * p.tiles
    for part in range(p.band.channels * p.y_blocks):
        channel, y_block = divmod(part, p.y_blocks)
        for row in range(rows):
            source = (channel * p.input_rows + row * y_outputs + y_block * y_taps) * p.row_stride
            for column in range(0, p.row_stride, lanes):
                transform(
                    which=INPUT,
                    outputs=y_outputs,
                    taps=y_taps,
                    lanes=lanes,
                    source=pieces.band,
                    source_begin=source + column,
                    source_step=p.row_stride,
                    target=pieces.strip,
                    target_begin=column,
                    target_step=p.row_stride,
                )
            for x_block in range(p.x_blocks):
                own = p.columns[x_block * x_points : (x_block + 1) * x_points]
                target = (part * p.x_blocks + x_block) * p.tiles + row * p.tile_columns
                for y in range(y_points):
                    for t in range(0, p.tile_columns, lanes):
                        transform(
                            which=INPUT,
                            outputs=x_outputs,
                            taps=x_taps,
                            lanes=lanes,
                            source=pieces.strip,
                            source_begin=y * p.row_stride + t,
                            source_step=own,
                            target=pieces.points,
                            target_begin=target + y * x_points * step + t,
                            target_step=step,
                        )


@inlined
def multiply(filters, vectors, lanes, points, p, group_block, first_tile, pieces, weights):  # type: ignore[no-untyped-def]
    """Sum the products of a block of filters with a register block's tiles, point by point."""
    width = vectors * lanes
    for point in range(points):
        bias = p.biases + group_block * filters if point == p.ones else p.zeros
        micro_kernel(
            filters=filters,
            vectors=vectors,
            lanes=lanes,
            x=pieces.points,
            x_begin=point * p.parts.size * p.tiles + first_tile,
            x_step=lanes,
            prefetch=p.parts.size * p.tiles,
            outer_offsets=p.no_offset,
            inner_offsets=p.parts,
            weights=weights,
            weights_begin=(group_block * points + point) * p.parts.size * filters,
            bias_begin=bias,
            out=pieces.sums,
            out_begin=point * filters * width,
            filter_step=width,
            vector_step=lanes,
            filters_used=filters,
            vectors_used=vectors,
            lanes_used=width,
            lane_step=lanes,
            relu=0,
        )


@inlined
def from_points(y_outputs, y_taps, x_outputs, x_taps, lanes, p, begin, step, pieces, target, run):  # type: ignore[no-untyped-def]
    """Transform one filter's sums for a vector of tiles into `y_outputs` runs of pixels.

    Vertically first, into `half`; then horizontally.
    """
    x_points = x_outputs + x_taps - 1
    for x in range(x_points):
        transform(
            which=OUTPUT,
            outputs=y_outputs,
            taps=y_taps,
            lanes=lanes,
            source=pieces.sums,
            source_begin=begin + x * step,
            source_step=x_points * step,
            target=pieces.half,
            target_begin=x * lanes,
            target_step=x_points * lanes,
        )
    for row in range(y_outputs):
        transform_row(
            outputs=x_outputs,
            taps=x_taps,
            lanes=lanes,
            source=pieces.half,
            source_begin=row * x_points * lanes,
            source_step=lanes,
            target=pieces.runs,
            target_begin=target + row * run,
            relu=p.relu,
        )


@inlined
def store(y_outputs, x_outputs, lanes, p, place, filter_number, number, rows, run, pieces, out):  # type: ignore[no-untyped-def]
    """Write the rows of one filter of a register block, the `number`-th of it."""
    write_rows(
        lanes,
        p.streamed,
        pieces.runs[number * y_outputs * run : (number + 1) * y_outputs * run],
        run,
        out[place.image, filter_number],
        place.band * p.tile_rows * y_outputs,
        rows * y_outputs,
        y_outputs,
        place.segment * p.tile_columns * x_outputs,
        p.tile_columns * x_outputs,
    )


def make_tile(
    filters: int, vectors: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int
) -> Any:  # over 40 lines: the loops that belong together, with their clock
    """The tile for a register block and for tiles of so many outputs and taps."""
    width = vectors * lanes
    points = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is some blocks of filters over rows of tiles of one group of one image."""
        p = unpack(parameters)
        pieces, run, group_filters = split(scratch, p.pieces), p.tiles * x_outputs, out.shape[1] // p.grid.groups
        for unit in range(first, last):
            place = locate(p.grid, unit)
            rows = min(p.tile_rows, (out.shape[2] + y_outputs - 1) // y_outputs - place.band * p.tile_rows)
            first_block = place.filter_block * p.unit_blocks
            since = ticks()
            fill_band(x, pieces.band, p.band, place)
            since = lap(clock, PAD, since)
            to_points(y_outputs, y_taps, x_outputs, x_taps, lanes, p, rows, pieces)
            since = lap(clock, TRANSFORM, since)
            for block in range(first_block, min(p.blocks, first_block + p.unit_blocks)):
                used = min(filters, group_filters - block * filters)
                for t in range(0, rows * p.tile_columns, width):
                    multiply(filters, vectors, lanes, points, p, place.group * p.blocks + block, t, pieces, weights)
                    since = lap(clock, PRODUCT, since)
                    for number in range(used):
                        for part in range(0, width, lanes):
                            from_points(
                                y_outputs,
                                y_taps,
                                x_outputs,
                                x_taps,
                                lanes,
                                p,
                                number * width + part,
                                filters * width,
                                pieces,
                                number * y_outputs * run + (t + part) * x_outputs,
                                run,
                            )
                    since = lap(clock, INVERSE, since)
                for number in range(used):
                    own = place.group * group_filters + block * filters + number
                    store(y_outputs, x_outputs, lanes, p, place, own, number, rows, run, pieces, out)
                since = lap(clock, STORE, since)
        if p.streamed:
            fence()

    return tile


def _parameters(problem: Problem, cut: Cut, weights: int, epilogue: Epilogue) -> Parameters:
    """What the tile has to know, where so many numbers of weights stand before the biases."""
    y, x = cut.y, cut.x
    columns = np.add.outer(np.arange(x.blocks) * x.taps, np.arange(x.points)).ravel()
    return Parameters(
        grid=cut.grid,
        band=_band(problem, cut),
        pieces=_pieces(problem, cut),
        input_rows=cut.input_rows,
        row_stride=cut.row_stride,
        y_blocks=y.blocks,
        x_blocks=x.blocks,
        tile_rows=cut.tile_rows,
        tile_columns=cut.tile_columns,
        tiles=cut.tiles,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        streamed=streamed(problem),
        biases=weights,
        zeros=weights + problem.groups * cut.blocks * cut.filters,
        ones=toom_cook(y.outputs, y.taps).ones * x.points + toom_cook(x.outputs, x.taps).ones,
        relu=epilogue.relu,
        columns=columns % x.outputs * cut.length + columns // x.outputs,
        no_offset=np.zeros(1, np.int64),
        parts=np.arange(problem.group_channels * y.blocks * x.blocks) * cut.tiles,
    )


def _band(problem: Problem, cut: Cut) -> Band:
    """Bands in which the columns of each phase of the tiles' width are neighbours."""
    (top, _), (left, _) = problem.padding
    return Band(
        channels=problem.group_channels,
        row_step=cut.tile_rows * cut.y.outputs,
        column_step=cut.tile_columns * cut.x.outputs,
        top=top,
        left=left,
        y_step=1,
        y_length=cut.input_rows,
        x_step=cut.x.outputs,
        x_length=cut.length,
        y_starts=np.zeros(1, np.int64),
        x_starts=np.arange(cut.x.outputs),
    )


def _pieces(problem: Problem, cut: Cut) -> Pieces:
    y, x = cut.y, cut.x
    points = y.points * x.points
    return Pieces(
        band=problem.group_channels * cut.input_rows * cut.row_stride,
        strip=y.points * cut.row_stride,
        points=points * problem.group_channels * y.blocks * x.blocks * cut.tiles,
        sums=points * cut.filters * cut.width,
        half=y.outputs * x.points * cut.lanes,
        runs=cut.filters * y.outputs * cut.tiles * x.outputs + cut.lanes,
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Transformed weights, then biases and as many zeros as a register block has filters."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    biases = epilogue.biases(problem, cut.blocks * cut.filters).ravel()
    tail = np.concatenate([biases, np.zeros(cut.filters, problem.dtype)])
    everything, transformed = with_tail(transformed_shape(problem, y, x, cut.filters, cut.blocks), tail)
    transformed_weights(problem, weights, y, x, cut.filters, cut.blocks, out=transformed)
    parameters = _parameters(problem, cut, transformed.size, epilogue)
    sizes = (cut.filters, cut.vectors, cut.lanes, y.outputs, y.taps, x.outputs, x.taps)
    return Work(
        phases=(Phase(TileName(__name__, "make_tile", sizes), cut.grid.units, pack(parameters), STAGES),),
        weights=everything,
        scratch_size=sum(parameters.pieces),
        errors=errors(problem, y, x),
        variant={
            "tile": f"{y.outputs} x {x.outputs}",
            "taps": f"{y.taps} x {x.taps}",
            "blocks": f"{y.blocks} x {x.blocks}",
            "register block": f"{cut.filters} x {cut.vectors} x {cut.lanes}",
            "tiles of a unit": f"{cut.tile_rows} x {cut.tile_columns}",
            "units": cut.grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band of input, its points, a block's sums and its outputs; the weights at the points."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    weights = math.prod(transformed_shape(problem, cut.y, cut.x, cut.filters, cut.blocks))
    biases = (problem.groups * cut.blocks + 1) * cut.filters
    return Footprint(sum(_pieces(problem, cut)) * item, (weights + biases) * item, PACKING_BYTES)
