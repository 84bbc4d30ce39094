"""The steps of the tile of `winograd`, inlined into it: input transform, products, and vertical output transform."""

from __future__ import annotations

from typing import Final, NamedTuple

from convbench.kernels.band import Band
from convbench.kernels.copying import ask_for
from convbench.kernels.fields import Table, splitter, unpacker
from convbench.kernels.grid import Grid
from convbench.kernels.linear_map import INPUT, OUTPUT, transform
from convbench.kernels.micro_kernel import micro_kernel
from convbench.kernels.tile import inlined
from convbench.kernels.tile_sums import column_sums

POINTS_AHEAD: Final = 2  # for how many points ahead of the products the input is asked for


class Pieces(NamedTuple):
    """The pieces of scratch; sizes in elements, or views.

    Attributes:
        band: The input of the unit.
        strip: A row of tiles after the vertical input transform.
        points: Transformed input, shape (horizontal points, vertical points, channels * blocks of taps, tiles).
        sums: Sums of products of a column of points, shape (vertical points, filters of a register block, tiles of a
            register block).
        half: Those after the vertical output transform, shape (vertical outputs, horizontal points, filters of a
            register block, tiles of a register block).
        runs: Output rows of a register block's filters, with a vector after each and one at both ends; or those of one
            filter and a register block's tiles, where others are written at once.
    """

    band: int
    strip: int
    points: int
    sums: int
    half: int
    runs: int


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units.
        band: Parameters of `fill_band`.
        pieces: Sizes of the pieces of scratch.
        input_rows: Rows of a band.
        row_stride: Elements from one row of a band to the next.
        y_blocks: Blocks of taps along the vertical axis.
        x_blocks: Blocks of taps along the horizontal axis.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        tiles: Tiles in a unit, rounded up to whole register blocks.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        together: Maximum number of units for the same tiles that are computed as one.
        run: Elements from one run of a filter to the next, in scratch.
        whole: Whether the runs of a filter are whole rows of the output that are streamed as one.
        streamed: Whether outputs are written with non-temporal stores.
        biases: Index in the weights of the first filter's bias.
        zeros: Index in the weights of zeros, from which sums start.
        relu: Whether ReLU is applied.
        columns: Offsets in a strip of (horizontal block of taps, horizontal point).
        no_offset: A table of one zero: the outer offsets of the micro-kernel.
        parts: Offsets in the points of (channel, block of taps), in the order of `terms`.
        begins: The first of the parts that count, for each point.
        term_ends: The end of those.
        ends: The filters of a group up to the end of each register block.
        fetched: See `outputs.fetched`.
    """

    grid: Grid
    band: Band
    pieces: Pieces
    input_rows: int
    row_stride: int
    y_blocks: int
    x_blocks: int
    tile_rows: int
    tile_columns: int
    tiles: int
    blocks: int
    unit_blocks: int
    together: int
    run: int
    whole: int
    streamed: int
    biases: int
    zeros: int
    relu: int
    columns: Table
    no_offset: Table
    parts: Table
    begins: Table
    term_ends: Table
    ends: Table
    fetched: Table


unpack = unpacker(Parameters)
split = splitter(Pieces)


@inlined
def to_points(y_outputs, y_taps, x_outputs, x_taps, lanes, p, rows, pieces):  # type: ignore[no-untyped-def]  # over 40 lines: two calls, with the name of each argument
    """Transform a band to the points.

    The vertical pass transforms all columns of a row of tiles into the strip; the horizontal pass follows tile by tile.
    """
    y_points, x_points = y_outputs + y_taps - 1, x_outputs + x_taps - 1
    step = p.parts.size * p.tiles
    for part in range(p.band.channels * p.y_blocks):
        channel, y_block = divmod(part, p.y_blocks)
        for row in range(rows):
            source = (channel * p.input_rows + row * y_outputs + y_block * y_taps) * p.row_stride
            for column in range(0, p.row_stride, lanes):
                transform(
                    which=INPUT,
                    outputs=y_outputs,
                    taps=y_taps,
                    lanes=lanes,
                    source=pieces.band,
                    source_begin=source + column,
                    source_step=p.row_stride,
                    target=pieces.strip,
                    target_begin=column,
                    target_step=p.row_stride,
                )
            for x_block in range(p.x_blocks):
                own = p.columns[x_block * x_points : (x_block + 1) * x_points]
                target = (part * p.x_blocks + x_block) * p.tiles + row * p.tile_columns
                for y in range(y_points):
                    for t in range(0, p.tile_columns, lanes):
                        transform(
                            which=INPUT,
                            outputs=x_outputs,
                            taps=x_taps,
                            lanes=lanes,
                            source=pieces.strip,
                            source_begin=y * p.row_stride + t,
                            source_step=own,
                            target=pieces.points,
                            target_begin=target + y * step + t,
                            target_step=y_points * step,
                        )


@inlined
def products_in_loops(size, fetched_lines, points, p, block, first_tile, column, pieces, weights, out, later):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute the sums of products of one register block (filters x tiles) at a column of the points (down, across).

    Lines of `out` are asked for that will be written later, as offsets from `later`.
    """
    filters, vectors, lanes, _ = size
    width, step = vectors * lanes, p.parts.size * p.tiles
    for row in range(points[0]):
        point = row * points[1] + column
        begin, end = p.begins[point], p.term_ends[point]
        ask_for(
            lines=fetched_lines,
            lanes=lanes,
            offsets=p.fetched,
            offsets_begin=(column * points[0] + row) * fetched_lines,
            target=out,
            target_begin=later,
        )
        micro_kernel(
            filters=filters,
            vectors=vectors,
            lanes=lanes,
            x=pieces.points,
            x_begin=(column * points[0] + row) * step + first_tile,
            x_step=lanes,
            prefetch=step,
            outer_offsets=p.no_offset,
            inner_offsets=p.parts[begin:end],
            weights=weights,
            weights_begin=(((block * points[1] + column) * points[0] + row) * p.parts.size + begin) * filters,
            bias_begin=p.zeros,
            out=pieces.sums,
            out_begin=row * filters * width,
            filter_step=width,
            vector_step=lanes,
            filters_used=filters,
            vectors_used=vectors,
            lanes_used=width,
            lane_step=lanes,
            relu=0,
        )


