"""The work of a call of winograd convolution on the host, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.winograd.cut import cut_up, pass_costs
from convbench.integers import ceil_div
from convbench.kernels.counting import of_blocks, of_weights, of_whole
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """The filling of bands, the input transform, a matrix product for each point, and the output transform."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    y, x, units, positions = cut.y, cut.x, cut.grid.units, cut.grid.positions
    (in_y, out_y), (in_x, out_x) = (pass_costs(axis.outputs, axis.taps) for axis in (y, x))
    points, terms = y.points * x.points, problem.group_channels * y.blocks * x.blocks
    registers = ceil_div(cut.tile_rows * cut.tile_columns, cut.width)
    products = positions * registers * cut.blocks * points
    vectors = cut.tiles // cut.lanes
    to_points = problem.group_channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    of_block = points * cut.filters * terms
    stored_rows = positions * cut.blocks * cut.filters * cut.tile_rows * y.outputs
    return Cost(
        {
            **of_whole(problem, units),
            **of_blocks(products, terms, cut.filters, cut.vectors),
            "gathered bytes": units * problem.group_channels * cut.input_rows * cut.row_stride * item,
            "band rows": units * problem.group_channels * min(cut.input_rows, problem.height) * x.outputs,
            "input transforms": units * vectors * to_points,
            "output transforms": positions
            * registers
            * cut.vectors
            * cut.blocks
            * cut.filters
            * (x.points * out_y + y.outputs * out_x),
            "stored vectors": stored_rows * ceil_div(cut.tile_columns * x.outputs, cut.lanes),
            "stored rows": stored_rows,
            **of_weights(positions * cut.blocks * of_block, cut.unit_blocks * of_block, item),
            **of_weights(positions * (registers - 1) * cut.blocks * of_block, of_block, item),
        },
        units,
    )
