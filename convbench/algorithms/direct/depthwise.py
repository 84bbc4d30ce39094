"""Depthwise convolution on the host: every filter reads one channel.

A unit is some planes of the output (a filter of an image each), or a band or a segment of one. The micro-kernel reads
the input where it lies, see `kernels.depthwise`, so that there is no scratch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS, UNITS
from convbench.kernels.clock import lap, ticks
from convbench.kernels.counting import of_blocks, of_weights, of_whole, shares
from convbench.kernels.depthwise import depthwise_block
from convbench.kernels.fields import pack, unpacker
from convbench.kernels.grid import Grid, locate
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
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

BLOCKS: Final = (
    *((16, 1), (14, 1), (12, 1), (10, 1), (8, 1), (7, 1), (6, 1), (5, 1), (4, 1), (2, 1), (1, 1)),
    *((4, 2), (2, 4), (1, 8), (1, 4), (1, 2)),
)
"""Register blocks: rows, and vectors in a row."""

LATENCY: Final = 4  # cycles of a multiply-add, one of which begins in each cycle
LOAD: Final = 1.75  # cycles of loading a vector that is not aligned
BLOCK: Final = 30  # cycles to begin and to end a block ...
LINE: Final = 2  # ... and for each of its lines, at least


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units; its groups are groups of planes.
        planes: Planes of a unit; the last group may have fewer.
        filters: Filters of a group, which read one channel.
        rows: Output rows of a band.
        columns: Output columns of a segment.
        row_stride: Vertical stride.
        top: Rows of padding above the image.
        left: Columns of padding left of the image.
        line_step: Input rows of a line, see `depthwise_block`.
        group_step: Input rows from one group of kernel rows to the next.
        tap_groups: Groups of kernel rows.
        kernel_columns: Columns of the kernel.
        pairs: Pairs of kernel columns that share loads.
        dilation: Horizontal dilation.
        taps: Weights of a filter.
        biases: Index in the weights of the first filter's bias.
        zeros: Index in the weights of the zeros.
        relu: Whether ReLU is applied.
    """

    grid: Grid
    planes: int
    filters: int
    rows: int
    columns: int
    row_stride: int
    top: int
    left: int
    line_step: int
    group_step: int
    tap_groups: int
    kernel_columns: int
    pairs: int
    dilation: int
    taps: int
    biases: int
    zeros: int
    relu: int


unpack = unpacker(Parameters)


@inlined
def part_of_plane(block, p, place, plane, x, weights, out, shapes):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute a band and segment of one plane of the output, block by block."""
    rows, vectors, taps, rest, row_step, tap_step, column_step, lanes = block
    (_, channels, height, width), (_, filters, out_height, out_width) = shapes
    image, number = divmod(plane, filters)
    first_row, first_column = place.band * p.rows, place.segment * p.columns
    last_row, last_column = min(out_height, first_row + p.rows), min(out_width, first_column + p.columns)
    for top in range(first_row, last_row, rows):
        for left in range(first_column, last_column, vectors * lanes):
            depthwise_block(
                rows=rows,
                vectors=vectors,
                taps=taps,
                rest=rest,
                row_step=row_step,
                tap_step=tap_step,
                column_step=column_step,
                lanes=lanes,
                x=x,
                plane=(image * channels + number // p.filters) * height * width,
                height=height,
                width=width,
                row=top * p.row_stride - p.top,
                column=left * column_step - p.left,
                line_step=p.line_step,
                group_step=p.group_step,
                tap_groups=p.tap_groups,
                kernel_columns=p.kernel_columns,
                pairs=p.pairs,
                dilation=p.dilation,
                weights=weights,
                weights_begin=number * p.taps,
                bias=p.biases + number,
                zeros=p.zeros,
                out=out,
                out_begin=(plane * out_height + top) * out_width + left,
                out_step=out_width,
                rows_used=last_row - top,
                lanes_used=last_column - left,
                relu=p.relu,
            )


def make_tile(  # one argument for each constant of the micro-kernel
    rows: int, vectors: int, taps: int, rest: int, row_step: int, tap_step: int, column_step: int, lanes: int
) -> Any:
    """The tile for a register block; for the arguments see `depthwise_block`."""
    block = (rows, vectors, taps, rest, row_step, tap_step, column_step, lanes)

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is some planes, or a band and segment of one."""
        p, flat_x, flat_out = unpack(parameters), x.reshape(x.size), out.reshape(out.size)
        shapes, since = (x.shape, out.shape), ticks()
        for unit in range(first, last):
            place = locate(p.grid, unit)
            begin = place.group * p.planes
            for plane in range(begin, min(begin + p.planes, out.shape[0] * out.shape[1])):
                part_of_plane(block, p, place, plane, flat_x, weights, flat_out, shapes)
        lap(clock, 0, since)

    return tile


