"""The work of a call of direct convolution on the host, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.direct import depthwise
from convbench.algorithms.direct.host import blocking
from convbench.integers import ceil_div
from convbench.kernels.counting import of_bands, of_blocks, of_weights, of_whole, shares
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """Register blocks with all their taps; the filling of bands; and the weights, read once for each row of blocks."""
    if depthwise.suits(problem):
        return depthwise.cost(problem)
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    rows, columns, groups = problem.output_height, problem.output_width, problem.batch * problem.groups
    edge = min(cut.edge, columns)
    wide = ceil_div(edge, cut.vectors * cut.lanes) * rows
    narrow = ceil_div(columns - edge, cut.lanes) * ceil_div(rows, cut.vectors)
    blocks = groups * (wide + narrow) * cut.blocks
    passes = groups * ceil_div(rows, cut.vectors) * cut.grid.segments
    of_block = cut.filters * problem.taps
    return Cost(
        {
            **of_whole(problem, cut.grid.units),
            **of_bands(problem, cut.band, cut.grid),
            **of_blocks(blocks, problem.taps, cut.filters, cut.vectors),
            "rows of taps": blocks * problem.group_channels * problem.kernel_height,
            **of_weights(passes * cut.blocks * of_block, cut.unit_blocks * of_block, item),
        },
        cut.grid.units,
        shares(cut.grid, (rows, cut.band.rows), (columns, cut.band.columns), (cut.blocks, cut.unit_blocks)),
    )
