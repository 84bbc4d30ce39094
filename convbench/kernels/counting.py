"""Counts of the work that forms have in common, for the cost of a call: vector operations, and bytes that move."""

from __future__ import annotations

import itertools
import math
from typing import Final

from convbench.kernels.band import Layout
from convbench.kernels.grid import Grid
from convbench.problem import ITEM_SIZE, Problem


def of_whole(problem: Problem, units: int) -> dict[str, float]:
    """Bytes of input, weights and output, each of which is read or written at least once, and units."""
    item = ITEM_SIZE[problem.dtype]
    return {
        "units": units,
        "input bytes": math.prod(problem.input_shape) * item,
        "weight bytes": math.prod(problem.weights_shape) * item,
        "output bytes": math.prod(problem.output_shape) * item,
    }


def parts(length: int, size: int) -> list[tuple[int, int]]:
    """The lengths of the parts of an axis that is cut into parts of a size, and how many have each.

    The last part may be shorter. An axis may have more parts than a list could hold.
    """
    whole, rest = divmod(length, size)
    return [(part, count) for part, count in ((size, whole), (rest, 1)) if part and count]


MOST_SHARES: Final = 64
"""Units that are told apart; among more of them, those at the edges make no difference."""


def shares(grid: Grid, *axes: tuple[int, int]) -> tuple[float, ...]:
    """The share of each unit in the work, in the order of the grid; empty where there are more than `MOST_SHARES`.

    Args:
        grid: The grid of units.
        axes: Lengths of the grid's bands, segments and filter blocks together and of one; the last may be shorter.
    """
    if grid.units > MOST_SHARES:
        return ()
    bands, segments, blocks = (
        [part / length for part, count in parts(length, size) for _ in range(count)] for length, size in axes
    )
    one = [band * segment * block for band in bands for segment in segments for block in blocks]
    images = grid.images * grid.groups
    return tuple(share / images for share in one) * images


def of_bands(problem: Problem, band: Layout, fillings: int) -> dict[str, float]:
    """Bytes and rows that are copied to bands, `fillings` times.

    A row is copied run by run; where the runs are residue classes of a stride, numbers are gathered one by one.
    """
    item = ITEM_SIZE[problem.dtype]
    rows = fillings * band.channels * min(band.y.size, problem.height)
    copied = "band bytes" if band.x.step == 1 else "gathered bytes"
    return {
        copied: fillings * band.channels * band.y.size * band.x.size * item,
        "band rows": rows * len(band.x.starts),
    }


LEVELS: Final = ((2**19, "weight bytes from near"), (2**23, "weight bytes from afar"))
FURTHEST: Final = "weight bytes from memory"


def of_weights(numbers: float, between: float, item: int) -> dict[str, float]:
    """Bytes of packed weights that are read, by how far from the processor they are.

    Args:
        numbers: Numbers that are read.
        between: Numbers of weights that are read before the same ones are read again.
        item: Bytes of a number.
    """
    name = next((name for most, name in LEVELS if between * item <= most), FURTHEST)
    return {name: numbers * item}


def added(*counts: dict[str, float]) -> dict[str, float]:
    """The sum of counts, kind by kind."""
    return {kind: sum(each.get(kind, 0.0) for each in counts) for kind in dict.fromkeys(itertools.chain(*counts))}


def of_blocks(blocks: int, taps: float, filters: float, vectors: int) -> dict[str, float]:
    """What register blocks of filters x vectors count up to: each has a multiply-add for each of its sums and taps."""
    return {
        "multiply-adds": blocks * taps * filters * vectors,
        "loads": blocks * taps * (filters + 2 * vectors),
        "register blocks": blocks,
    }


def of_filter_blocks(blocks: int, taps: float, vectors: int, pixels: float) -> dict[str, float]:
    """Likewise with `vectors` of filters x pixels; the sums are transposed before they are stored."""
    return {
        "multiply-adds": blocks * taps * vectors * pixels,
        "broadcasts": blocks * taps * pixels,
        "register blocks": blocks,
        "transposed vectors": blocks * vectors * pixels,
    }
