"""The last steps of the tile of `winograd` with tiles in the lanes: rows of pixels, through scratch or at once.

Each product asks for a few lines of the output that the register block after this one will write. Memory is read and
written while products are computed, and pixels go from registers to lines that are near; all but those of tiles that
are not side by side. Where a block has more tiles than a row, where lines would not be there in time, and on
processors on which it was not tried, rows of pixels are collected in scratch and copied from there, past the caches
where the output is large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.winograd.cut import Cut
from convbench.kernels.copying import put, stream_rows
from convbench.kernels.grid import locate
from convbench.kernels.linear_map import transform_rows
from convbench.kernels.output import write_rows
from convbench.kernels.tile import inlined
from convbench.kernels.vector import LINE
from convbench.problem import ITEM_SIZE, Problem


def fetched(problem: Problem, cut: Cut) -> NDArray[Any]:
    """Offsets in the output of the lines that each point's product asks for, from a register block's first pixel.

    There are `cut.fetched_lines` for each point. A register block's next tiles begin where its last ones end: of rows
    that do not begin with a line, only the last part of a line at a row's end is left out.
    """
    line, plane = LINE // ITEM_SIZE[problem.dtype], problem.output_height * problem.output_width
    filters, rows = np.arange(cut.filters) * plane, np.arange(cut.y.outputs) * problem.output_width
    runs = np.add.outer(filters, rows).ravel()
    lines = np.add.outer(runs, np.arange(0, cut.width * cut.x.outputs, line)).ravel()
    wanted = np.zeros(cut.fetched_lines * cut.y.points * cut.x.points, np.int64)
    wanted[: lines.size] = lines[: wanted.size]
    return wanted


@inlined
def _row_and_column(p, tile):  # type: ignore[no-untyped-def]
    """The place of a tile of a unit; most units are one row of tiles, and a division takes longer than a transform."""
    return divmod(tile, p.tile_columns) if tile >= p.tile_columns else (0, tile)


@inlined
def first_pixel(y_outputs, x_outputs, p, place, filter_number, tile, out):  # type: ignore[no-untyped-def]
    """Index in the output of the first pixel of a unit's tile, of filter `filter_number` of the image."""
    row, column = _row_and_column(p, tile)
    first_row = (place.band * p.tile_rows + row) * y_outputs
    first_column = (place.segment * p.tile_columns + column) * x_outputs
    return ((place.image * out.shape[1] + filter_number) * out.shape[2] + first_row) * out.shape[3] + first_column


@inlined
def first_of_unit(y_outputs, x_outputs, p, unit, group_filters, out):  # type: ignore[no-untyped-def]
    """Index in the output of a unit's first pixel."""
    place = locate(p.grid, unit)
    block = place.filter_block * p.unit_blocks
    filter_number = place.group * group_filters + (p.ends[block - 1] if block > 0 else 0)
    return first_pixel(y_outputs, x_outputs, p, place, filter_number, 0, out)


@inlined
def rows_to_scratch(size, y_outputs, outputs, taps, p, used, tile, pieces, biases):  # type: ignore[no-untyped-def]
    """Transform the first `used` filters of a register block horizontally, into rows of pixels in scratch."""
    lanes = size[2]
    for number in range(used):
        begin = number * y_outputs * p.run + tile * outputs + lanes
        _rows(size, y_outputs, outputs, taps, p, number, pieces, biases, pieces.runs, begin, p.run)


@inlined
def _rows(size, y_outputs, outputs, taps, p, number, pieces, biases, target, begin, step):  # type: ignore[no-untyped-def]
    """Transform a filter of a register block horizontally into rows of pixels, `step` elements from one to the next."""
    filters, vectors, lanes, _ = size
    width = vectors * lanes
    transform_rows(
        outputs=outputs,
        taps=taps,
        vectors=vectors,
        lanes=lanes,
        rows=y_outputs,
        source=pieces.half,
        source_begin=number * width,
        row_step=(outputs + taps - 1) * filters * width,
        source_step=filters * width,
        biases=biases,
        bias_begin=number,
        target=target,
        target_begin=begin,
        target_step=step,
        relu=p.relu,
    )


