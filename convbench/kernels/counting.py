"""Counts of the work that forms have in common, for the cost of a call: vector operations, and bytes that move."""

from __future__ import annotations

import math

from convbench.kernels.band import Layout
from convbench.kernels.grid import Grid
from convbench.problem import ITEM_SIZE, Problem


def of_arrays(problem: Problem) -> dict[str, float]:
    """Bytes of input, weights and output: each is read or written at least once."""
    item = ITEM_SIZE[problem.dtype]
    return {
        "input bytes": math.prod(problem.input_shape) * item,
        "weight bytes": math.prod(problem.weights_shape) * item,
        "output bytes": math.prod(problem.output_shape) * item,
    }


def of_bands(band: Layout, grid: Grid, item: int) -> dict[str, float]:
    """Bytes and rows that are copied to bands; every filter block copies its own; `item` bytes an element."""
    rows = grid.units * band.channels * band.y.size
    return {"band bytes": rows * band.x.size * item, "band rows": rows}


def of_blocks(blocks: int, taps: int, filters: int, vectors: int) -> dict[str, float]:
    """What register blocks of filters x vectors count up to: each has a multiply-add for each of its sums and taps."""
    return {
        "multiply-adds": blocks * taps * filters * vectors,
        "loads": blocks * taps * (filters + 2 * vectors),
        "register blocks": blocks,
    }
