"""Counts of the work that forms on bands have in common, for the cost of a call."""

from __future__ import annotations

import math

from convbench.kernels.band import Layout
from convbench.kernels.grid import Grid
from convbench.problem import Problem


def of_arrays(problem: Problem) -> dict[str, float]:
    """Elements of input, weights and output: each is read or written at least once."""
    return {
        "inputs": math.prod(problem.input_shape),
        "weights": math.prod(problem.weights_shape),
        "outputs": math.prod(problem.output_shape),
    }


def of_bands(band: Layout, grid: Grid) -> dict[str, float]:
    """Elements and rows that are copied to bands; every filter block copies its own."""
    rows = grid.units * band.channels * band.y.size
    return {"band elements": rows * band.x.size, "band rows": rows}


def of_blocks(blocks: int, taps: int, filters: int, vectors: int) -> dict[str, float]:
    """What register blocks of filters x vectors count up to: each has a multiply-add for each of its sums and taps."""
    return {
        "multiply-adds": blocks * taps * filters * vectors,
        "loads": blocks * taps * (filters + 2 * vectors),
        "register blocks": blocks,
    }
