"""The work of a call of direct convolution on the host, counted."""

from __future__ import annotations

from typing import Final

from convbench.algorithms import Cost
from convbench.algorithms.direct import columns, filters, filters_cut, pixels, product
from convbench.algorithms.direct.host import way
from convbench.integers import ceil_div
from convbench.kernels.counting import added, of_bands, of_blocks, of_filter_blocks, of_weights, of_whole, shares
from convbench.problem import ITEM_SIZE, Problem


def of_pixels(problem: Problem) -> Cost:
    """Register blocks with all their taps; the filling of bands; and the weights, read once for each row of blocks."""
    cut, item = pixels.blocking(problem), ITEM_SIZE[problem.dtype]
    rows, columns, groups = problem.output_height, problem.output_width, problem.batch * problem.groups
    blocks = groups * pixels.blocks_of_an_image(problem, cut.vectors, cut.lanes, cut.edge) * cut.blocks
    passes = groups * ceil_div(rows, cut.vectors) * cut.grid.segments
    of_block = cut.filters * problem.taps
    return Cost(
        {
            **of_whole(problem, cut.grid.units),
            **of_bands(problem, cut.band, cut.grid.units // cut.together),
            **of_blocks(blocks, problem.taps, cut.filters, cut.vectors),
            "rows of taps": blocks * problem.group_channels * problem.kernel_height,
            **of_weights(
                passes * cut.blocks * of_block, min(cut.blocks, cut.together * cut.unit_blocks) * of_block, item
            ),
        },
        cut.grid.units,
        shares(cut.grid, (rows, cut.band.rows), (columns, cut.band.columns), (cut.blocks, cut.unit_blocks)),
    )


def rows_inside(problem: Problem) -> float:
    """The share of kernel rows that lie inside of the image, over all rows of outputs; the others are left out."""
    rows, stride, top = problem.output_height, problem.stride[0], problem.padding[0][0]
    starts = [top - row * problem.dilation[0] for row in range(problem.kernel_height)]
    inside = sum(
        min(rows, max(0, ceil_div(start + problem.height, stride))) - min(rows, max(0, ceil_div(start, stride)))
        for start in starts
    )
    return inside / (rows * problem.kernel_height)


def of_filters(problem: Problem) -> Cost:
    """Register blocks with all their taps and their transposition; padding; and the weights, read for each block."""
    cut, item = filters_cut.blocking(problem), ITEM_SIZE[problem.dtype]
    grid = cut.grid(problem)
    across = ceil_div(cut.width, cut.pixels)
    blocks = problem.batch * problem.groups * cut.height * across * cut.blocks
    of_block, share = cut.filters * problem.taps, rows_inside(problem)
    planes = {filters_cut.INPUT: 0, filters_cut.PLANES: problem.batch * problem.channels}
    rows = planes.get(cut.source, grid.units * problem.group_channels) * cut.planes.height
    return Cost(
        {
            **of_whole(problem, grid.units),
            **of_filter_blocks(blocks, problem.taps * share, cut.vectors, cut.width / across),
            "rows of taps": blocks * problem.group_channels * problem.kernel_height * share,
            "padded rows": rows,
            "padded bytes": rows * cut.planes.width * item,
            **of_weights(blocks * of_block, of_block, item),
        },
        grid.units,
        shares(grid, (cut.height, cut.rows), (cut.width, cut.columns), (cut.blocks, cut.unit_blocks)),
    )


def of_product(problem: Problem) -> Cost:
    """Register blocks with all their taps; and the weights, read for each column of blocks, of some in a row nearby."""
    cut, item = product.blocking(problem), ITEM_SIZE[problem.dtype]
    grid, pixels_of_image = cut.grid(problem), problem.height * problem.width
    columns = problem.batch * problem.groups * ceil_div(pixels_of_image, cut.vectors * cut.lanes)
    of_block = cut.filters * problem.taps
    of_column, afar = cut.blocks * of_block, ceil_div(columns, cut.pieces)
    return Cost(
        {
            **of_whole(problem, grid.units),
            **of_blocks(columns * cut.blocks, problem.taps, cut.filters, cut.vectors),
            **added(
                of_weights(afar * of_column, of_column, item),
                of_weights((columns - afar) * of_column, of_block, item),
            ),
        },
        grid.units,
        shares(grid, (1, 1), (pixels_of_image, cut.columns), (cut.blocks, cut.unit_blocks)),
    )


COUNTS: Final = {columns: columns.cost, product: of_product, pixels: of_pixels, filters: of_filters}


def cost(problem: Problem) -> Cost:
    """The work of the way that the problem is computed in."""
    return COUNTS[way(problem)](problem)
