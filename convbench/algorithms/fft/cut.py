"""Choice of tiles and units for Fourier transforms, and bounds of their rounding errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from convbench.algorithms import forward_only
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import CUTS, UNITS
from convbench.kernels.fourier import operations
from convbench.kernels.grid import Grid
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import Errors, gamma, of_sums, unit_roundoff

STEP: Final = 7  # roundings of one radix-2 step of a transform
TURNS: Final = 3  # further steps of a 2-D transform that only multiply by roots of unity
LARGEST: Final = 64  # maximum rows or columns of a tile; larger ones do not fit the registers even when split in two
WEIGHTS_BYTES: Final = 2**28  # maximum size of transformed weights
TRAFFIC_COST: Final = 8e-5  # cycles to move an element, multiplied by the elements of its tile


@dataclass(frozen=True)
class Axis:
    """The cut along one axis: tiles of `size` inputs; the kernel is split into `blocks` of `taps` each."""

    size: int
    taps: int
    blocks: int

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return self.size - self.taps + 1


@dataclass(frozen=True)
class Cut:
    """The partition of one problem into tiles and units.

    Attributes:
        y: The vertical axis.
        x: The horizontal axis.
        lanes: Elements of a vector.
        tiles: Tiles in a unit, side by side.
        unit_filters: Filters in a unit.
        grid: Grid of the units.
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
        """Elements from one row of the band to the next."""
        columns = (self.tiles - 1) * self.x.outputs + self.x.size + self.x.taps * (self.x.blocks - 1)
        return round_up(columns, self.lanes)

    @property
    def run(self) -> int:
        """Elements of a row of a unit's outputs in scratch, padded for the excess of the last tile's vectors."""
        return self.tiles * self.x.outputs + self.lanes


def axes(extent: int, least: int) -> Iterator[Axis]:
    """All cuts of an axis with `extent` taps into tiles of at least `least` inputs."""
    size = least
    while size <= max(least, LARGEST):
        blocks = ceil_div(extent, size - size // 4)  # the fewest for which outputs are at least 1/4 of the tile
        yield Axis(size, ceil_div(extent, blocks), blocks)
        size *= 2


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut of least estimated cost."""
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
    """Estimated cycles of one core: two vector operations a cycle, plus memory traffic.

    The traffic of an element costs more for larger tiles, which reside in slower caches; `TRAFFIC_COST` was fitted to
    measured times.
    """
    filters, channels = problem.group_filters, problem.group_channels
    tiles = math.ceil(problem.output_height / y.outputs) * math.ceil(problem.output_width / x.outputs)
    terms, half, numbers = channels * y.blocks * x.blocks, y.size // 2, y.size * x.size
    shuffles = 2 * math.log2(lanes)  # of one complex vector in a transposition
    down, across = operations(half) + 6 * half, operations(x.size)
    forward = (down + shuffles * half) * (x.size / lanes) + across * (half / lanes)
    backward = (down + shuffles * half) * math.ceil(x.outputs / lanes) + across * (half / lanes)
    products = 2 * (terms + 2 * (terms - 1)) * numbers / lanes  # all sums but the last are loaded and stored
    traffic = numbers * (terms * numbers + 2 * y.outputs * x.outputs) * TRAFFIC_COST
    tile = (terms * forward + filters * (products + backward)) / 2 + filters * traffic
    return problem.batch * problem.groups * tiles * tile


def errors(problem: Problem, cut: Cut) -> Errors:
    """Rounding errors of the outputs of such tiles.

    Each step of a transform has an error of at most `STEP` roundings relative to the 2-norm of its numbers (Higham,
    "Accuracy and Stability of Numerical Algorithms", 2002, theorem 24.2), and so do the products and their sum. The
    2-norm of a tile's inputs is at most sqrt(number of inputs) times the largest, and no output exceeds the 2-norm of
    all. Typical errors grow with the square root of the number of steps (Schatzman, "Accuracy of the discrete Fourier
    transform and the fast Fourier transform", 1996); the estimate for sums over all taps is added.
    """
    numbers, terms = cut.y.size * cut.x.size, problem.group_channels * cut.y.blocks * cut.x.blocks
    steps = math.log2(numbers)
    of_weights = 2 * (cut.y.taps + cut.x.taps + STEP) if problem.dtype == "float64" else 2
    roundings = 2 * STEP * (steps + TURNS) + 3 * (terms + 1) + of_weights + 1  # the bias
    sums = of_sums(problem)
    return Errors(
        math.sqrt(numbers) * gamma(roundings, problem.dtype),
        unit_roundoff(problem.dtype) * math.sqrt(9 * steps) + sums.estimate,
    )


def supports(problem: Problem) -> str | None:
    """Supports the forward direction with stride 1 and more than one tap, if transformed weights are not too large."""
    if (reason := forward_only(problem)) is not None:
        return reason
    if problem.stride != (1, 1):
        return "needs stride 1"
    if problem.kernel_height * problem.kernel_width == 1:
        return "saves nothing with a kernel of one tap"
    needed = math.prod(packed_shape(problem, cut_up(problem))) * ITEM_SIZE[problem.dtype]
    if needed > WEIGHTS_BYTES:
        return f"would need {needed / 2**20:.0f} MiB for transformed weights"
    return None


def packed_shape(problem: Problem, cut: Cut) -> tuple[int, ...]:
    """The shape of the transformed weights, see `weights.transform_weights`."""
    parts = cut.y.size // 2 // cut.lanes
    blocks = cut.y.blocks * cut.x.blocks
    return problem.groups, problem.group_filters, problem.group_channels * blocks, parts, cut.x.size, 2, cut.lanes
