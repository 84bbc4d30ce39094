"""Into which tiles and units a problem is cut for minimal filtering on the host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from convbench.algorithms.winograd.nested import Axis, best_axes
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import UNITS, bands, blocks_of_a_unit
from convbench.kernels.grid import Grid
from convbench.kernels.linear_map import operations
from convbench.kernels.micro_kernel import best_block
from convbench.kernels.toom_cook import Matrix, toom_cook
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem

VECTORS_OF_TILES: Final = 3  # in a unit, at least, where there are so many tiles
CUTS: Final = 256  # problems whose cut is kept; it is asked for several times while a plan is made


@dataclass(frozen=True)
class Cut:
    """How one problem is cut into units.

    Attributes:
        y: The vertical direction.
        x: The horizontal direction.
        filters: Of a register block.
        vectors: Of a register block.
        lanes: Of a vector.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        tiles: Tiles in a unit, with room for whole register blocks.
        length: Numbers in a phase of a row of the band.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        grid: Of the units.
    """

    y: Axis
    x: Axis
    filters: int
    vectors: int
    lanes: int
    tile_rows: int
    tile_columns: int
    tiles: int
    length: int
    blocks: int
    unit_blocks: int
    grid: Grid

    @property
    def width(self) -> int:
        """Tiles of a register block."""
        return self.vectors * self.lanes

    @property
    def input_rows(self) -> int:
        """Rows of the band."""
        return (self.tile_rows - 1) * self.y.outputs + self.y.points + self.y.taps * (self.y.blocks - 1)

    @property
    def row_stride(self) -> int:
        """From one row of the band to the next."""
        return self.x.outputs * self.length


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut of a problem that `nested.supports` has let pass."""
    found = best_axes(problem, _cost)
    assert found is not None  # noqa: S101  # `supports` has found one
    y, x = found
    lanes = instruction_set().lanes(problem.dtype)
    tile_rows, tile_columns, segments = _tiles_of_a_unit(problem, y, x, lanes)
    filters, vectors, _ = best_block(problem.group_filters, 1, tile_rows * tile_columns, lanes, fetch=True)
    blocks = ceil_div(problem.group_filters, filters)
    unit_blocks = blocks_of_a_unit(problem, blocks, bands(problem, tile_rows * y.outputs))
    reach = (x.taps * (x.blocks - 1) + x.points - 1) // x.outputs + 1
    return Cut(
        y=y,
        x=x,
        filters=filters,
        vectors=vectors,
        lanes=lanes,
        tile_rows=tile_rows,
        tile_columns=tile_columns,
        tiles=round_up(tile_rows * tile_columns + lanes, vectors * lanes),
        length=round_up(tile_columns + lanes + reach, lanes),
        blocks=blocks,
        unit_blocks=unit_blocks,
        grid=Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=ceil_div(problem.output_height, tile_rows * y.outputs),
            segments=segments,
            filter_blocks=ceil_div(blocks, unit_blocks),
        ),
    )


def _tiles_of_a_unit(problem: Problem, y: Axis, x: Axis, lanes: int) -> tuple[int, int, int]:
    """Rows of tiles in a unit, tiles in a row of it, and units side by side: few enough for the cache."""
    rows, columns = ceil_div(problem.output_height, y.outputs), ceil_div(problem.output_width, x.outputs)
    tile_bytes = y.points * x.points * problem.group_channels * y.blocks * x.blocks * ITEM_SIZE[problem.dtype]
    least = VECTORS_OF_TILES * lanes
    fitting = max(least, tuning().points_bytes // tile_bytes)
    segments = ceil_div(columns, fitting)
    columns = ceil_div(columns, segments)
    enough = max(1, rows * segments * problem.batch * problem.groups // UNITS)
    tile_rows = max(1, min(rows, max(min(fitting // columns, enough), ceil_div(least, columns))))
    return tile_rows, columns, segments


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """About how many cycles of a core it takes: two vector operations a cycle, two loads or one store."""
    filters, channels = problem.group_filters, problem.group_channels
    (in_y, out_y), (in_x, out_x) = (_pass_costs(axis.outputs, axis.taps) for axis in (y, x))
    tiles = ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)
    blocks = y.blocks * x.blocks
    products = y.points * x.points * filters * (channels * blocks / 2 + 1)
    to_points = channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    run = x.outputs * (x.outputs - 1)  # merging the lanes of as many vectors into as many runs of pixels
    from_points = filters * (x.points * out_y + y.outputs * (out_x + run))
    return problem.batch * problem.groups * tiles * (products + to_points + from_points)


@cache
def _pass_costs(outputs: int, taps: int) -> tuple[float, float]:
    """Of one pass of the input's and one of the output's transform."""

    def cost(matrix: Matrix) -> float:
        return operations(matrix) / 2 + len(matrix[0]) / 2 + len(matrix)

    algorithm = toom_cook(outputs, taps)
    return cost(algorithm.input), cost(algorithm.output)
