"""A band of the input, laid out so that every tap reads a row of outputs at unit stride.

A band holds the elements of the padded input that output rows [begin, end) of one group of one image read, and no
others. A line is a row or a column of the input. Along each axis the band consists of runs; within a run, the lines
that a tap reads for neighbouring outputs are adjacent:

    band[channel, y_run, i, x_run, j] = padded[channel, first row + y_start + i * y_stride, x_start + j * x_stride]

Where taps lie close together, a run is a residue class: all lines with the same index modulo the stride, shared by the
taps that read them. Where the dilation exceeds the range of the outputs, each tap has a run of its own. The scratch
size thus depends on the number of elements read, not on strides and dilations. Vectors that extend past the last output
read padding after each run where that padding is small. Otherwise only the end of the band is padded, and such vectors
read the next run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.integers import ceil_div, round_up
from convbench.kernels.fields import Table
from convbench.kernels.grid import Grid
from convbench.kernels.tile import borrowed, clear, copy, jit
from convbench.problem import Problem

ROW: Final = 30  # cycles of a row that is copied
COPY: Final = 0.2  # cycles of a number
GATHER: Final = 1.0  # likewise, with a stride


@dataclass(frozen=True)
class Runs:
    """The layout of the input lines that a range of outputs reads along one axis.

    Attributes:
        starts: First line of each run, relative to the line that tap 0 reads for the first output.
        step: Distance between consecutive lines of a run, in lines of the input.
        length: Number of lines in a run.
        taps: Index in the layout of the line that each tap reads for output 0; for output n it is n lines later.
    """

    starts: tuple[int, ...]
    step: int
    length: int
    taps: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of lines in all runs."""
        return len(self.starts) * self.length


def runs(outputs: int, taps: int, stride: int, dilation: int, room: int = 0, multiple: int = 1) -> Runs:
    """The smallest layout.

    Args:
        outputs: Number of outputs along the axis.
        taps: Number of kernel taps along the axis.
        stride: Stride of the kernel.
        dilation: Dilation of the kernel.
        room: Lines of padding after those that the outputs read.
        multiple: The length of a run is a multiple of this. Both `room` and `multiple` are ignored where they would
            more than double the length.
    """
    step = stride if outputs > 1 else 1  # a single output needs no stride
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
        rows: Output rows of a band; the last band of an image may have fewer.
        columns: Output columns of a band; the last segment of a row may have fewer.
        y: Layout of the rows.
        x: Layout of the columns.
        channels: Channels of a group.
        vectors: Rows that a register block may read, even where the band has fewer; the excess is not used.
        reach: Columns after the last output column that a vector may read.
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
        """Elements of a band, including the padding that is read past its end."""
        return self.channels * self.y.size * self.row_stride + (self.vectors - 1) * self.row_stride + self.reach

    @property
    def row_stride(self) -> int:
        """Elements from one row to the next, which is also the distance between output rows."""
        return self.x.size

    @property
    def filling_cycles(self) -> float:
        """Estimated cycles of filling a band."""
        rows = self.channels * self.y.size
        each = GATHER if self.x.step > 1 else COPY
        return rows * len(self.x.starts) * ROW + rows * self.x.size * each

    def grid(self, problem: Problem, filter_blocks: int) -> Grid:
        """The grid of units; a unit is a segment of a band with one filter block."""
        return Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=ceil_div(problem.output_height, self.rows),
            segments=ceil_div(problem.output_width, self.columns),
            filter_blocks=filter_blocks,
        )

    def record(self, problem: Problem) -> Band:
        """The parameters of `fill_band`."""
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
    """The mapping from a band's place in the grid to the input that it holds; part of a tile's parameters.

    Attributes:
        channels: Channels of a group.
        row_step: Input rows from one band's first output to the next band's.
        column_step: Input columns from one segment's first output to the next segment's.
        top: Rows of padding above the image.
        left: Columns of padding left of the image.
        y_step: Input rows from one row of a run to the next.
        y_length: Rows of a run.
        x_step: Input columns from one column of a run to the next.
        x_length: Columns of a run.
        y_starts: First row of each run of rows, see `Runs`.
        x_starts: First column of each run of columns.
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
    """The layout for bands of `rows` x `columns` outputs; for the other arguments see `Layout`."""
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
    """Offsets of the taps in a band, in elements, relative to channel 0's tap (0, 0) of the same output.

    Returns:
        The offset of each (channel, kernel row), and the offset of each kernel column, to be added to the former.
    """
    outer = np.add.outer(np.arange(band.channels) * band.y.size, band.y.taps) * band.row_stride
    return outer.ravel(), np.array(band.x.taps, np.int64)


@jit
def fill_band(x, scratch, band, place):  # type: ignore[no-untyped-def]
    """Copy the input of the band at a place of the grid to scratch, with zeros outside of the image.

    Args:
        x: The input, shape (batch, channels, height, width).
        scratch: The target, 1-D.
        band: A `Band`.
        place: A `grid.Place`.
    """
    x, scratch = borrowed(x), borrowed(scratch)
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
