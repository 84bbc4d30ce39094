"""The work of a call of convolution by Fourier transforms on the host, counted."""

from __future__ import annotations

import math

from convbench.algorithms import Cost
from convbench.algorithms.fft.cut import cut_up
from convbench.kernels.counting import of_whole
from convbench.kernels.fourier import operations
from convbench.problem import ITEM_SIZE, Problem


def cost(problem: Problem) -> Cost:
    """The filling of bands, transforms of tiles in both directions, and a product for each channel and filter."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    y, x, grid = cut.y, cut.x, cut.grid
    numbers, terms = y.size * x.size, problem.group_channels * y.blocks * x.blocks
    tiles = grid.positions * cut.tiles
    steps = numbers / cut.lanes * math.log2(numbers)
    transforms = tiles * (grid.filter_blocks * terms + problem.group_filters)
    products = tiles * terms * problem.group_filters * numbers / cut.lanes
    return Cost(
        {
            **of_whole(problem, grid.units),
            "band bytes": grid.units * problem.group_channels * cut.input_rows * cut.row_stride * item,
            "input transforms": tiles * grid.filter_blocks * terms * steps,
            "products": products,
            "output transforms": tiles * problem.group_filters * steps,
            "tiles": tiles * problem.group_filters,
        },
        grid.units,
        other_operations=2 * products + transforms * _of_a_tile(y.size, x.size) / cut.lanes,
    )


def _of_a_tile(rows: int, columns: int) -> float:
    """Operations of the transform of a tile in one direction: its columns are real, and so of half the size."""
    return columns * operations(rows // 2) + rows // 2 * operations(columns)
