"""Cutting a problem into units: bands of rows, segments of columns and chunks of kernels; weights packed to match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.integers import ceil_div
from convbench.kernels.band import Layout, layout
from convbench.problem import ITEM_SIZE, Problem

BAND_BYTES: Final = 2**19  # of scratch for a band: a quarter of a common second-level cache
UNITS: Final = 32  # at least, where the problem is large enough, so that many workers finish together
CHUNK: Final = 64  # kernels of a unit, at least, so that filling the band is little beside using it
SEGMENT: Final = 8  # register blocks side by side in a unit, at least, for the same reason
PIECE_BYTES: Final = 2**20  # of weights that are transformed at a time
PACKING_BYTES: Final = 4 * PIECE_BYTES  # taken for it: what they are made from, two steps on the way, and the result


def best_band(problem: Problem, vectors: int, lanes: int, *, step: int, reach: int) -> Layout:
    """The bands that fit the cache and of which there are enough.

    Args:
        problem: What is computed.
        vectors: Of a register block.
        lanes: Of a vector.
        step: Rows that a register block may take at once; bands of less have room for what it reads too much of.
        reach: Columns that a vector may read behind the last one.
    """
    height, columns = problem.output_height, problem.output_width
    enough = max(1, height * problem.batch * problem.groups // UNITS)
    rows = min(step, height)
    found = layout(problem, rows, columns, lanes, step, reach)
    while rows + step <= min(enough, height):
        larger = layout(problem, rows + step, columns, lanes, step, reach)
        if larger.size * ITEM_SIZE[problem.dtype] > BAND_BYTES:
            break
        rows, found = rows + step, larger
    width = vectors * lanes
    segments = max(1, min(ceil_div(UNITS, bands(problem, rows)), columns // (SEGMENT * width)))
    if segments > 1 and rows <= step:
        columns = ceil_div(columns, segments * width) * width  # whole register blocks but for the last one
        found = layout(problem, rows, columns, lanes, step, reach)
    return found


def bands(problem: Problem, rows: int) -> int:
    """Bands of so many output rows in all images and groups."""
    return problem.batch * problem.groups * ceil_div(problem.output_height, rows)


def segments(problem: Problem, band: Layout) -> int:
    """How many of its columns' bands lie side by side."""
    return ceil_div(problem.output_width, band.columns)


def chunk_blocks(problem: Problem, blocks: int, parts: int) -> int:
    """Register blocks of kernels in a unit, so that there are enough units even where images have few `parts`."""
    chunks = max(1, min(UNITS // parts, problem.group_filters // CHUNK))
    return ceil_div(blocks, chunks)


def packed_bytes(problem: Problem, kernels: int) -> int:
    """What `pack_weights` returns takes."""
    blocks = ceil_div(problem.group_filters, kernels)
    return problem.groups * blocks * kernels * problem.taps * ITEM_SIZE[problem.dtype]


def pack_weights(problem: Problem, weights: NDArray[Any], kernels: int) -> NDArray[Any]:
    """Weights in the order in which the micro-kernel reads them, with zeros where a group runs out of kernels.

    Args:
        problem: Whose weights they are.
        weights: Shape `problem.weights_shape`.
        kernels: Of a register block.

    Returns:
        Shape (groups, blocks, taps, kernels).
    """
    group_kernels = problem.group_filters
    whole, rest = divmod(group_kernels, kernels)
    packed = np.zeros((problem.groups, whole + (rest > 0), problem.taps, kernels), weights.dtype)
    given = weights.reshape(problem.groups, group_kernels, problem.taps)
    blocks = given[:, : whole * kernels].reshape(problem.groups, whole, kernels, problem.taps)
    packed[:, :whole] = blocks.swapaxes(2, 3)
    if rest:
        packed[:, whole, :, :rest] = given[:, whole * kernels :].swapaxes(1, 2)
    return packed


def pieces(rows: int, columns: int, each: int) -> Iterator[tuple[slice, slice]]:
    """A matrix cut into parts of at most `PIECE_BYTES`, if a single entry, which takes `each`, is not more."""
    across = max(1, min(columns, PIECE_BYTES // each))
    down = max(1, PIECE_BYTES // (each * across))
    for row in range(0, rows, down):
        for column in range(0, columns, across):
            yield slice(row, min(rows, row + down)), slice(column, min(columns, column + across))
