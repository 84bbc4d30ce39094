"""Choice of tiles and units for minimal filtering on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from convbench.algorithms.winograd.nested import Axis, best_axes
from convbench.algorithms.winograd.terms import counts, products
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import CUTS, UNITS, bands, units_of_filters
from convbench.kernels.grid import Grid
from convbench.kernels.interleaving import interleaving
from convbench.kernels.linear_map import operations
from convbench.kernels.micro_kernel import best_block
from convbench.kernels.output import streamed
from convbench.kernels.toom_cook import Matrix, toom_cook
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import LINE, instruction_set
from convbench.problem import ITEM_SIZE, Problem

LEAST_STREAMED: Final = 512  # minimum bytes of a row that is streamed alone: stores to its ends interrupt the others
NEAR_BYTES: Final = 2**25  # of an output whose lines come and go while few terms are added
VECTORS_OF_TILES: Final = 3  # minimum number of vectors of tiles in a unit, where the problem has that many tiles


@dataclass(frozen=True)
class Cut:
    """The partition of one problem into tiles and units.

    Attributes:
        y: Cut of the vertical axis.
        x: Cut of the horizontal axis.
        filters: Filters of a register block.
        vectors: Vectors of a register block.
        lanes: Elements of a vector.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        tiles: Tiles in a unit, rounded up to whole register blocks.
        length: Elements of a row of the band in one residue class modulo the width of a tile of outputs.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        together: Maximum number of units for the same tiles that are computed as one.
        grid: Grid of the units.
        line_terms: The numbers of terms for which products are compiled, see `counts`; none where these are too many.
        group_filters: Filters of a group.
        fetched_lines: Lines of the output that each product asks for, see `outputs`; 0 where rows go through scratch.
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
    together: int
    grid: Grid
    line_terms: tuple[int, ...]
    group_filters: int
    fetched_lines: int

    @property
    def ends(self) -> list[int]:
        """For each register block the filters of a group up to its end.

        Products in straight lines are compiled for one filter less, too, so that blocks share what is missing in the
        last one: 128 filters are 18 blocks of six and four of five, not 21 of six and one of two.
        """
        whole = self.blocks - self._missing if self._is_shared else self.blocks
        numbers = range(1, self.blocks + 1)
        return [min(self.group_filters, block * self.filters - max(0, block - whole)) for block in numbers]

    @property
    def computed_filters(self) -> int:
        """The filters for which products of a group are computed; some of the last block may not exist."""
        if self._is_shared:
            return self.group_filters
        return self.blocks * self.filters - bool(self.line_terms and self._missing)

    @property
    def _missing(self) -> int:
        return self.blocks * self.filters - self.group_filters

    @property
    def _is_shared(self) -> bool:
        return bool(self.line_terms) and self._missing <= self.blocks

    @property
    def width(self) -> int:
        """Number of tiles of a register block."""
        return self.vectors * self.lanes

    @property
    def input_rows(self) -> int:
        """Number of rows of the band."""
        return (self.tile_rows - 1) * self.y.outputs + self.y.points + self.y.taps * (self.y.blocks - 1)

    @property
    def row_stride(self) -> int:
        """Elements from one row of the band to the next."""
        return self.x.outputs * self.length


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut of a problem that `nested.supports` accepts."""
    found = best_axes(problem, _cost)
    assert found is not None  # noqa: S101  # `supports` has checked this
    y, x = found
    lanes = instruction_set().lanes(problem.dtype)
    tile_rows, tile_columns, segments = _tiles_of_a_unit(problem, y, x, lanes)
    filters, vectors, _ = best_block(problem.group_filters, 1, tile_rows * tile_columns, lanes, fetch=True)
    blocks = ceil_div(problem.group_filters, filters)
    transformed = y.points * y.blocks * x.points * x.blocks * problem.group_channels * blocks * filters
    unit_blocks, together = units_of_filters(problem, blocks, bands(problem, tile_rows * y.outputs), transformed)
    line_terms = _line_terms(problem, y, x)
    asks = bool(line_terms) or not tuning().line_terms  # loops that are an exception do not
    at_once = asks and tile_columns >= vectors * lanes and _waits_for_no_line(problem, y, x)
    row = ceil_div(vectors * x.outputs * instruction_set().bits // 8, LINE)
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
        together=together,
        grid=Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=ceil_div(problem.output_height, tile_rows * y.outputs),
            segments=segments,
            filter_blocks=ceil_div(blocks, unit_blocks),
        ),
        line_terms=line_terms,
        group_filters=problem.group_filters,
        fetched_lines=ceil_div(filters * y.outputs * row, y.points * x.points) if at_once else 0,
    )


def _line_terms(problem: Problem, y: Axis, x: Axis) -> tuple[int, ...]:
    """The numbers of terms for which products are compiled, none where these are too many."""
    terms = counts(problem, y, x)
    return terms if max(terms) <= tuning().line_terms else ()


def _waits_for_no_line(problem: Problem, y: Axis, x: Axis) -> bool:
    """Whether lines of the output are there when they are written, if products have asked for them."""
    near = math.prod(problem.output_shape) * ITEM_SIZE[problem.dtype] <= NEAR_BYTES
    least = tuning().terms_at_once
    return least > 0 and (near or max(counts(problem, y, x)) >= least)


def is_streamed(problem: Problem, cut: Cut) -> bool:
    """Whether rows of the output go through scratch, and past the caches from there."""
    row = cut.tile_columns * cut.x.outputs * ITEM_SIZE[problem.dtype]
    return not cut.fetched_lines and streamed(problem) and (cut.tile_rows == 1 or row >= LEAST_STREAMED)


def is_whole(problem: Problem, cut: Cut) -> bool:
    """Whether a unit's outputs are whole rows of each filter's output, to be streamed as one."""
    is_row = cut.tile_rows == 1 and cut.grid.segments == 1
    return is_streamed(problem, cut) and is_row and problem.output_width >= cut.lanes


def _tiles_of_a_unit(problem: Problem, y: Axis, x: Axis, lanes: int) -> tuple[int, int, int]:
    """Rows of tiles in a unit, tiles in a row of a unit, and segments, such that a unit fits the cache."""
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
    """Estimated cycles of one core: two vector operations, two loads or one store a cycle."""
    filters, channels = problem.group_filters, problem.group_channels
    (in_y, out_y), (in_x, out_x) = (pass_costs(axis.outputs, axis.taps) for axis in (y, x))
    tiles = ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)
    sums = filters * y.points * x.points
    multiply_adds = filters * channels * products(problem, y, x)
    to_points = channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    shuffles = len(interleaving(x.outputs, instruction_set().lanes(problem.dtype))[0])
    from_points = filters * (x.points * out_y + y.outputs * (out_x + shuffles))
    return problem.batch * problem.groups * tiles * (multiply_adds / 2 + sums + to_points + from_points)


@cache
def pass_costs(outputs: int, taps: int) -> tuple[float, float]:
    """Estimated cycles of one pass of the input transform, and of one pass of the output transform."""

    def cost(matrix: Matrix) -> float:
        return operations(matrix) / 2 + len(matrix[0]) / 2 + len(matrix)

    algorithm = toom_cook(outputs, taps)
    return cost(algorithm.input), cost(algorithm.output)
