"""Choice of tiles and units for minimal filtering on the host with channels and filters in the lanes of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from convbench.algorithms.winograd.nested import Axis, best_axes
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import CUTS
from convbench.kernels.grid import Grid
from convbench.kernels.linear_map import operations
from convbench.kernels.toom_cook import toom_cook
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem

LEAST_TILES: Final = 14  # tiles of a unit, at least: what amortises reading its weights
MOST_SHARED: Final = 2**26  # bytes of transformed input that units may share
LEAST_UNITS: Final = 8  # units of a large enough problem, at least: fewer than elsewhere, since all read all weights


@dataclass(frozen=True)
class FilterCut:
    """The partition of one problem into tiles and units.

    Rows of tiles are numbered through all images, so that tiles of several small images fill register blocks together.

    Attributes:
        y: Cut of the vertical axis.
        x: Cut of the horizontal axis.
        vectors: Vectors of filters of a register block.
        tiles: Tiles of a register block; a panel is the transformed input of as many.
        lanes: Elements of a vector.
        channel_blocks: Vectors of channels in a group.
        blocks: Register blocks of filters in a group.
        image_rows: Rows of tiles in an image.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        is_phased: Whether the input is transformed in a phase of its own, not by each unit.
        grid: Grid of the units.
    """

    y: Axis
    x: Axis
    vectors: int
    tiles: int
    lanes: int
    channel_blocks: int
    blocks: int
    image_rows: int
    tile_rows: int
    tile_columns: int
    is_phased: bool
    grid: Grid

    @property
    def unit_blocks(self) -> int:
        """Register blocks of filters in a unit."""
        return self.blocks // self.grid.filter_blocks

    @property
    def traffic(self) -> float:
        """Numbers that are read from beyond the second-level cache, those that are written there counted as more.

        Units that transform their own input read all weights; otherwise each register block of filters reads the
        transformed input, and weights are read for each band and segment.
        """
        weights = self.points * self.parts * self.lanes * self.blocks * self.filters * self.grid.positions
        return weights + 1.5 * self.shared * (1 + self.blocks)

    @property
    def shared(self) -> int:
        """Elements of the transformed input that units share."""
        return self.grid.positions * self.panels * self.panel_size if self.is_phased else 0

    @property
    def filters(self) -> int:
        """Filters of a register block."""
        return self.vectors * self.lanes

    @property
    def points(self) -> int:
        """Points of a tile."""
        return self.y.points * self.x.points

    @property
    def parts(self) -> int:
        """Vectors of a tile's input at a point: one for each block of taps and vector of channels."""
        return self.y.blocks * self.x.blocks * self.channel_blocks

    @property
    def panels(self) -> int:
        """Panels of a unit."""
        return ceil_div(self.tile_rows * self.tile_columns, self.tiles)

    @property
    def panel_size(self) -> int:
        """Elements of a panel."""
        return self.points * self.parts * self.tiles * self.lanes

    @property
    def lines(self) -> int:
        """Input rows that the rows of tiles of a unit read, where they lie in one image."""
        rows = min(self.tile_rows, self.image_rows)
        return (rows - 1) * self.y.outputs + self.y.points + self.y.taps * (self.y.blocks - 1)

    @property
    def columns(self) -> int:
        """Input columns that a row of tiles of a unit reads, in whole vectors."""
        needed = (self.tile_columns - 1) * self.x.outputs + self.x.points + self.x.taps * (self.x.blocks - 1)
        return round_up(needed, self.lanes)


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> FilterCut:
    """The cut of a problem that `nested.supports` accepts."""
    found = best_axes(problem, cycles)
    assert found is not None  # noqa: S101  # `supports` has checked this
    fused, phased = (_cut_along(problem, *found, is_phased=is_phased) for is_phased in (False, True))
    if phased.shared * ITEM_SIZE[problem.dtype] > MOST_SHARED:
        return fused
    return phased if fused.grid.units < LEAST_UNITS or phased.traffic < fused.traffic else fused


