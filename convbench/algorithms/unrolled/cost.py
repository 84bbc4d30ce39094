"""The work of a call of unrolled convolution on the host, counted."""

from __future__ import annotations

from functools import partial

from convbench.algorithms import Cost
from convbench.algorithms.unrolled.cut import blocking
from convbench.integers import ceil_div
from convbench.kernels.counting import of_bands, of_blocks, of_filter_blocks, of_weights, of_whole, parts, shares
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """Panels that are unrolled, register blocks over them, and the weights, read once for each set of panels."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    rows, columns = problem.output_height, problem.output_width
    panels = sets = lines = 0
    for height, bands in parts(rows, cut.band.rows):
        for width, segments in parts(columns, cut.band.columns):
            count, of_band = bands * segments, ceil_div(height * width, cut.width)
            panels += count * of_band
            sets += count * ceil_div(of_band, cut.panels)
            lines += count * (of_band + height)
    images, blocks = problem.batch * problem.groups, cut.grid.filter_blocks // cut.together
    of_block_kind = (
        partial(of_filter_blocks, vectors=cut.vectors, pixels=cut.width)
        if cut.is_across
        else partial(of_blocks, filters=cut.filters, vectors=cut.vectors)
    )
    of_block = cut.filters * problem.taps
    return Cost(
        {
            **of_whole(problem, cut.grid.units),
            **of_bands(problem, cut.band, cut.grid.units // cut.together),
            **of_block_kind(images * panels * cut.blocks, problem.taps),
            "unrolled vectors": images * panels * blocks * problem.taps * ceil_div(cut.width, cut.lanes),
            "unrolled rows": images * lines * blocks * problem.taps,
            **of_weights(
                images * sets * cut.blocks * of_block, min(cut.blocks, cut.together * cut.unit_blocks) * of_block, item
            ),
        },
        cut.grid.units,
        shares(cut.grid, (rows, cut.band.rows), (columns, cut.band.columns), (cut.blocks, cut.unit_blocks)),
    )