@dataclass(frozen=True)
class Kernel:
    """How the rows of a kernel are unrolled: `groups * taps + rest`; for the steps see `depthwise_block`."""

    groups: int
    taps: int
    rest: int
    row_step: int
    tap_step: int
    line_step: int

    def lines(self, rows: int) -> int:
        """Lines that a block of so many rows loads for a group of kernel rows."""
        return len({row * self.row_step + tap * self.tap_step for row in range(rows) for tap in range(self.taps)})


def kernel_of(problem: Problem) -> Kernel:
    """How the kernel's rows are unrolled: one by one where output rows share no lines."""
    size, stride = problem.kernel_height, problem.stride[0] if problem.output_height > 1 else 1
    step = math.gcd(stride, problem.dilation[0]) if size > 1 else stride
    row_step, tap_step = stride // step, problem.dilation[0] // step if size > 1 else 1
    if size == 1 or max(row_step, tap_step) > SHARED:
        return Kernel(size, 1, 0, 1, 1, stride)
    taps = ceil_div(size, ceil_div(size, tuning().kernel_rows))
    return Kernel(size // taps, taps, size % taps, row_step, tap_step, step)


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        rows: Rows of a register block.
        vectors: Vectors in a row of a register block.
        lanes: Elements of a vector; fewer than the processor's for narrow outputs.
        kernel: How the kernel's rows are unrolled.
        column_step: Columns of the input from one output to the next.
        planes: Planes of a unit.
        band: Output rows of a band.
        segment: Output columns of a segment.
        grid: Grid of the units.
    """

    rows: int
    vectors: int
    lanes: int
    kernel: Kernel
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
        and _column_step(problem) <= 2  # noqa: PLR2004  # further columns apart, shuffles do not separate them
        and (problem.kernel_width - 1) * problem.dilation[1] <= SPAN
        and instruction_set().has_masks
    )


def _column_step(problem: Problem) -> int:
    return problem.stride[1] if problem.output_width > 1 else 1


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    full, item = instruction_set().lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    height, width, kernel = problem.output_height, problem.output_width, kernel_of(problem)
    lanes = min(full, max(16 // item, 1 << (width - 1).bit_length()))
    fitting = [block for block in BLOCKS if math.prod(block) + kernel.taps + 2 <= tuning().registers]
    rows, vectors = min(fitting, key=lambda block: cycles(problem, kernel, *block, lanes))
    planes, of_plane = problem.batch * problem.out_channels, cycles(problem, kernel, rows, vectors, lanes)
    together = max(ceil_div(LEAST, of_plane), min(planes // UNITS, MOST // of_plane), 1)
    parts = min(ceil_div(UNITS, planes), max(1, of_plane // LEAST))  # of a plane
    down = min(parts, ceil_div(height, rows))
    band = ceil_div(ceil_div(height, rows), down) * rows
    across = min(ceil_div(parts, down), ceil_div(width, vectors * lanes))
    segment = ceil_div(ceil_div(width, vectors * lanes), across) * vectors * lanes
    grid = Grid(1, ceil_div(planes, together), ceil_div(height, band), ceil_div(width, segment), 1)
    return Blocking(rows, vectors, lanes, kernel, _column_step(problem), together, band, segment, grid)


def cycles(problem: Problem, kernel: Kernel, rows: int, vectors: int, lanes: int) -> int:
    """Estimated cycles of a plane of the output."""
    blocks = ceil_div(problem.output_height, rows) * ceil_div(problem.output_width, vectors * lanes)
    lines = kernel.lines(rows)
    loads = lines * vectors * _column_step(problem) * LOAD + kernel.taps
    column = max(kernel.taps * max(rows * vectors, LATENCY), loads)
    groups = problem.kernel_height / kernel.taps
    return math.ceil(blocks * (BLOCK + groups * (lines * LINE + problem.kernel_width * column)))


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights in the order of the micro-kernel, followed by biases and zeros."""
    cut, kernel = blocking(problem), blocking(problem).kernel
    parameters = Parameters(
        grid=cut.grid,
        planes=cut.planes,
        filters=problem.group_filters,
        rows=cut.band,
        columns=cut.segment,
        row_stride=problem.stride[0],
        top=problem.padding[0][0],
        left=problem.padding[1][0],
        line_step=kernel.line_step,
        group_step=kernel.taps * problem.dilation[0],
        tap_groups=kernel.groups,
        kernel_columns=problem.kernel_width,
        pairs=problem.kernel_width // 2 if cut.column_step > 1 and problem.dilation[1] == 1 else 0,
        dilation=problem.dilation[1],
        taps=problem.taps,
        biases=problem.out_channels * problem.taps,
        zeros=problem.out_channels * (problem.taps + 1),
        relu=epilogue.relu,
    )
    arguments = (cut.rows, cut.vectors, kernel.taps, kernel.rest, kernel.row_step, kernel.tap_step, cut.column_step)
    tile = TileName(__name__, "make_tile", (*arguments, cut.lanes))
    return Work(
        phases=(Phase(tile, cut.grid.units, pack(parameters), STAGES),),
        weights=packed(problem, weights, epilogue),
        errors=of_sums(problem),
        variant={
            "register block": f"{cut.rows} x {cut.vectors} x {cut.lanes}",
            "planes": cut.planes,
            "units": cut.grid.units,
        },
    )


def packed(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> NDArray[Any]:
    """1-D: each filter's weights by group of kernel rows, kernel column, kernel row; then biases, and zeros."""
    kernel, filters = blocking(problem).kernel, problem.out_channels
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
    cut = blocking(problem)
    zeros = (problem.kernel_width - 1) * problem.dilation[1] + cut.column_step * cut.vectors * cut.lanes
    return problem.out_channels * (problem.taps + 1) + zeros


def footprint(problem: Problem) -> Footprint:
    """The packed weights."""
    return Footprint(0, _packed_size(problem) * ITEM_SIZE[problem.dtype])


def cost(problem: Problem) -> Cost:
    """Register blocks with all their taps, and the weights."""
    cut = blocking(problem)
    planes, height, width = problem.batch * problem.out_channels, problem.output_height, problem.output_width
    blocks = planes * ceil_div(height, cut.rows) * ceil_div(width, cut.vectors * cut.lanes)
    weights = blocks * problem.taps
    return Cost(
        {
            **of_whole(problem, cut.grid.units),
            "band bytes": 0,
            "band rows": 0,
            **of_blocks(blocks, problem.taps, 1, cut.rows * cut.vectors),
            "rows of taps": blocks * problem.kernel_height,
            **of_weights(weights, problem.taps, ITEM_SIZE[problem.dtype]),
        },
        cut.grid.units,
        shares(cut.grid, (height, cut.band), (width, cut.segment), (1, 1)),
    )