def _cut_along(problem: Problem, y: Axis, x: Axis, *, is_phased: bool) -> FilterCut:
    """The cut of a problem into tiles of given axes."""
    lanes = instruction_set().lanes(problem.dtype)
    image_rows, channel_blocks = ceil_div(problem.output_height, y.outputs), ceil_div(problem.group_channels, lanes)
    rows, terms = problem.batch * image_rows, problem.group_channels * y.blocks * x.blocks
    parts = y.blocks * x.blocks * channel_blocks
    tile_bytes = y.points * x.points * ((0 if is_phased else parts) + 2) * lanes * ITEM_SIZE[problem.dtype]
    fitting = max(LEAST_TILES, tuning().points_bytes // tile_bytes)
    segments = ceil_div(ceil_div(problem.output_width, x.outputs), fitting)
    columns = ceil_div(ceil_div(problem.output_width, x.outputs), segments)
    shared = ceil_div(problem.group_filters, lanes) if is_phased else 1  # units of a band, at most
    enough = max(1, problem.groups * rows * segments * shared // LEAST_UNITS, LEAST_TILES // columns)
    tile_rows = ceil_div(rows, ceil_div(rows, min(rows, fitting // columns, enough)))
    bands = ceil_div(rows, tile_rows)
    most = max(1, problem.groups * bands * segments * shared // LEAST_UNITS) if is_phased else tuning().sum_vectors
    vectors, tiles = best_block(
        problem.group_filters, tile_rows * columns, terms, lanes, min(most, tuning().sum_vectors)
    )
    blocks = ceil_div(problem.group_filters, vectors * lanes)
    return FilterCut(
        y=y,
        x=x,
        vectors=vectors,
        tiles=tiles,
        lanes=lanes,
        channel_blocks=channel_blocks,
        blocks=blocks,
        image_rows=image_rows,
        tile_rows=tile_rows,
        tile_columns=columns,
        is_phased=is_phased,
        grid=Grid(1, problem.groups, bands, segments, filter_blocks=blocks if is_phased else 1),
    )


@lru_cache(maxsize=CUTS)
def best_block(filters: int, tiles: int, terms: int, lanes: int, most: int) -> tuple[int, int]:
    """The register block of least estimated cost, (vectors of filters, tiles)."""

    def cost(block: tuple[int, int]) -> float:
        vectors, width = block
        reads = vectors + width / 2 + 1 if rate == 1 else vectors / rate + width
        term = max(vectors * width / rate, reads, 8 / rate) + (vectors + width / lanes) / rate
        return ceil_div(filters, vectors * lanes) * ceil_div(tiles, width) * (terms * term + 3 * vectors * width + 20)

    sums, rate = tuning().filter_sums, tuning().multiply_adds
    return min(((v, t) for v in range(1, most + 1) for t in range(2, sums // v + 1, 2)), key=cost)


def cycles(problem: Problem, y: Axis, x: Axis) -> float:
    """Estimated cycles of one core."""
    lanes, item = instruction_set().lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    tiles = ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs) * problem.batch
    parts = y.blocks * x.blocks
    points, vectors = y.points * x.points, ceil_div(problem.group_filters, lanes)
    channel_blocks = ceil_div(problem.group_channels, lanes)
    (in_y, out_y), (in_x, out_x) = (pass_operations(axis.outputs, axis.taps) for axis in (y, x))
    to_points = channel_blocks * parts * (x.points * in_y + y.points * in_x + 3 * points)
    from_points = vectors * (x.points * out_y + y.outputs * out_x + points + 7 * y.outputs * x.outputs)
    products = points * vectors * (problem.group_channels * parts + 5) / tuning().multiply_adds
    weights = points * vectors * lanes * problem.group_channels * parts * item
    speed = 64 if weights < 2**19 else 12 if weights < 2**23 else 7
    return problem.groups * (tiles * (to_points + from_points) + max(tiles * products, weights / speed))


@lru_cache(maxsize=CUTS)
def pass_operations(outputs: int, taps: int) -> tuple[int, int]:
    """Operations of one pass of the input transform, and of one pass of the output transform."""
    algorithm = toom_cook(outputs, taps)
    return operations(algorithm.input), operations(algorithm.output)
