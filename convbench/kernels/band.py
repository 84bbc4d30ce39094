"""A band of the input, laid out so that every tap of a row of outputs is a run of neighbours.

For output rows [begin, end) of one group of one image, the band holds what they read of the padded input, and nothing
between. Along each axis it is a few runs, in each of which neighbouring outputs read neighbouring lines:

    band[channel, y_run, i, x_run, j] = padded[channel, first row + y_start + i * y_stride, x_start + j * x_stride]

Where taps lie close, a run is a phase: all lines whose number leaves one remainder by the stride, shared by the taps
that read them. Where they lie further apart than the outputs reach, each tap has a run of its own. So scratch does not
grow with strides and dilations, but with what is read. There is room for vectors that end behind the last output:
behind each run where that takes little, otherwise behind the band alone, so that such vectors read what comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.integers import ceil_div, round_up
from convbench.kernels.fields import Table
from convbench.kernels.grid import Grid
from convbench.kernels.tile import clear, copy, jit
from convbench.problem import Problem


@dataclass(frozen=True)
class Runs:
    """How the lines that some outputs read along an axis are laid out.

    Attributes:
        starts: Of each run: the first line, counted from the one that the first output reads without a kernel.
        step: From one line of a run to the next.
        length: Lines of a run.
        taps: Where each tap's line is for the first output; the next output's is the next one.
    """

    starts: tuple[int, ...]
    step: int
    length: int
    taps: tuple[int, ...]

    @property
    def size(self) -> int:
        """Lines of all runs."""
        return len(self.starts) * self.length


def runs(outputs: int, taps: int, stride: int, dilation: int, room: int = 0, multiple: int = 1) -> Runs:
    """The layout that takes least.

    Args:
        outputs: How many.
        taps: Of the kernel along the axis.
        stride: Of the kernel.
        dilation: Of the kernel.
        room: Lines behind those that the outputs read; left out where they would more than double a run, ...
        multiple: ... like what the length of a run shall be a multiple of.
    """
    step = stride if outputs > 1 else 1  # a single output has no next one
    lines = [tap * dilation for tap in range(taps)]
    phases = sorted({line % step for line in lines})

    def rounded(length: int) -> int:
        roomy = round_up(length + room, multiple)
        return roomy if roomy <= 2 * length else length

    shared, own = rounded(outputs + lines[-1] // step), rounded(outputs)
    if len(phases) * shared <= taps * own:
        places = {phase: number * shared for number, phase in enumerate(phases)}
        return Runs(tuple(phases), step, shared, tuple(places[line % step] + line // step for line in lines))
    return Runs(tuple(lines), step, own, tuple(tap * own for tap in range(taps)))


@dataclass(frozen=True)
class Layout:
    """The layout of the bands of one problem.

    Attributes:
        rows: Output rows of a band (the last band of an image may have fewer).
        columns: Output columns of a band (likewise).
        y: Rows.
        x: Columns.
        channels: Of a group.
        vectors: Rows below each other that a register block may read, though the band has fewer; it uses none of them.
        reach: Columns behind the last one of outputs that a vector may read.
    """

    rows: int
    columns: int
    y: Runs
    x: Runs
    channels: int
    vectors: int
    reach: int

    @property
    def size(self) -> int:
        """Numbers in a band, with room for what is read behind it."""
        return self.channels * self.y.size * self.row_stride + (self.vectors - 1) * self.row_stride + self.reach

    @property
    def row_stride(self) -> int:
        """From one row to the next, which is the next row of outputs as well."""
        return self.x.size

    def grid(self, problem: Problem, filter_blocks: int) -> Grid:
        """The grid of units that are bands and segments with some of a group's filters each."""
        return Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=ceil_div(problem.output_height, self.rows),
            segments=ceil_div(problem.output_width, self.columns),
            filter_blocks=filter_blocks,
        )

    def record(self, problem: Problem) -> Band:
        """What `fill_band` has to know."""
        (top, _), (left, _) = problem.padding
        return Band(
            channels=self.channels,
            row_step=self.rows * problem.stride[0],
            column_step=self.columns * problem.stride[1],
            top=top,
            left=left,
            y_step=self.y.step,
            y_length=self.y.length,
            x_step=self.x.step,
            x_length=self.x.length,
            y_starts=np.array(self.y.starts),
            x_starts=np.array(self.x.starts),
        )


class Band(NamedTuple):
    """How a band's place in the grid tells what of the input it holds; a tile's parameters.

    Attributes:
        channels: Of a group.
        row_step: Rows of the input from one band's first output to the next one's.
        column_step: Columns from one segment's first output to the next one's.
        top: Rows of padding above the image.
        left: Columns of padding before the image.
        y_step: From one row of a run to the next.
        y_length: Rows of a run.
        x_step: From one column of a run to the next.
        x_length: Columns of a run.
        y_starts: Of each run of rows, see `Runs`.
        x_starts: Of each run of columns.
    """

    channels: int
    row_step: int
    column_step: int
    top: int
    left: int
    y_step: int
    y_length: int
    x_step: int
    x_length: int
    y_starts: Table
    x_starts: Table


def layout(problem: Problem, rows: int, columns: int, lanes: int, vectors: int, reach: int) -> Layout:
    """The layout for bands of so many output rows and columns, see `Layout`."""
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    return Layout(
        rows=rows,
        columns=columns,
        y=runs(rows, problem.kernel_height, stride_y, dilation_y),
        x=runs(columns, problem.kernel_width, stride_x, dilation_x, reach, lanes),
        channels=problem.group_channels,
        vectors=vectors,
        reach=reach,
    )


def tap_offsets(band: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the taps read, from where output column 0 of a row would read without a kernel.

    Returns:
        For each (channel, kernel row), and to be added to it for each kernel column.
    """
    outer = np.add.outer(np.arange(band.channels) * band.y.size, band.y.taps) * band.row_stride
    return outer.ravel(), np.array(band.x.taps, np.int64)


@jit
def fill_band(x, scratch, band, place):  # type: ignore[no-untyped-def]
    """Copy what the band at a place of the grid holds of the input, zero outside of the image, to scratch.

    Args:
        x: The input, shape (batch, channels, height, width).
        scratch: 1-D.
        band: The parameters, a `Band`.
        place: A `grid.Place`.
    """
    height, position = x.shape[2], 0
    first_row = place.band * band.row_step - band.top
    first_column = place.segment * band.column_step - band.left
    for channel in range(place.group * band.channels, (place.group + 1) * band.channels):
        for y_start in band.y_starts:
            for i in range(band.y_length):
                row = first_row + y_start + i * band.y_step
                for x_start in band.x_starts:
                    line = scratch[position : position + band.x_length]
                    position += band.x_length
                    if 0 <= row < height:
                        fill_line(x[place.image, channel, row], line, first_column + x_start, band.x_step)
                    else:
                        clear(line)


@jit
def fill_line(source, line, offset, step):  # type: ignore[no-untyped-def]
    """line[i] = source[i * step + offset], zero outside of `source`."""
    begin = min(line.size, max(0, (step - 1 - offset) // step))
    end = max(begin, min(line.size, (source.size - 1 - offset) // step + 1))
    clear(line[:begin])
    if begin < end:
        inside, first = line[begin:end], source[begin * step + offset :]
        if step == 1:
            copy(first, inside)
        else:
            for i in range(inside.size):
                inside[i] = first[i * step]
    clear(line[end:])
