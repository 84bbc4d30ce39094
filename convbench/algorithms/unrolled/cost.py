"""The work of a call of unrolled convolution on the host, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.unrolled.host import blocking
from convbench.integers import ceil_div
from convbench.kernels.counting import of_arrays, of_bands, of_blocks
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """Panels that are unrolled, register blocks over them, and the weights, read once for each set of panels."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    pixels = min(cut.band.rows, problem.output_height) * min(cut.band.columns, problem.output_width)
    panels = ceil_div(pixels, cut.width)
    all_panels = cut.grid.positions * panels
    sets = cut.grid.positions * ceil_div(panels, cut.panels)
    return Cost(
        {
            **of_arrays(problem),
            **of_bands(cut.band, cut.grid, item),
            **of_blocks(all_panels * cut.blocks, problem.taps, cut.filters, cut.vectors),
            "unrolled vectors": all_panels * cut.grid.filter_blocks * problem.taps * cut.vectors,
            "unrolled rows": all_panels * cut.grid.filter_blocks * problem.taps,
            "weight bytes read": sets * cut.blocks * cut.filters * problem.taps * item,
        },
        cut.grid.units,
    )
