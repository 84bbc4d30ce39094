"""The cut of a problem for unrolled convolution on the host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from convbench.integers import ceil_div
from convbench.kernels.band import Layout
from convbench.kernels.blocking import CUTS, bands, best_band, segments, units_of_filters
from convbench.kernels.filter_block import best_block as best_block_across
from convbench.kernels.grid import Grid
from convbench.kernels.micro_kernel import best_block, block_cycles
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        filters: Filters of a register block.
        vectors: See `host.make_tile`.
        width: Pixels of a register block: columns of a panel.
        lanes: Elements of a vector.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        together: Maximum number of units for the same pixels that are computed as one.
        band: Layout of the bands.
        panels: Panels that exist at a time.
        grid: Grid of the units.
    """

    filters: int
    vectors: int
    width: int
    lanes: int
    blocks: int
    unit_blocks: int
    together: int
    band: Layout
    panels: int
    grid: Grid

    @property
    def is_across(self) -> bool:
        """Whether filters are in the lanes of vectors."""
        return self.vectors * self.lanes != self.width

    def scratch_size(self, taps: int) -> int:
        """Elements of a band and its panels, padded for the excess of copies."""
        return self.band.size + (taps * self.panels + 1) * self.width + self.lanes


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    lanes = instruction_set().lanes(problem.dtype)
    filters, vectors, width = _best_block(problem, problem.output_height * problem.output_width, lanes)
    band = best_band(problem, ceil_div(width, lanes), lanes, step=1, reach=2 * lanes)
    pixels = band.rows * band.columns
    filters, vectors, width = _best_block(problem, pixels, lanes)
    panel_bytes = problem.taps * width * ITEM_SIZE[problem.dtype]
    blocks = ceil_div(problem.group_filters, filters)
    positions, weights = bands(problem, band.rows) * segments(problem, band), blocks * filters * problem.taps
    unit_blocks, together = units_of_filters(problem, blocks, positions, weights)
    return Blocking(
        filters=filters,
        vectors=vectors,
        width=width,
        lanes=lanes,
        blocks=blocks,
        unit_blocks=unit_blocks,
        together=together,
        band=band,
        panels=max(1, min(tuning().panels_bytes // panel_bytes, ceil_div(pixels, width))),
        grid=band.grid(problem, ceil_div(blocks, unit_blocks)),
    )


def _best_block(problem: Problem, pixels: int, lanes: int) -> tuple[int, int, int]:
    """Filters, vectors and width of the register block of least estimated cost, see `host.make_tile`."""
    filters, vectors, _ = best_block(problem.group_filters, 1, pixels, lanes)
    width = vectors * lanes
    blocks = ceil_div(problem.group_filters, filters) * ceil_div(pixels, width)
    across, most, cycles = best_block_across(problem.group_filters, pixels, lanes, problem.taps, far=False, rests=False)
    if blocks * block_cycles(filters, vectors, problem.taps) <= cycles or across * lanes == most:
        return filters, vectors, width
    return across * lanes, across, most
