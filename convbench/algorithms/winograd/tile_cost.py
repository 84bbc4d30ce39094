"""The work of a call with tiles in the lanes of vectors, counted."""

from __future__ import annotations

from functools import cache

from convbench.algorithms import Cost
from convbench.algorithms.winograd.cut import Cut, cut_up, is_whole, pass_costs
from convbench.algorithms.winograd.terms import products
from convbench.integers import ceil_div
from convbench.kernels.counting import added, of_blocks, of_weights, of_whole, parts, shares
from convbench.kernels.linear_map import operations
from convbench.kernels.toom_cook import toom_cook
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """The filling of bands, the input transform, a matrix product for each point, and the output transform."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    y, x, units, positions = cut.y, cut.x, cut.grid.units, cut.grid.positions
    fillings = units // cut.together
    (in_y, out_y), (in_x, out_x) = (pass_costs(axis.outputs, axis.taps) for axis in (y, x))
    points = y.points * x.points
    terms = problem.group_channels * products(problem, y, x) / points
    tile_rows = ceil_div(problem.output_height, y.outputs)
    segments, filters = cut.grid.segments, cut.computed_filters
    images = problem.batch * problem.groups * segments
    of_bands = parts(tile_rows, cut.tile_rows)
    registers = images * sum(count * ceil_div(rows * cut.tile_columns, cut.width) for rows, count in of_bands)
    sums = registers * cut.blocks * points
    vectors = images * sum(count * ceil_div(rows * cut.tile_columns, cut.lanes) for rows, count in of_bands)
    to_points = problem.group_channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    from_points = x.points * out_y + y.outputs * out_x
    of_block = points * filters / cut.blocks * terms
    return Cost(
        {
            **of_whole(problem, units),
            **of_blocks(sums, terms, filters / cut.blocks, cut.vectors),
            "gathered bytes": fillings * problem.group_channels * cut.input_rows * cut.row_stride * item,
            "band rows": fillings * problem.group_channels * min(cut.input_rows, problem.height) * x.outputs,
            "input transforms": fillings // positions * vectors * to_points,
            "output transforms": registers * cut.vectors * problem.group_filters * from_points,
            **_of_stores(problem, cut, images * problem.group_filters * problem.output_height),
            **added(
                of_weights(
                    positions * cut.blocks * of_block, min(cut.blocks, cut.together * cut.unit_blocks) * of_block, item
                ),
                of_weights((registers - positions) * cut.blocks * of_block, of_block, item),
            ),
        },
        units,
        shares(cut.grid, (tile_rows, cut.tile_rows), (segments, 1), (cut.blocks, cut.unit_blocks)),
        other_operations=_of_transforms(problem, cut, vectors, registers * cut.vectors * problem.group_filters),
    )


def _of_stores(problem: Problem, cut: Cut, rows: int) -> dict[str, float]:
    """Vectors and rows that are copied from scratch: all, or the last tiles of rows that are written at once."""
    tiles = cut.tile_columns % cut.width if cut.fetched_lines else cut.tile_columns
    together = cut.y.outputs if is_whole(problem, cut) else 1
    return {
        "stored vectors": rows * ceil_div(tiles * cut.x.outputs, cut.lanes),
        "stored rows": rows * bool(tiles) / together,
    }


@cache
def _of_a_pass(outputs: int, taps: int) -> tuple[int, int]:
    """Vector operations of one pass of the input transform, and of one pass of the output transform."""
    algorithm = toom_cook(outputs, taps)
    return operations(algorithm.input), operations(algorithm.output)


def _of_transforms(problem: Problem, cut: Cut, inputs: int, outputs: int) -> float:
    """Vector operations of the transforms of so many vectors of inputs of a channel, and of sums."""
    y, x = cut.y, cut.x
    (in_y, out_y), (in_x, out_x) = (_of_a_pass(axis.outputs, axis.taps) for axis in (y, x))
    to_points = problem.group_channels * y.blocks * (x.outputs * in_y + x.blocks * y.points * in_x)
    fillings = cut.grid.filter_blocks // cut.together
    return fillings * inputs * to_points + outputs * (x.points * out_y + y.outputs * out_x)
