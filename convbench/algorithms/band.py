"""A band of the input, laid out so that every tap of a row of outputs is a run of neighbours.

For output rows [begin, end) of one group of one image, the band holds the padded input rows that they read. Where the
kernel steps over columns, each row is dealt out into as many phases as the step is wide, so that neighbouring outputs
read neighbouring numbers of one phase:

    band[channel, row, phase, i] = padded[channel, first row + row, i * phases + phase]

There is room behind a row for vectors that end behind the last output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convbench.problem import Problem
from convbench.tile import clear, copy, jit


@dataclass(frozen=True)
class Layout:
    """The layout of the bands of one problem.

    Attributes:
        rows: Output rows of a band (the last band of an image may have fewer).
        length: Numbers in a phase of a row, those behind the last column included.
        phases: Of a row.
        input_rows: Rows of the band.
        channels: Of a group.
    """

    rows: int
    length: int
    phases: int
    input_rows: int
    channels: int

    @property
    def size(self) -> int:
        """Numbers in a band."""
        return self.channels * self.input_rows * self.phases * self.length

    @property
    def pitch(self) -> int:
        """From one row to the next."""
        return self.phases * self.length


def layout(problem: Problem, rows: int, lanes: int, reach: int) -> Layout:
    """The layout for bands of `rows` output rows, with room for `reach` numbers behind the columns of outputs."""
    extent, (stride_y, stride_x) = problem.kernel_extent, problem.stride
    columns = -(-((problem.output_width - 1) * stride_x + extent[1]) // stride_x)
    return Layout(
        rows=rows,
        length=-(-(columns + reach) // lanes) * lanes,
        phases=stride_x,
        input_rows=(rows - 1) * stride_y + extent[0],
        channels=problem.channels // problem.groups,
    )


def tap_offsets(problem: Problem, band: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the taps read, from where output column 0 of a row would read without a kernel.

    Returns:
        For each (channel, kernel row), and to be added to it for each kernel column.
    """
    channels = np.arange(band.channels)[:, None] * band.input_rows
    rows = np.arange(problem.kernel_height) * problem.dilation[0]
    columns = np.arange(problem.kernel_width) * problem.dilation[1]
    inner = columns % band.phases * band.length + columns // band.phases
    return ((channels + rows) * band.pitch).ravel(), inner


@jit
def fill_band(x, band, top, left, first_row, input_rows, phases, length):  # type: ignore[no-untyped-def]
    """Copy rows from `first_row` of one group's padded channels, shape (channels, height, width), into a band."""
    channels, height, _ = x.shape
    position = 0
    for channel in range(channels):
        for row in range(first_row - top, first_row - top + input_rows):
            for phase in range(phases):
                line = band[position : position + length]
                position += length
                if 0 <= row < height:
                    fill_line(x[channel, row], line, phase - left, phases)
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
