"""The ways to compute planes down columns of vectors, or by register blocks, with an estimate of what each takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from convbench.integers import ceil_div
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem

SHARED: Final = 4  # maximum steps, in lines, at which neighbouring output rows share lines; each is a tile of its own
AREA: Final = 256  # maximum number of multiply-adds that are unrolled: taps of a channel times filters
FILTERS: Final = 16  # maximum number of filters side by side
WEIGHT_BYTES: Final = 2**20  # maximum size of the weights that are read again for each row
SPARE: Final = 4  # registers beside weights and sums: bias, limit, pixels ...
SPARE_IF_SHUFFLED: Final = 7  # ... and the indices of shuffles

BLOCKS: Final = (
    *((16, 1), (14, 1), (12, 1), (10, 1), (8, 1), (7, 1), (6, 1), (5, 1), (4, 1), (2, 1), (1, 1)),
    *((4, 2), (2, 4), (1, 8), (1, 4), (1, 2)),
)
"""Register blocks: rows, and vectors in a row."""

LATENCY: Final = 4  # cycles of a multiply-add, one of which begins in each cycle
LOAD: Final = 1.75  # cycles of loading a vector that is not aligned
BLOCK: Final = 100  # cycles to begin and to end a block
COLUMN: Final = 40  # likewise a column of vectors
LINE: Final = 2  # cycles of a line besides
NEAR_BYTES: Final = 2**15  # weights and lines of a step; with more ...
WAITS: Final = 1.1  # ... that come from the second-level cache, it takes so many times as long


@dataclass(frozen=True)
class Kernel:
    """How the rows of a kernel are unrolled: `groups * taps + rest`, and the steps between lines.

    Attributes:
        groups: Groups of kernel rows.
        taps: Kernel rows of a group.
        rest: Kernel rows after the last group.
        row_step: Lines from one output row to the next.
        tap_step: Lines from one kernel row to the next.
        line_step: Input rows of a line.
    """

    groups: int
    taps: int
    rest: int
    row_step: int
    tap_step: int
    line_step: int


@dataclass(frozen=True)
class Cut:
    """A way to compute planes.

    Attributes:
        cycles: Estimated cycles of a plane.
        filters: Filters of a plane, which are computed side by side.
        rows: Output rows of a register block; 0 for columns of vectors.
        vectors: Vectors in a row of a register block.
        kernel: How the kernel's rows are unrolled.
    """

    cycles: int
    filters: int
    rows: int
    vectors: int
    kernel: Kernel


def steps(problem: Problem) -> tuple[int, int]:
    """The strides, as far as there are several outputs."""
    sizes = (problem.output_height, problem.output_width)
    return (problem.stride[0] if sizes[0] > 1 else 1, problem.stride[1] if sizes[1] > 1 else 1)


def cuts(problem: Problem, lanes: int) -> list[Cut]:
    """The ways to compute the planes of a problem."""
    size, (stride, column_step) = problem.kernel_height, steps(problem)
    step = math.gcd(stride, problem.dilation[0]) if size > 1 else stride
    row_step, tap_step = stride // step, problem.dilation[0] // step if size > 1 else 1
    found, area, sums = [], size * problem.kernel_width, ceil_div(size, row_step)
    filters = filters_side_by_side(problem, sums)
    if (
        min(row_step, tap_step) == 1
        and row_step <= SHARED
        and (column_step == 1 or problem.dilation[1] == 1)
        and area * filters <= AREA
        and problem.group_channels * area * filters * ITEM_SIZE[problem.dtype] <= WEIGHT_BYTES
        and filters * sums + (SPARE if column_step == 1 else SPARE_IF_SHUFFLED) <= tuning().registers
    ):
        kernel = Kernel(1, size, 0, row_step, tap_step, step)
        found.append(Cut(_cycles_of_columns(problem, kernel, filters, lanes), filters, 0, 1, kernel))
    if problem.group_channels > 1:
        return found
    if not instruction_set().has_masks:  # which register blocks use for all that they load
        return found
    if size == 1 or max(row_step, tap_step) > SHARED:
        kernel = Kernel(size, 1, 0, 1, 1, stride)
    else:
        taps = ceil_div(size, ceil_div(size, tuning().kernel_rows))
        kernel = Kernel(size // taps, taps, size % taps, row_step, tap_step, step)
    for rows, vectors in BLOCKS:
        if rows * vectors + kernel.taps + 2 <= tuning().registers:
            found.append(Cut(_cycles_of_blocks(problem, kernel, rows, vectors, lanes), 1, rows, vectors, kernel))
    return found


def filters_side_by_side(problem: Problem, sums: int) -> int:
    """The filters of a group that share loads, for so many sums of each: a divisor of their number."""
    if problem.group_channels == 1:
        return 1
    room = min(
        FILTERS, (tuning().registers - SPARE_IF_SHUFFLED) // sums, AREA // (problem.taps // problem.group_channels)
    )
    return max((count for count in range(1, room + 1) if problem.group_filters % count == 0), default=1)


def _cycles_of_columns(problem: Problem, kernel: Kernel, filters: int, lanes: int) -> int:
    """Estimated cycles of a plane by columns of vectors."""
    lines = min(problem.height, problem.output_height * kernel.row_step + kernel.taps - kernel.row_step)
    area = kernel.taps * problem.kernel_width
    column_step, item = steps(problem)[1], ITEM_SIZE[problem.dtype]
    loads = problem.kernel_width * LOAD * (1 + (column_step > 1) / 2)
    sums = ceil_div(kernel.taps, kernel.row_step)  # of a filter, each of which all channels add to, one after the other
    waits = LATENCY * area / kernel.row_step / sums if problem.group_channels > 1 else 0
    line = LINE + problem.group_channels * max(area * filters / kernel.row_step, loads, waits)
    of_channel = area * filters + 2 * kernel.row_step * column_step * lanes  # and as many lines as are asked for ahead
    if problem.group_channels * of_channel * item > NEAR_BYTES:
        line *= WAITS
    return round(ceil_div(problem.output_width, lanes) * (COLUMN + lines * line))


def _cycles_of_blocks(problem: Problem, kernel: Kernel, rows: int, vectors: int, lanes: int) -> int:
    """Estimated cycles of a plane by register blocks."""
    blocks = ceil_div(problem.output_height, rows) * ceil_div(problem.output_width, vectors * lanes)
    lines = len({row * kernel.row_step + tap * kernel.tap_step for row in range(rows) for tap in range(kernel.taps)})
    loads = lines * vectors * steps(problem)[1] * LOAD + kernel.taps
    column = max(kernel.taps * max(rows * vectors, LATENCY), loads)
    groups = problem.kernel_height / kernel.taps
    return round(blocks * (BLOCK + groups * (lines * LINE + problem.kernel_width * column)))
