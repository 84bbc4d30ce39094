"""The work of a call with channels and filters in the lanes of vectors, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.winograd.filter_cut import FilterCut, cut_up, pass_operations
from convbench.integers import ceil_div
from convbench.kernels.counting import added, of_weights, of_whole, parts, shares
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """The transposing of the input, its transform, a matrix product for each point, and the output transform."""
    cut, item, grid = cut_up(problem), ITEM_SIZE[problem.dtype], cut_up(problem).grid
    of_bands = parts(problem.batch * cut.image_rows, cut.tile_rows)
    positions = problem.groups * grid.segments
    panels = positions * sum(count * ceil_div(rows * cut.tile_columns, cut.tiles) for rows, count in of_bands)
    registers, terms = panels * cut.blocks * cut.points, problem.group_channels * cut.y.blocks * cut.x.blocks
    rows = problem.groups * grid.bands * grid.segments * cut.channel_blocks * cut.lines
    of_block = cut.points * cut.filters * terms
    return Cost(
        {
            **of_whole(problem, grid.units),
            "multiply-adds": registers * terms * cut.vectors * cut.tiles,
            "loads": registers * terms * (cut.vectors + cut.tiles),
            "register blocks": registers,
            "transposed bytes": rows * cut.columns * cut.lanes * item,
            "band rows": rows,
            "shared bytes": cut.shared * (1 + cut.blocks) * item,
            **_transforms(problem, cut),
            **_stores(problem, cut),
            **added(
                of_weights(grid.positions * cut.blocks * of_block, cut.blocks * of_block, item),
                of_weights((panels - grid.positions) * cut.blocks * of_block, of_block // cut.points, item),
            ),
        },
        grid.units,
        shares(
            grid, (problem.batch * cut.image_rows, cut.tile_rows), (grid.segments, 1), (cut.blocks, cut.unit_blocks)
        ),
        other_operations=_operations(problem, cut),
    )


def _tiles(problem: Problem, cut: FilterCut) -> int:
    """Tiles of all images, groups and segments."""
    return problem.groups * problem.batch * cut.image_rows * cut.tile_columns * cut.grid.segments


def _operations(problem: Problem, cut: FilterCut) -> float:
    """Vector operations of the transforms."""
    y, x, vectors = cut.y, cut.x, ceil_div(problem.group_filters, cut.lanes)
    (in_y, out_y), (in_x, out_x) = (pass_operations(axis.outputs, axis.taps) for axis in (y, x))
    to_points, from_points = x.points * in_y + y.points * in_x, x.points * out_y + y.outputs * out_x
    return _tiles(problem, cut) * (cut.parts * to_points + vectors * from_points)


def _transforms(problem: Problem, cut: FilterCut) -> dict[str, float]:
    """Vector operations of the transforms, loads and stores included."""
    tiles, vectors = _tiles(problem, cut), ceil_div(problem.group_filters, cut.lanes)
    (in_y, out_y), (in_x, out_x) = (pass_operations(axis.outputs, axis.taps) for axis in (cut.y, cut.x))
    to_points = cut.x.points * in_y + cut.y.points * in_x + 2 * cut.points
    from_points = cut.x.points * out_y + cut.y.outputs * out_x + cut.points + cut.y.outputs * cut.x.outputs
    return {"input transforms": tiles * cut.parts * to_points, "output transforms": tiles * vectors * from_points}


def _stores(problem: Problem, cut: FilterCut) -> dict[str, float]:
    """Vectors that are copied from scratch to the output, and runs of them."""
    rows = problem.batch * problem.out_channels * problem.output_height
    if cut.grid.segments > 1:
        return {
            "stored vectors": rows * cut.grid.segments * ceil_div(cut.tile_columns * cut.x.outputs, cut.lanes),
            "stored rows": rows * cut.grid.segments,
        }
    runs = max(cut.grid.bands, problem.batch) * problem.out_channels
    return {"stored vectors": runs * ceil_div(rows * problem.output_width, runs * cut.lanes), "stored rows": runs}
