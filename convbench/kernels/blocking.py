"""Cutting a problem into units: bands of rows, segments of columns and blocks of filters; weights packed to match."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.epilogue import Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.band import Layout, layout
from convbench.kernels.tuning import tuning
from convbench.problem import ITEM_SIZE, Problem

UNITS: Final = 32  # at least, where the problem is large enough, so that many workers finish together
FILTERS: Final = 64  # of a unit, at least, so that filling the band is little beside using it
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
        if larger.size * ITEM_SIZE[problem.dtype] > tuning().band_bytes:
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


def blocks_of_a_unit(problem: Problem, blocks: int, positions: int) -> int:
    """Register blocks of filters in a unit, so that there are enough units even where images have few `positions`."""
    parts = max(1, min(UNITS // positions, problem.group_filters // FILTERS))
    return ceil_div(blocks, parts)


def packed_size(problem: Problem, filters: int) -> int:
    """Numbers in what `pack_weights` returns, and a bias for each filter behind them."""
    return problem.groups * round_up(problem.group_filters, filters) * (problem.taps + 1)


def with_tail(shape: tuple[int, ...], tail: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Room for packed weights with something behind them.

    Args:
        shape: Of the packed weights.
        tail: What stands behind them, such as biases, of the dtype of all.

    Returns:
        All of it, 1-D, and the packed weights, undefined, as a view of it of `shape`.
    """
    size = math.prod(shape)
    everything = np.empty(size + tail.size, tail.dtype)
    everything[size:] = tail.ravel()
    return everything, everything[:size].reshape(shape)


def pack_weights(problem: Problem, weights: NDArray[Any], filters: int, epilogue: Epilogue) -> NDArray[Any]:
    """Weights in the order in which the micro-kernel reads them, with zeros where a group runs out of filters.

    Args:
        problem: Whose weights they are.
        weights: Shape `problem.weights_shape`.
        filters: Of a register block.
        epilogue: Whose biases stand behind the weights.

    Returns:
        1-D: weights of shape (groups, blocks, taps, filters), then biases of shape (groups, blocks, filters).
    """
    whole, rest = divmod(problem.group_filters, filters)
    blocks = whole + (rest > 0)
    biases = epilogue.biases(problem, blocks * filters)
    everything, packed = with_tail((problem.groups, blocks, problem.taps, filters), biases)
    given = weights.reshape(problem.groups, problem.group_filters, problem.taps)
    filled = given[:, : whole * filters].reshape(problem.groups, whole, filters, problem.taps)
    packed[:, :whole] = filled.swapaxes(2, 3)
    if rest:
        packed[:, whole] = 0
        packed[:, whole, :, :rest] = given[:, whole * filters :].swapaxes(1, 2)
    return everything


def pieces(rows: int, columns: int, each: int) -> Iterator[tuple[slice, slice]]:
    """A matrix cut into parts of at most `PIECE_BYTES`, if a single entry, which takes `each`, is not more."""
    across = max(1, min(columns, PIECE_BYTES // each))
    down = max(1, PIECE_BYTES // (each * across))
    for row in range(0, rows, down):
        for column in range(0, columns, across):
            yield slice(row, min(rows, row + down)), slice(column, min(columns, column + across))