@inlined
def products_in_lines(  # type: ignore[no-untyped-def]
    size, fetched_lines, line_terms, points, p, block, used, tile, column, pieces, weights, out, later
):
    """The same where the numbers of terms are known when the tile is compiled.

    `line_terms` are those of `make_tile`. Blocks with less than all filters compute one less.
    """
    if column == points[1] - 1:
        terms = line_terms[2], line_terms[3], fetched_lines
        _in_lines(size, terms, points, p, block, used, tile, column, pieces, weights, out, later)
    else:
        terms = line_terms[0], line_terms[1], fetched_lines
        _in_lines(size, terms, points, p, block, used, tile, column, pieces, weights, out, later)


@inlined
def _in_lines(size, terms, points, p, block, used, tile, column, pieces, weights, out, later):  # type: ignore[no-untyped-def]
    if used < size[0]:
        _column(size, size[3], terms, points, p, block, tile, column, pieces, weights, out, later)
    else:
        _column(size, size[0], terms, points, p, block, tile, column, pieces, weights, out, later)


@inlined
def _column(size, computed, terms, points, p, block, first_tile, column, pieces, weights, out, later):  # type: ignore[no-untyped-def]
    filters, vectors, lanes, _ = size
    step, each = p.parts.size * p.tiles, p.parts.size * filters
    column_sums(
        filters=filters,
        computed=computed,
        vectors=vectors,
        lanes=lanes,
        terms=terms[0],
        last_terms=terms[1],
        points=points[0],
        x=pieces.points,
        x_begin=column * points[0] * step + first_tile,
        x_step=step,
        ahead=POINTS_AHEAD * step,
        offsets=p.parts,
        last_term=p.begins[(points[0] - 1) * points[1] + column],
        weights=weights,
        weights_begin=(block * points[1] + column) * points[0] * each,
        weights_step=each,
        out=pieces.sums,
        out_begin=0,
        fetched_lines=terms[2],
        fetched=p.fetched,
        fetched_begin=column * points[0] * terms[2],
        next_out=out,
        next_begin=later,
    )


@inlined
def column_from_points(size, outputs, taps, across, column, used, pieces):  # type: ignore[no-untyped-def]
    """Transform a column of points vertically, the sums of the first `used` filters of a register block at each."""
    filters, vectors, lanes, _ = size
    width = vectors * lanes
    for place in range(0, used * width, lanes):
        transform(
            which=OUTPUT,
            outputs=outputs,
            taps=taps,
            lanes=lanes,
            source=pieces.sums,
            source_begin=place,
            source_step=filters * width,
            target=pieces.half,
            target_begin=column * filters * width + place,
            target_step=across * filters * width,
        )
