"""The tiles of depthwise convolution: units, planes and register blocks around the micro-kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

from convbench.kernels.clock import lap, ticks
from convbench.kernels.columns import column_of_vectors
from convbench.kernels.columns_block import columns_block
from convbench.kernels.copying import pad_row
from convbench.kernels.fields import unpacker
from convbench.kernels.grid import Grid, locate
from convbench.kernels.tile import clear, inlined, jit


class Parameters(NamedTuple):
    """The parameters of the tiles.

    Attributes:
        grid: Grid of the units; its filter blocks are groups of planes. A plane is a filter, or several that are
            computed side by side, of one image.
        all_planes: Number of planes.
        planes: Planes of a unit; the last group may have fewer.
        cached: Planes of a unit whose input fits the first-level cache.
        filters: Planes of a group of channels.
        channels: Channels of a group.
        rows: Output rows of a band.
        columns: Output columns of a segment.
        wide: Output columns before the narrower vector at the end of each row.
        row_stride: Vertical stride.
        top: Rows of padding above the image.
        left: Columns of padding left of the image.
        line_step: Input rows of a line, see the micro-kernels.
        interleaved: Sets of output rows that share no lines; rows of one set are so many rows apart.
        group_step: Input rows from one group of kernel rows to the next.
        tap_groups: Groups of kernel rows.
        kernel_columns: Columns of the kernel.
        pairs: Pairs of kernel columns that share loads.
        dilation: Horizontal dilation.
        taps: Weights of a filter.
        biases: Index in the weights of the first filter's bias.
        zeros: Index in the weights of the zeros.
        relu: Whether ReLU is applied.
        padded: Elements of a row of the input that is copied to scratch and has zeros beside it; 0 for not copying.
        reach: Rows that the kernel spans.
    """

    grid: Grid
    all_planes: int
    planes: int
    cached: int
    filters: int
    channels: int
    rows: int
    columns: int
    wide: int
    row_stride: int
    top: int
    left: int
    line_step: int
    interleaved: int
    group_step: int
    tap_groups: int
    kernel_columns: int
    pairs: int
    dilation: int
    taps: int
    biases: int
    zeros: int
    relu: int
    padded: int
    reach: int


unpack = unpacker(Parameters)


class Part(NamedTuple):
    """The output rows and columns of a unit, the index of its first plane, and its number of planes."""

    top: int
    bottom: int
    left: int
    right: int
    plane: int
    planes: int


@inlined
def part_of(p, unit, shape):  # type: ignore[no-untyped-def]
    """The `Part` of a unit."""
    place = locate(p.grid, unit)
    top, left, plane = place.band * p.rows, place.segment * p.columns, place.filter_block * p.planes
    planes = min(p.planes, p.all_planes - plane)
    return Part(top, min(shape[2], top + p.rows), left, min(shape[3], left + p.columns), plane, planes)


class Steps(NamedTuple):
    """The steps down a column of vectors, see `column_of_vectors`, and the output and input rows that they begin at."""

    first: int
    row: int
    above: int
    inside: int
    total: int


@inlined
def steps_of(p, part, first, kernel_rows, row_step, height):  # type: ignore[no-untyped-def]
    """The `Steps` for every `p.interleaved`-th row of a unit from row `first` on."""
    row, per_step = first * p.row_stride - p.top, row_step * p.line_step
    outputs = (part.bottom - first + p.interleaved - 1) // p.interleaved
    total = outputs + (kernel_rows + row_step - 1) // row_step - 1
    above = min(total, max(0, (p.line_step - 1 - row) // per_step))
    inside = min(total, max(above, (height - row + per_step - 1) // per_step))
    return Steps(first, row, above, inside, total)


@inlined
def pad_part(lanes, p, part, plane, x, height, width, scratch):  # type: ignore[no-untyped-def]
    """Copy the rows that a part of a plane reads to scratch, where zeros are beside them; returns first and end row."""
    top = max(0, part.top * p.row_stride - p.top)
    bottom = max(top, min(height, (part.bottom - 1) * p.row_stride - p.top + p.reach))  # at least none
    begin = plane // p.filters * height
    for row in range(top, bottom):
        pad_row(
            lanes=lanes,
            source=x,
            source_begin=(begin + row) * width,
            count=width,
            left=0,
            target=scratch,
            target_begin=(row - top) * p.padded + p.left,
            padded=width,
        )
    return top, bottom


@inlined
def column_of_planes(constants, lanes, left, begin_row, p, part, planes, steps, x, weights, out, shapes):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute a column of vectors of some planes, whose input begins at row `begin_row` of the image."""
    filters, several, kernel_rows, kernel_columns, row_step, column_step, resident, masked, padded, ahead = constants
    (size, height, width), (_, out_channels, out_height, out_width) = shapes
    column = left * column_step if padded else left * column_step - p.left
    begin, end = planes
    number = begin % (out_channels // filters)
    for plane in range(begin, end):
        group = plane if p.filters == 1 else plane // p.filters
        column_of_vectors(
            filters=filters,
            several=several,
            kernel_rows=kernel_rows,
            kernel_columns=kernel_columns,
            row_step=row_step,
            column_step=column_step,
            resident=resident,
            masked=masked,
            padded=padded,
            ahead=ahead,
            lanes=lanes,
            x=x,
            plane=group * size,
            channels=p.channels,
            height=height,
            width=width,
            row=steps.row - begin_row,
            column=column,
            line_step=p.line_step,
            dilation=p.dilation,
            weights=weights,
            weights_begin=number * filters * p.taps,
            bias=p.biases + number * filters,
            zeros=p.zeros,
            out=out,
            out_begin=(plane * filters * out_height + steps.first) * out_width + left,
            filter_step=out_height * out_width,
            out_step=p.interleaved * out_width,
            above=steps.above,
            inside=steps.inside,
            steps=steps.total,
            lanes_used=part.right - left,
            relu=p.relu,
        )
        number = 0 if number == out_channels // filters - 1 else number + 1


def make_columns_tile(lanes: int, narrow: int, *constants: int) -> Any:  # over 40 lines: two calls for two widths
    """The tile of `column_of_vectors`.

    Args:
        lanes: Elements of a vector.
        narrow: Elements of the last vector of a row, if it is a narrower one; otherwise 0.
        constants: Filters, whether there are several channels, kernel rows and columns, row and column step, whether
            weights are resident, whether all vectors are masked, whether rows are copied and have zeros beside them,
            and rows of lines that are asked for ahead.
    """
    padded = constants[8]

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a part of some planes."""
        p, flat_x, flat_out, since = unpack(parameters), x.reshape(x.size), out.reshape(out.size), ticks()
        size, height, width = p.channels * x.shape[2] * x.shape[3], x.shape[2], x.shape[3]
        source = scratch if padded else flat_x
        if padded:
            clear(scratch)  # beside the rows it stays so
        for unit in range(first, last):
            part = part_of(p, unit, out.shape)
            wide, end = min(part.right, p.wide), part.plane + part.planes
            for plane in range(part.plane, end, p.cached):
                planes, begin, shapes = (plane, min(end, plane + p.cached)), 0, ((size, height, width), out.shape)
                if padded:
                    begin, bottom = pad_part(lanes, p, part, plane, flat_x, height, width, scratch)
                    shapes = ((0, bottom - begin, p.padded), out.shape)
                for row in range(part.top, min(part.bottom, part.top + p.interleaved)):
                    steps = steps_of(p, part, row, constants[2], constants[4], height)
                    for left in range(part.left, wide, lanes):
                        column_of_planes(
                            constants, lanes, left, begin, p, part, planes, steps, source, weights, flat_out, shapes
                        )
                    if narrow and wide < part.right:
                        column_of_planes(
                            constants, narrow, wide, begin, p, part, planes, steps, source, weights, flat_out, shapes
                        )
        lap(clock, 0, since)

    return tile


@inlined
def register_blocks(constants, p, part, plane, x, weights, out, shapes):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute the part of one plane, block by block."""
    rows, vectors, taps, rest, row_step, tap_step, column_step, lanes = constants
    (_, _, height, width), (_, filters, out_height, out_width) = shapes
    number, channel = plane % filters, plane // p.filters
    for top in range(part.top, part.bottom, rows):
        for left in range(part.left, part.right, vectors * lanes):
            columns_block(
                rows=rows,
                vectors=vectors,
                taps=taps,
                rest=rest,
                row_step=row_step,
                tap_step=tap_step,
                column_step=column_step,
                lanes=lanes,
                x=x,
                plane=channel * height * width,
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
                rows_used=part.bottom - top,
                lanes_used=part.right - left,
                relu=p.relu,
            )


def make_blocks_tile(*constants: int) -> Any:
    """The tile of `columns_block`: rows, vectors, taps, rest, row, tap and column step, lanes."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a part of some planes."""
        p, flat_x, flat_out, since = unpack(parameters), x.reshape(x.size), out.reshape(out.size), ticks()
        for unit in range(first, last):
            part = part_of(p, unit, out.shape)
            for plane in range(part.plane, part.plane + part.planes):
                register_blocks(constants, p, part, plane, flat_x, weights, flat_out, (x.shape, out.shape))
        lap(clock, 0, since)

    return tile
