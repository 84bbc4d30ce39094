"""Partition of a problem into units (bands of rows, segments of columns, filter blocks), and weight packing."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.epilogue import Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.band import Layout, layout
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import LINE
from convbench.problem import ITEM_SIZE, Problem

CUTS: Final = 256  # cached cuts of each form: choosing and making a plan need the cut of a problem several times
UNITS: Final = 32  # minimum number of units of a large enough problem, for load balance among many workers
MOST_UNITS: Final = 128  # the same where units remain long: on 16 workers, 34 units leave a quarter of the time unused
LONG: Final = 2**26  # multiply-adds of a long unit, about a millisecond
FILTERS: Final = 64  # minimum number of filters of a unit, to amortise filling the band
FINE_UNITS: Final = 512  # units of a problem whose units for the same pixels are claimed together, but for the last
FINE_FILTERS: Final = 32  # minimum number of filters of these
SHORT: Final = 2**20  # multiply-adds of these, some twenty microseconds
NEAR: Final = 2**19  # bytes of weights that stay in the second-level cache while a unit reads them again and again
SEGMENT: Final = 8  # minimum number of adjacent register blocks in a row of a unit, for the same reason
SPLIT: Final = 1.5  # times the taps of a part: fewer are not split
PIECE_BYTES: Final = 2**20  # maximum size of the weights that are transformed at a time
PACKING_BYTES: Final = 4 * PIECE_BYTES  # memory for that: source, two intermediate arrays, and result


def best_band(problem: Problem, vectors: int, lanes: int, *, step: int, reach: int) -> Layout:
    """The largest bands that fit the cache and still give enough units.

    Args:
        problem: The problem to partition.
        vectors: Vectors of a register block.
        lanes: Elements of a vector.
        step: Maximum number of rows of a register block; bands with fewer rows are padded for its reads.
        reach: Columns after the last output column that a vector may read.
    """
    height, columns = problem.output_height, problem.output_width
    units = max(UNITS, min(MOST_UNITS, problem.multiply_adds // LONG))
    enough = max(1, height * problem.batch * problem.groups // units)
    least = min(step, height)

    def needed(more: int) -> int:
        """Bytes of a band of so many more steps; more rows never need less."""
        return layout(problem, least + more * step, columns, lanes, step, reach).size * ITEM_SIZE[problem.dtype]

    more = range(1, (min(enough, height) - least) // step + 1)
    rows = least + step * bisect.bisect_right(more, tuning().band_bytes, key=needed)
    found = layout(problem, rows, columns, lanes, step, reach)
    width = vectors * lanes
    segments = max(1, min(ceil_div(UNITS, bands(problem, rows)), columns // (SEGMENT * width)))
    if segments > 1 and rows <= step:
        columns = ceil_div(columns, segments * width) * width  # whole register blocks in all segments but the last
        found = layout(problem, rows, columns, lanes, step, reach)
    return found


def bands(problem: Problem, rows: int) -> int:
    """Number of bands of `rows` output rows in all images and groups."""
    return problem.batch * problem.groups * ceil_div(problem.output_height, rows)


def segments(problem: Problem, band: Layout) -> int:
    """Number of segments in a row of outputs."""
    return ceil_div(problem.output_width, band.columns)


def units_of_filters(problem: Problem, blocks: int, positions: int, weights: int) -> tuple[int, int]:
    """Register blocks of filters in a unit, and how many units for the same pixels are claimed together.

    A unit has few filters where `positions`, the units for one filter block, are few. Where `weights`, the elements of
    the packed weights of all filters, stay near, units are smaller still, for the end of a call, when workers wait for
    the last one. Before that a worker claims all of a position, and a tile computes them as one (`grid.at_position`);
    the last two or three positions of each worker's share are filled anew for parts of their filters.
    """
    parts = max(1, min(UNITS // positions, problem.group_filters // FILTERS))
    if weights * ITEM_SIZE[problem.dtype] > NEAR:
        return ceil_div(blocks, parts), 1
    units = min(FINE_UNITS, problem.multiply_adds // SHORT)
    unit_blocks = ceil_div(blocks, max(parts, min(units // positions, problem.group_filters // FINE_FILTERS)))
    return unit_blocks, ceil_div(blocks, unit_blocks)


def columns_of_unit(width: int, pixels: int, parts: int) -> int:
    """Columns of a unit of a row in so many parts at most: whole register blocks, and one at least at the row's end."""
    across = ceil_div(width, pixels)
    blocks = ceil_div(across, min(across, parts))
    while blocks * pixels < width and 0 < width % (blocks * pixels) < pixels:
        blocks += 1
    return min(width, blocks * pixels)


