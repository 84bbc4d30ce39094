"""Into which tiles and units a problem is cut for Fourier transforms, and how far rounding takes their outputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from convbench.algorithms import forward_only
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import UNITS
from convbench.kernels.fourier import operations
from convbench.kernels.grid import Grid
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import Errors, gamma, of_sums, unit_roundoff

CUTS: Final = 256  # problems whose cut is kept; it is asked for several times while a plan is made
STEP: Final = 7  # roundings that one step of a transform is worth
TURNS: Final = 3  # steps of a transform of two directions that only turn numbers
LARGEST: Final = 64  # rows or columns of a tile; larger transforms do not fit the registers even by halves
WEIGHTS_BYTES: Final = 2**30  # of transformed weights, at most
TRAFFIC_COST: Final = 8e-5  # cycles for a number that is moved, for each number of the tile that it belongs to


@dataclass(frozen=True)
class Axis:
    """How one direction is cut: tiles of `size` inputs, and the kernel into `blocks` of `taps`."""

    size: int
    taps: int
    blocks: int

    @property
    def outputs(self) -> int:
        """Of a tile."""
        return self.size - self.taps + 1


@dataclass(frozen=True)
class Cut:
    """How one problem is cut into units.

    Attributes:
        y: The vertical direction.
        x: The horizontal direction.
        lanes: Of a vector.
        tiles: Side by side in a unit.
        unit_filters: Filters in a unit.
        grid: Of the units.
    """

    y: Axis
    x: Axis
    lanes: int
    tiles: int
    unit_filters: int
    grid: Grid

    @property
    def input_rows(self) -> int:
        """Rows of the band."""
        return self.y.size + self.y.taps * (self.y.blocks - 1)

    @property
    def row_stride(self) -> int:
        """From one row of the band to the next."""
        columns = (self.tiles - 1) * self.x.outputs + self.x.size + self.x.taps * (self.x.blocks - 1)
        return round_up(columns, self.lanes)

    @property
    def run(self) -> int:
        """Pixels in a row of a unit's outputs, with room for what the last tile writes too much of."""
        return self.tiles * self.x.outputs + self.lanes


def axes(extent: int, least: int) -> Iterator[Axis]:
    """Every way to cut a direction of a kernel of so many taps into tiles of `least` inputs or more."""
    size = least
    while size <= max(least, LARGEST):
        blocks = ceil_div(extent, size - size // 4)  # the fewest with which a quarter of the tile or more are outputs
        yield Axis(size, ceil_div(extent, blocks), blocks)
        size *= 2


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut that costs least."""
    lanes = instruction_set().lanes(problem.dtype)
    height, width = problem.kernel_extent
    y, x = min(
        itertools.product(axes(height, 2 * lanes), axes(width, lanes)),
        key=lambda pair: _cost(problem, pair[0], pair[1], lanes),
    )
    rows, columns = ceil_div(problem.output_height, y.outputs), ceil_div(problem.output_width, x.outputs)
    tile_bytes = problem.group_channels * y.blocks * x.blocks * y.size * x.size * ITEM_SIZE[problem.dtype]
    segments = ceil_div(columns, max(1, tuning().spectra_bytes // tile_bytes))
    segments = max(segments, min(columns, ceil_div(UNITS, rows * problem.batch * problem.groups)))
    tiles = ceil_div(columns, segments)
    segments = ceil_div(columns, tiles)
    parts = max(1, min(problem.group_filters, UNITS // (problem.batch * problem.groups * rows * segments)))
    unit_filters = ceil_div(problem.group_filters, parts)
    grid = Grid(
        images=problem.batch,
        groups=problem.groups,
        bands=rows,
        segments=segments,
        filter_blocks=ceil_div(problem.group_filters, unit_filters),
    )
    return Cut(y, x, lanes, tiles, unit_filters, grid)


def _cost(problem: Problem, y: Axis, x: Axis, lanes: int) -> float:
    """About how many cycles of a core it takes: two vector operations a cycle, and what is read and written.

    The smaller a tile, the nearer the caches that hold it; the constants were fitted to measured times.
    """
    filters, channels = problem.group_filters, problem.group_channels
    tiles = math.ceil(problem.output_height / y.outputs) * math.ceil(problem.output_width / x.outputs)
    terms, half, numbers = channels * y.blocks * x.blocks, y.size // 2, y.size * x.size
    shuffles = 2 * math.log2(lanes)  # of a complex vector that is transposed
    down, across = operations(half) + 6 * half, operations(x.size)
    forward = (down + shuffles * half) * (x.size / lanes) + across * (half / lanes)
    backward = (down + shuffles * half) * math.ceil(x.outputs / lanes) + across * (half / lanes)
    products = 2 * (terms + 2 * (terms - 1)) * numbers / lanes  # all but the last go through memory
    traffic = numbers * (terms * numbers + 2 * y.outputs * x.outputs) * TRAFFIC_COST
    tile = (terms * forward + filters * (products + backward)) / 2 + filters * traffic
    return problem.batch * problem.groups * tiles * tile


def errors(problem: Problem, cut: Cut) -> Errors:
    """How far rounding takes outputs of such tiles.

    Each step of a transform changes the root of the sum of squares of its numbers by `STEP` roundings at most, relative
    to itself (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, theorem 24.2), and so do the products and
    their sum; that of a tile's inputs is at most the root of their number times the largest, and no output is larger
    than that of all. Typical errors grow with the root of the number of steps (Schatzman, "Accuracy of the discrete
    Fourier transform and the fast Fourier transform", 1996); those of sums over all taps are added.
    """
    numbers, terms = cut.y.size * cut.x.size, problem.group_channels * cut.y.blocks * cut.x.blocks
    steps = math.log2(numbers)
    of_weights = 2 * (cut.y.taps + cut.x.taps + STEP) if problem.dtype == "float64" else 2
    roundings = 2 * STEP * (steps + TURNS) + 3 * (terms + 1) + of_weights + 1  # of adding the bias
    sums = of_sums(problem)
    return Errors(
        math.sqrt(numbers) * gamma(roundings, problem.dtype),
        unit_roundoff(problem.dtype) * math.sqrt(9 * steps) + sums.estimate,
    )


def supports(problem: Problem) -> str | None:
    """Forward, stride 1, and weights that do not explode when transformed."""
    if (reason := forward_only(problem)) is not None:
        return reason
    if problem.stride != (1, 1):
        return "needs stride 1"
    needed = math.prod(packed_shape(problem, cut_up(problem))) * ITEM_SIZE[problem.dtype]
    if needed > WEIGHTS_BYTES:
        return f"would need {needed / 2**30:.1f} GiB for transformed weights"
    return None


def packed_shape(problem: Problem, cut: Cut) -> tuple[int, ...]:
    """What the transformed weights are: see `weights.transform_weights`."""
    parts = cut.y.size // 2 // cut.lanes
    blocks = cut.y.blocks * cut.x.blocks
    return problem.groups, problem.group_filters, problem.group_channels * blocks, parts, cut.x.size, 2, cut.lanes