@inlined
def store(y_outputs, x_outputs, lanes, p, place, filter_number, used, rows, pieces, out):  # type: ignore[no-untyped-def]
    """Copy the output rows of the first `used` filters of a register block from scratch."""
    first_row, size = place.band * p.tile_rows * y_outputs, y_outputs * p.run
    for number in range(used):
        if p.whole:
            stream_rows(
                lanes=lanes,
                source=pieces.runs,
                source_begin=number * size + lanes,
                source_step=p.run,
                rows=min(y_outputs, out.shape[2] - first_row),
                columns=out.shape[3],
                target=out.reshape(out.size),
                target_begin=first_pixel(y_outputs, x_outputs, p, place, filter_number + number, 0, out),
            )
        else:
            write_rows(
                lanes,
                p.streamed,
                pieces.runs[number * size + lanes : (number + 1) * size + lanes],
                p.run,
                out[place.image, filter_number + number],
                first_row,
                rows * y_outputs,
                y_outputs,
                place.segment * p.tile_columns * x_outputs,
                p.tile_columns * x_outputs,
            )


@inlined
def rows_to_output(  # type: ignore[no-untyped-def]
    size, y_outputs, outputs, taps, beyond, p, place, rows, filter_number, used, tile, pieces, biases, out, flat
):
    """Transform the first `used` filters of a register block horizontally, into rows of the output.

    Tiles that are not side by side in the output go through scratch: at the end of a row of tiles, and where
    `transform_rows` would overwrite pixels `beyond` the unit's.
    """
    width = size[1] * size[2]
    plane, columns = out.shape[2] * out.shape[3], out.shape[3]
    end = min((place.segment + 1) * p.tile_columns * outputs, columns)
    row, column = _row_and_column(p, tile)
    whole = _lines(y_outputs, p, place, rows, row, out) == y_outputs and column + width <= p.tile_columns
    if whole and (place.segment * p.tile_columns + column + width) * outputs + beyond <= end:
        begin = first_pixel(y_outputs, outputs, p, place, filter_number, tile, out)
        for number in range(used):
            _rows(size, y_outputs, outputs, taps, p, number, pieces, biases, flat, begin + number * plane, columns)
    else:
        for number in range(used):
            _rows(size, y_outputs, outputs, taps, p, number, pieces, biases, pieces.runs, 0, p.run)
            _put_apart(size, y_outputs, outputs, p, place, rows, filter_number + number, tile, pieces, out, flat)


@inlined
def _lines(y_outputs, p, place, rows, row, out):  # type: ignore[no-untyped-def]
    """Rows of pixels of a unit's row of tiles that are in the output."""
    return min(y_outputs, out.shape[2] - (place.band * p.tile_rows + row) * y_outputs) if row < rows else 0


@inlined
def _put_apart(size, y_outputs, outputs, p, place, rows, filter_number, tile, pieces, out, flat):  # type: ignore[no-untyped-def]
    """Copy the pixels of a register block's tiles from scratch, those of each row of tiles apart."""
    width, columns, first = size[1] * size[2], out.shape[3], 0
    while first < width:
        row, column = _row_and_column(p, tile + first)
        tiles = min(width - first, p.tile_columns - column)
        count = min(tiles * outputs, columns - (place.segment * p.tile_columns + column) * outputs)
        begin = first_pixel(y_outputs, outputs, p, place, filter_number, tile + first, out)
        for line in range(_lines(y_outputs, p, place, rows, row, out) if count > 0 else 0):
            put(
                lanes=size[2],
                source=pieces.runs,
                source_begin=line * p.run + first * outputs,
                target=flat,
                target_begin=begin + line * columns,
                count=count,
            )
        first += tiles
