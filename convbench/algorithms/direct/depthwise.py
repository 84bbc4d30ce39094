"""Depthwise convolution on the host: every filter reads one channel.

A unit is some planes of the output (a filter of an image each), or a band or a segment of them. The micro-kernels read
the input where it lies, so that there is no scratch. Small kernels are computed by columns of vectors whose weights are
in registers (`kernels.depthwise`), others by register blocks (`kernels.depthwise_block`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.algorithms.direct.depthwise_tiles import Parameters
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS, UNITS
from convbench.kernels.counting import of_blocks, of_weights, of_whole, shares
from convbench.kernels.fields import pack
from convbench.kernels.grid import Grid
from convbench.kernels.tile import Phase, TileName, Work
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("product and store",)

FILTERS: Final = 4  # maximum number of filters that read a channel; more of them share loads in a block of filters
SPAN: Final = 2**12  # maximum number of columns that a filter spans, for which the weights end with zeros
SHARED: Final = 4  # maximum steps, in lines, at which neighbouring output rows share lines; each is a tile of its own
LEAST: Final = 2**12  # cycles of a unit, so that claiming it costs little ...
MOST: Final = 2**15  # ... and that no worker waits long for the last one
BAND_BYTES: Final = 2**14  # input of a band: neighbouring columns of vectors find it in the first-level cache

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
        rows: Output rows of a register block; 0 for columns of vectors.
        vectors: Vectors in a row of a register block.
        kernel: How the kernel's rows are unrolled.
    """

    cycles: int
    rows: int
    vectors: int
    kernel: Kernel


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        cut: How planes are computed.
        lanes: Elements of a vector; fewer than the processor's for narrow outputs.
        column_step: Columns of the input from one output to the next.
        planes: Planes of a unit.
        band: Output rows of a band.
        segment: Output columns of a segment.
        grid: Grid of the units.
    """

    cut: Cut
    lanes: int
    column_step: int
    planes: int
    band: int
    segment: int
    grid: Grid


def suits(problem: Problem) -> bool:
    """Whether a problem is depthwise, and this module computes it."""
    return (
        problem.group_channels == 1
        and problem.group_filters <= FILTERS
        and _steps(problem)[1] <= 2  # noqa: PLR2004  # further columns apart, shuffles do not separate them
        and (problem.kernel_width - 1) * problem.dilation[1] <= SPAN
        and instruction_set().has_masks
    )


def _steps(problem: Problem) -> tuple[int, int]:
    """The strides, as far as there are several outputs."""
    sizes = (problem.output_height, problem.output_width)
    return (problem.stride[0] if sizes[0] > 1 else 1, problem.stride[1] if sizes[1] > 1 else 1)


def cuts(problem: Problem, lanes: int) -> list[Cut]:
    """The ways to compute the planes of a problem."""
    size, (stride, column_step) = problem.kernel_height, _steps(problem)
    step = math.gcd(stride, problem.dilation[0]) if size > 1 else stride
    row_step, tap_step = stride // step, problem.dilation[0] // step if size > 1 else 1
    found, area = [], size * problem.kernel_width
    if (
        min(row_step, tap_step) == 1
        and row_step <= SHARED
        and (column_step == 1 or problem.dilation[1] == 1)
        and area + ceil_div(size, row_step) + 2 <= tuning().registers
    ):
        kernel = Kernel(1, size, 0, row_step, tap_step, step)
        found.append(Cut(_cycles_of_columns(problem, kernel, lanes), 0, 1, kernel))
    if size == 1 or max(row_step, tap_step) > SHARED:
        kernel = Kernel(size, 1, 0, 1, 1, stride)
    else:
        taps = ceil_div(size, ceil_div(size, tuning().kernel_rows))
        kernel = Kernel(size // taps, taps, size % taps, row_step, tap_step, step)
    for rows, vectors in BLOCKS:
        if rows * vectors + kernel.taps + 2 <= tuning().registers:
            found.append(Cut(_cycles_of_blocks(problem, kernel, rows, vectors, lanes), rows, vectors, kernel))
    return found


def _cycles_of_columns(problem: Problem, kernel: Kernel, lanes: int) -> int:
    """Estimated cycles of a plane by columns of vectors."""
    lines = min(problem.height, problem.output_height * kernel.row_step + kernel.taps - kernel.row_step)
    area = kernel.taps * problem.kernel_width
    line = LINE + max(area / kernel.row_step, problem.kernel_width * LOAD * (1 + (_steps(problem)[1] > 1) / 2))
    return round(ceil_div(problem.output_width, lanes) * (COLUMN + lines * line))


def _cycles_of_blocks(problem: Problem, kernel: Kernel, rows: int, vectors: int, lanes: int) -> int:
    """Estimated cycles of a plane by register blocks."""
    blocks = ceil_div(problem.output_height, rows) * ceil_div(problem.output_width, vectors * lanes)
    lines = len({row * kernel.row_step + tap * kernel.tap_step for row in range(rows) for tap in range(kernel.taps)})
    loads = lines * vectors * _steps(problem)[1] * LOAD + kernel.taps
    column = max(kernel.taps * max(rows * vectors, LATENCY), loads)
    groups = problem.kernel_height / kernel.taps
    return round(blocks * (BLOCK + groups * (lines * LINE + problem.kernel_width * column)))


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    full, item = instruction_set().lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    height, width, planes = problem.output_height, problem.output_width, problem.batch * problem.out_channels
    lanes = min(full, max(16 // item, 1 << (width - 1).bit_length()))
    cut = min(cuts(problem, lanes), key=lambda cut: cut.cycles)
    together = max(ceil_div(LEAST, cut.cycles), min(planes // UNITS, MOST // cut.cycles), 1)
    parts = min(ceil_div(UNITS, planes), max(1, cut.cycles // LEAST))  # of a plane
    whole = ceil_div(height, cut.rows) if cut.rows else height  # rows of register blocks
    small = ceil_div(problem.height * problem.width * item, BAND_BYTES) if not cut.rows else 1
    down = min(max(parts, small), whole)
    band = ceil_div(whole, down) * max(1, cut.rows)
    across = min(ceil_div(parts, down), ceil_div(width, cut.vectors * lanes))
    segment = ceil_div(ceil_div(width, cut.vectors * lanes), across) * cut.vectors * lanes
    grid = Grid(1, ceil_div(planes, together), ceil_div(height, band), ceil_div(width, segment), 1)
    return Blocking(cut, lanes, _steps(problem)[1], together, band, segment, grid)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights in the order of the micro-kernel, followed by biases and zeros."""
    found, kernel = blocking(problem), blocking(problem).cut.kernel
    interleaved = 1 if found.cut.rows else kernel.tap_step
    parameters = Parameters(
        grid=found.grid,
        planes=found.planes,
        cached=max(1, BAND_BYTES // (problem.height * problem.width * ITEM_SIZE[problem.dtype])),
        filters=problem.group_filters,
        rows=found.band,
        columns=found.segment,
        row_stride=problem.stride[0],
        top=problem.padding[0][0],
        left=problem.padding[1][0],
        line_step=kernel.line_step * interleaved,
        interleaved=interleaved,
        group_step=kernel.taps * problem.dilation[0],
        tap_groups=kernel.groups,
        kernel_columns=problem.kernel_width,
        pairs=problem.kernel_width // 2 if found.column_step > 1 and problem.dilation[1] == 1 else 0,
        dilation=problem.dilation[1],
        taps=problem.taps,
        biases=problem.out_channels * problem.taps,
        zeros=problem.out_channels * (problem.taps + 1),
        relu=epilogue.relu,
    )
    return Work(
        phases=(Phase(_tile(problem), found.grid.units, pack(parameters), STAGES),),
        weights=packed(problem, weights, epilogue),
        errors=of_sums(problem),
        variant={
            "register block": f"{found.cut.rows or 'column'} x {found.cut.vectors} x {found.lanes}",
            "planes": found.planes,
            "units": found.grid.units,
        },
    )


def _tile(problem: Problem) -> TileName:
    """The tile for the blocking of a problem."""
    found, kernel, module = blocking(problem), blocking(problem).cut.kernel, "convbench.algorithms.direct.depthwise_tiles"
    if not found.cut.rows:
        constants = (kernel.taps, problem.kernel_width, kernel.row_step, found.column_step, found.lanes)
        return TileName(module, "make_columns_tile", constants)
    block = (found.cut.rows, found.cut.vectors, kernel.taps, kernel.rest, kernel.row_step, kernel.tap_step)
    return TileName(module, "make_blocks_tile", (*block, found.column_step, found.lanes))


def packed(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> NDArray[Any]:
    """1-D: each filter's weights by group of kernel rows, kernel column, kernel row; then biases, and zeros."""
    kernel, filters = blocking(problem).cut.kernel, problem.out_channels
    everything = np.zeros(_packed_size(problem), problem.dtype)
    target = everything[: filters * problem.taps].reshape(filters, problem.taps)
    given = weights.reshape(filters, problem.kernel_height, problem.kernel_width)
    split = kernel.groups * kernel.taps
    for begin, end, taps in ((0, split, kernel.taps), (split, problem.kernel_height, kernel.rest)):
        if taps:
            rows = given[:, begin:end].reshape(filters, -1, taps, problem.kernel_width)
            size = (begin * problem.kernel_width, end * problem.kernel_width)
            target[:, slice(*size)] = rows.swapaxes(2, 3).reshape(filters, -1)
    everything[filters * problem.taps :][:filters] = epilogue.biases(problem, problem.group_filters).ravel()
    return everything


def _packed_size(problem: Problem) -> int:
    found = blocking(problem)
    zeros = (problem.kernel_width - 1) * problem.dilation[1] + found.column_step * found.cut.vectors * found.lanes
    return problem.out_channels * (problem.taps + 1) + zeros


def footprint(problem: Problem) -> Footprint:
    """The packed weights."""
    return Footprint(0, _packed_size(problem) * ITEM_SIZE[problem.dtype])


def cost(problem: Problem) -> Cost:
    """Register blocks with all their taps, and the weights."""
    found = blocking(problem)
    planes, height, width = problem.batch * problem.out_channels, problem.output_height, problem.output_width
    rows = found.cut.rows or height
    blocks = planes * ceil_div(height, rows) * ceil_div(width, found.cut.vectors * found.lanes)
    return Cost(
        {
            **of_whole(problem, found.grid.units),
            "band bytes": 0,
            "band rows": 0,
            **of_blocks(blocks, problem.taps, 1, rows * found.cut.vectors),
            "rows of taps": blocks * problem.kernel_height,
            **of_weights(blocks * problem.taps, problem.taps, ITEM_SIZE[problem.dtype]),
        },
        found.grid.units,
        shares(found.grid, (height, found.band), (width, found.segment), (1, 1)),
    )
