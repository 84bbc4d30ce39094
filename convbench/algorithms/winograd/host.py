"""Winograd convolution: tiles of outputs from fewer multiplications, by `toom_cook` in both directions.

One NaN or infinity in the input spreads, as NaN, over every output of the tiles that read it, and not only over those
whose kernel covers it; one among the weights over every output of its kernel. So do the rounding errors of one number
that is far larger than the rest, and it overflows sooner. `direct` and `unrolled` keep all of these where they belong.

A kernel that is larger than a tile's taps is cut into blocks. The tile's input is transformed for each block and
channel, multiplied point by point with the transformed weights, summed over blocks and channels, and only the sum is
transformed back: "nested" in that the sum over blocks is a convolution itself. For an 11 x 11 kernel, tiles of 5 x 5
outputs and 3 x 3 blocks of 4 x 4 taps, that is 23 multiplications for an output instead of 121.

A unit is a few rows of tiles, or a segment of one where the transformed input of a whole row is too much for a cache.
Its points are a stack of matrix products (kernels x blocks and channels) (blocks and channels x tiles), one for each
point, on the micro-kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.winograd.nested import Axis, best_axes, errors, transformed_weights
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.band import fill_runs
from convbench.kernels.blocking import PACKING_BYTES, UNITS, bands, chunk_blocks
from convbench.kernels.clock import lap, ticks
from convbench.kernels.linear_map import INPUT, OUTPUT, operations, transform, transform_row
from convbench.kernels.micro_kernel import WHOLE, best_block, micro_kernel
from convbench.kernels.output import streamed, write_rows
from convbench.kernels.tile import TileName, Work, inlined, jit
from convbench.kernels.toom_cook import Matrix, toom_cook
from convbench.kernels.vector import fence, instruction_set
from convbench.problem import ITEM_SIZE, Problem

BLOCKS_OF_TILES: Final = 3  # vectors of tiles in a unit, at least, where there are so many
CUTS: Final = 256  # problems whose cut is kept; it is asked for several times while a plan is made
SCRATCH_BYTES: Final = 10 * 2**16  # of transformed input: what leaves room for the rest in a second-level cache


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """About how many cycles of a core it takes: two vector operations a cycle, two loads or one store."""
    kernels, channels = problem.group_filters, problem.group_channels
    (in_y, out_y), (in_x, out_x) = (_pass_costs(axis.outputs, axis.taps) for axis in (y, x))
    tiles = math.ceil(problem.output_height / y.outputs) * math.ceil(problem.output_width / x.outputs)
    blocks = y.blocks * x.blocks
    products = y.points * x.points * kernels * (channels * blocks / 2 + 1)
    to_points = channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    run = x.outputs * (x.outputs - 1)  # merging the lanes of as many vectors into as many runs of pixels
    from_points = kernels * (x.points * out_y + y.outputs * (out_x + run))
    return problem.batch * problem.groups * tiles * (products + to_points + from_points)


@cache
def _pass_costs(outputs: int, taps: int) -> tuple[float, float]:
    """Of one pass of the input's and one of the output's transform."""

    def cost(matrix: Matrix) -> float:
        return operations(matrix) / 2 + len(matrix[0]) / 2 + len(matrix)

    algorithm = toom_cook(outputs, taps)
    return cost(algorithm.input), cost(algorithm.output)


@dataclass(frozen=True)
class Cut:
    """How one problem is cut into units.

    Attributes:
        y: The vertical direction.
        x: The horizontal direction.
        kernels: Of a register block.
        vectors: Of a register block.
        lanes: Of a vector.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        segments: Units side by side.
        tiles: Tiles in a unit, with room for whole register blocks.
        length: Numbers in a phase of a row of the band.
        blocks: Register blocks of kernels in a group.
        chunk: Register blocks of kernels in a unit.
    """

    y: Axis
    x: Axis
    kernels: int
    vectors: int
    lanes: int
    tile_rows: int
    tile_columns: int
    segments: int
    tiles: int
    length: int
    blocks: int
    chunk: int

    @property
    def input_rows(self) -> int:
        """Rows of the band."""
        return (self.tile_rows - 1) * self.y.outputs + self.y.points + self.y.taps * (self.y.blocks - 1)

    @property
    def pitch(self) -> int:
        """From one row of the band to the next."""
        return self.x.outputs * self.length


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut of a problem that `supports` has let pass."""
    found = best_axes(problem, _cost)
    assert found is not None  # noqa: S101  # `supports` has found one
    y, x = found
    lanes = instruction_set().lanes(problem.dtype)
    group_kernels, channels = problem.group_filters, problem.group_channels
    rows, columns = ceil_div(problem.output_height, y.outputs), ceil_div(problem.output_width, x.outputs)
    tile_bytes = y.points * x.points * channels * y.blocks * x.blocks * ITEM_SIZE[problem.dtype]
    block = BLOCKS_OF_TILES * lanes
    fitting = max(block, SCRATCH_BYTES // tile_bytes)  # tiles in a unit
    segments = ceil_div(columns, fitting)
    columns = ceil_div(columns, segments)
    enough = max(1, rows * segments * problem.batch * problem.groups // UNITS)
    tile_rows = max(1, min(rows, max(min(fitting // columns, enough), ceil_div(block, columns))))
    kernels, vectors, _ = best_block(group_kernels, 1, tile_rows * columns, lanes, fetch=True)
    width = vectors * lanes
    blocks = ceil_div(group_kernels, kernels)
    reach = (x.taps * (x.blocks - 1) + x.points - 1) // x.outputs + 1
    return Cut(
        y=y,
        x=x,
        kernels=kernels,
        vectors=vectors,
        lanes=lanes,
        tile_rows=tile_rows,
        tile_columns=columns,
        segments=segments,
        tiles=round_up(tile_rows * columns + lanes, width),
        length=round_up(columns + lanes + reach, lanes),
        blocks=blocks,
        chunk=chunk_blocks(problem, blocks, bands(problem, tile_rows * y.outputs)),
    )


STAGES: Final = ("pad", "transform", "product", "inverse", "store")
PAD, TRANSFORM, PRODUCT, INVERSE, STORE = range(5)

# Places of the parameters; behind them are tables of offsets.
GROUPS, TOP, LEFT, Y_BLOCKS, X_BLOCKS, TILE_ROWS, TILE_COLUMNS = range(7)
SEGMENTS, TILES, LENGTH, INPUT_ROWS, BLOCKS, CHUNK, STREAMED, TABLES = range(7, 15)


@inlined
def to_points(y_outputs, y_taps, x_outputs, x_taps, lanes, parameters, channels, rows, band, strip, offsets, points):  # type: ignore[no-untyped-def]
    """Transform a band into `points`, shape (vertical points, horizontal points, channels and blocks, tiles).

    Vertically first, all columns of a row of tiles into `strip`; then horizontally, tile by tile.
    """
    y_points, x_points = y_outputs + y_taps - 1, x_outputs + x_taps - 1
    y_blocks, x_blocks, tiles, columns = (
        parameters[Y_BLOCKS],
        parameters[X_BLOCKS],
        parameters[TILES],
        parameters[TILE_COLUMNS],
    )
    pitch = x_outputs * parameters[LENGTH]
    step = channels * y_blocks * x_blocks * tiles
    for part in range(channels * y_blocks):
        channel, y_block = divmod(part, y_blocks)
        for row in range(rows):
            source = (channel * parameters[INPUT_ROWS] + row * y_outputs + y_block * y_taps) * pitch
            for column in range(0, pitch, lanes):
                transform(INPUT, y_outputs, y_taps, lanes, band, source + column, pitch, strip, column, pitch)
            for x_block in range(x_blocks):
                own = offsets[x_block * x_points : (x_block + 1) * x_points]
                target = (part * x_blocks + x_block) * tiles + row * columns
                for y in range(y_points):
                    for t in range(0, columns, lanes):
                        at = target + y * x_points * step + t
                        transform(INPUT, x_outputs, x_taps, lanes, strip, y * pitch + t, own, points, at, step)


@inlined
def from_points(y_outputs, y_taps, x_outputs, x_taps, lanes, sums, begin, step, half, runs, target, run):  # type: ignore[no-untyped-def]
    """Transform one kernel's sums for a vector of tiles into `y_outputs` runs of pixels.

    Vertically first, into `half`, shape (y_outputs, horizontal points, lanes); then horizontally.
    """
    x_points = x_outputs + x_taps - 1
    for x in range(x_points):
        at = begin + x * step
        transform(OUTPUT, y_outputs, y_taps, lanes, sums, at, x_points * step, half, x * lanes, x_points * lanes)
    for row in range(y_outputs):
        transform_row(x_outputs, x_taps, lanes, half, row * x_points * lanes, lanes, runs, target + row * run)


def make_tile(kernels: int, vectors: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int) -> Any:
    """The tile for a register block and for tiles of so many outputs and taps."""
    width = vectors * lanes
    points = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)

    @jit
    def tile(x, weights, out, parameters, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a chunk of kernels over rows of tiles of one group of one image."""
        groups, blocks, chunk, columns = (
            parameters[GROUPS],
            parameters[BLOCKS],
            parameters[CHUNK],
            parameters[TILE_COLUMNS],
        )
        channels, group_kernels = x.shape[1] // groups, out.shape[1] // groups
        parts = channels * parameters[Y_BLOCKS] * parameters[X_BLOCKS]
        tiles, run = parameters[TILES], parameters[TILES] * x_outputs
        x_offsets = parameters[TABLES : TABLES + parameters[X_BLOCKS] * (x_outputs + x_taps - 1)]
        no_offset = parameters[TABLES + x_offsets.size : TABLES + x_offsets.size + 1]
        phases = parameters[TABLES + x_offsets.size + 1 : TABLES + x_offsets.size + 1 + x_outputs]
        part_offsets = parameters[TABLES + x_offsets.size + 1 + x_outputs :]
        band, strip, inputs, sums, half, runs = split(
            scratch,
            channels * parameters[INPUT_ROWS] * x_outputs * parameters[LENGTH],
            (y_outputs + y_taps - 1) * x_outputs * parameters[LENGTH],
            points * parts * tiles,
            points * kernels * width,
            y_outputs * (x_outputs + x_taps - 1) * lanes,
        )
        all_rows = (out.shape[2] + y_outputs - 1) // y_outputs
        bands = (all_rows + parameters[TILE_ROWS] - 1) // parameters[TILE_ROWS]
        chunks = (blocks + chunk - 1) // chunk
        for unit in range(first, last):
            rest, chunk_index = divmod(unit, chunks)
            rest, segment = divmod(rest, parameters[SEGMENTS])
            rest, band_index = divmod(rest, bands)
            image, group = divmod(rest, groups)
            begin = band_index * parameters[TILE_ROWS]
            rows = min(parameters[TILE_ROWS], all_rows - begin)
            group_x = x[image, group * channels : (group + 1) * channels]
            since = ticks()
            fill_runs(
                group_x,
                band,
                begin * y_outputs - parameters[TOP],
                segment * columns * x_outputs - parameters[LEFT],
                1,
                parameters[INPUT_ROWS],
                x_outputs,
                parameters[LENGTH],
                no_offset,
                phases,
            )
            since = lap(clock, PAD, since)
            to_points(
                y_outputs, y_taps, x_outputs, x_taps, lanes, parameters, channels, rows, band, strip, x_offsets, inputs
            )
            since = lap(clock, TRANSFORM, since)
            for block in range(chunk_index * chunk, min(blocks, (chunk_index + 1) * chunk)):
                kernel = block * kernels
                used = min(kernels, group_kernels - kernel)
                for t in range(0, rows * columns, width):
                    for point in range(points):
                        micro_kernel(
                            kernels,
                            vectors,
                            lanes,
                            inputs,
                            point * parts * tiles + t,
                            lanes,
                            parts * tiles,
                            no_offset,
                            part_offsets,
                            weights,
                            ((group * blocks + block) * points + point) * parts * kernels,
                            sums,
                            point * kernels * width,
                            width,
                            lanes,
                            WHOLE,
                            kernels,
                            vectors,
                            width,
                            lanes,
                        )
                    since = lap(clock, PRODUCT, since)
                    for number in range(used):
                        for part in range(0, width, lanes):
                            from_points(
                                y_outputs,
                                y_taps,
                                x_outputs,
                                x_taps,
                                lanes,
                                sums,
                                number * width + part,
                                kernels * width,
                                half,
                                runs,
                                number * y_outputs * run + (t + part) * x_outputs,
                                run,
                            )
                    since = lap(clock, INVERSE, since)
                for number in range(used):
                    plane = out[image, group * group_kernels + kernel + number]
                    own_runs = runs[number * y_outputs * run : (number + 1) * y_outputs * run]
                    write_rows(
                        lanes,
                        parameters[STREAMED],
                        own_runs,
                        run,
                        plane,
                        begin * y_outputs,
                        rows * y_outputs,
                        y_outputs,
                        segment * columns * x_outputs,
                        columns * x_outputs,
                    )
                since = lap(clock, STORE, since)
        if parameters[STREAMED]:
            fence()

    return tile


@jit
def split(scratch, one, two, three, four, five):  # type: ignore[no-untyped-def]
    """Cut scratch into pieces of these sizes, and what is left."""
    two, three, four, five = one + two, one + two + three, one + two + three + four, one + two + three + four + five
    return (
        scratch[:one],
        scratch[one:two],
        scratch[two:three],
        scratch[three:four],
        scratch[four:five],
        scratch[five:],
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> Work:
    """Transformed weights, and scratch for a band of input, its points, a block's sums and its outputs."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    channels = problem.group_channels
    (top, _), (left, _) = problem.padding
    parts = channels * y.blocks * x.blocks
    columns = np.add.outer(np.arange(x.blocks) * x.taps, np.arange(x.points)).ravel()
    column_offsets = columns % x.outputs * cut.length + columns // x.outputs
    numbers = np.zeros(TABLES, np.int64)
    numbers[[GROUPS, TOP, LEFT, Y_BLOCKS, X_BLOCKS]] = problem.groups, top, left, y.blocks, x.blocks
    numbers[[TILE_ROWS, TILE_COLUMNS, SEGMENTS, TILES]] = cut.tile_rows, cut.tile_columns, cut.segments, cut.tiles
    numbers[[LENGTH, INPUT_ROWS]] = cut.length, cut.input_rows
    numbers[[BLOCKS, CHUNK, STREAMED]] = cut.blocks, cut.chunk, streamed(problem)
    parts_of_images = bands(problem, cut.tile_rows * y.outputs) * cut.segments
    return Work(
        tile=TileName(
            __name__, "make_tile", (cut.kernels, cut.vectors, cut.lanes, y.outputs, y.taps, x.outputs, x.taps)
        ),
        units=parts_of_images * ceil_div(cut.blocks, cut.chunk),
        weights=transformed_weights(problem, weights, y, x, cut.kernels, cut.blocks).ravel(),
        parameters=np.concatenate(
            [numbers, column_offsets, [0], np.arange(x.outputs), np.arange(parts) * cut.tiles]
        ).astype(np.int64),
        scratch_size=_scratch_size(problem, cut),
        errors=errors(problem, y, x),
        stages=STAGES,
    )


def _scratch_size(problem: Problem, cut: Cut) -> int:
    """Numbers in the pieces that the tile cuts its scratch into."""
    y, x, channels = cut.y, cut.x, problem.group_channels
    points, width = y.points * x.points, cut.vectors * cut.lanes
    return sum(
        (
            channels * cut.input_rows * cut.pitch,
            y.points * cut.pitch,
            points * channels * y.blocks * x.blocks * cut.tiles,
            points * cut.kernels * width,
            y.outputs * x.points * cut.lanes,
            cut.kernels * y.outputs * cut.tiles * x.outputs + cut.lanes,
        )
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band of input, its points, a block's sums and its outputs; the weights at the points."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    points = cut.y.points * cut.x.points * cut.y.blocks * cut.x.blocks
    kernels = problem.groups * cut.blocks * cut.kernels
    weights = kernels * problem.group_channels * points * item
    return Footprint(_scratch_size(problem, cut) * item, weights, PACKING_BYTES)