def part_of_taps(taps: int, most: int) -> int:
    """Taps of a part, of about equal ones of at most `most`; 0, for not splitting them, where it saves nothing."""
    return ceil_div(taps, ceil_div(taps, most)) if 0 < SPLIT * most < taps else 0


def packed_size(problem: Problem, filters: int) -> int:
    """Elements of the array that `pack_weights` returns, including the biases."""
    return problem.groups * round_up(problem.group_filters, filters) * (problem.taps + 1)


def with_tail(shape: tuple[int, ...], tail: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Allocate packed weights followed by other constants.

    Args:
        shape: Shape of the packed weights.
        tail: The constants that follow, such as biases; its dtype is that of the whole array.

    Returns:
        The whole array, 1-D, aligned to a cache line, and a view of its packed weights, of `shape`, with undefined
        content.
    """
    size = math.prod(shape)
    everything = empty_lines(size + tail.size, tail.dtype)
    everything[size:] = tail.ravel()
    return everything, everything[:size].reshape(shape)


def empty_lines(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Allocate an array, 1-D, of undefined content, aligned to a cache line."""
    memory = np.empty(size + LINE // dtype.itemsize, dtype)
    begin = -memory.ctypes.data % LINE // dtype.itemsize
    return memory[begin : begin + size]


def pack_weights(
    problem: Problem, weights: NDArray[Any], filters: int, epilogue: Epilogue, *, by_rows: bool = False
) -> NDArray[Any]:
    """Pack weights in the order in which the micro-kernel reads them; the last block of a group is padded with zeros.

    Args:
        problem: The problem that the weights belong to.
        weights: Shape `problem.weights_shape`.
        filters: Filters of a register block.
        epilogue: The epilogue whose biases follow the weights.
        by_rows: Whether taps go by kernel row and then by channel, not the other way round.

    Returns:
        1-D: weights of shape (groups, blocks, taps, filters), then biases of shape (groups, blocks, filters).
    """
    whole, rest = divmod(problem.group_filters, filters)
    blocks = whole + (rest > 0)
    biases = epilogue.biases(problem, blocks * filters)
    given = weights.reshape(problem.groups, problem.group_filters, *weights.shape[1:])
    given = given.swapaxes(2, 3) if by_rows else given
    taps = given.shape[2:]
    everything, packed = with_tail((problem.groups, blocks, *taps, filters), biases)
    packed[:, :whole] = np.moveaxis(given[:, : whole * filters].reshape(problem.groups, whole, filters, *taps), 2, -1)
    if rest:
        packed[:, whole] = 0
        packed[:, whole, ..., :rest] = np.moveaxis(given[:, whole * filters :], 1, -1)
    return everything


def pieces(rows: int, columns: int, each: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of a matrix with `each` bytes an entry: at most `PIECE_BYTES`, or a single entry if that is larger."""
    across = max(1, min(columns, PIECE_BYTES // each))
    down = max(1, PIECE_BYTES // (each * across))
    for row in range(0, rows, down):
        for column in range(0, columns, across):
            yield slice(row, min(rows, row + down)), slice(column, min(columns, column + across))
