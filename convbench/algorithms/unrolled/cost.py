"""The work of a call of unrolled convolution on the host, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.unrolled.host import blocking
from convbench.integers import ceil_div
from convbench.kernels.counting import of_bands, of_blocks, of_weights, of_whole
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """Panels that are unrolled, register blocks over them, and the weights, read once for each set of panels."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    pixels = min(cut.band.rows, problem.output_height) * min(cut.band.columns, problem.output_width)
    panels = ceil_div(pixels, cut.width)
    all_panels = cut.grid.positions * panels
    sets = cut.grid.positions * ceil_div(panels, cut.panels)
    of_block = cut.filters * problem.taps
    return Cost(
        {
            **of_whole(problem, cut.grid.units),
            **of_bands(problem, cut.band, cut.grid),
            **of_blocks(all_panels * cut.blocks, problem.taps, cut.filters, cut.vectors),
            "unrolled vectors": all_panels * cut.grid.filter_blocks * problem.taps * cut.vectors,
            "unrolled rows": cut.grid.units * (panels + ceil_div(pixels, problem.output_width)) * problem.taps,
            **of_weights(sets * cut.blocks * of_block, cut.unit_blocks * of_block, item),
        },
        cut.grid.units,
    )
