"""The steps of the tiles with filters in the lanes of vectors, inlined into them."""

from __future__ import annotations

from typing import NamedTuple

from convbench.kernels.channel_lanes import planes_to_lanes
from convbench.kernels.fields import Table, splitter, unpacker
from convbench.kernels.filter_sums import filter_sums
from convbench.kernels.grid import Grid
from convbench.kernels.output import put_or_stream
from convbench.kernels.tile import clear, inlined
from convbench.kernels.tile_transforms import tile_from_points, tile_to_points


class Pieces(NamedTuple):
    """The pieces of scratch; sizes in elements, or views.

    Attributes:
        band: Input rows of a vector of channels, shape (rows, columns, lanes).
        points: Transformed input of a unit, shape (panels, points, parts, tiles, lanes); empty where that is shared.
        sums: Sums of products of a register block of filters, shape (panels, points, tiles, filters).
        runs: Output rows of a vector of filters, padded by two vectors.
    """

    band: int
    points: int
    sums: int
    runs: int


class Parameters(NamedTuple):
    """The parameters of the tiles.

    Attributes:
        transform_grid: Grid of the units of the transform's own phase.
        grid: Grid of the units.
        pieces: Sizes of the pieces of scratch.
        top: Rows of padding above an image.
        left: Columns of padding left of an image.
        channels: Channels of a group.
        channel_blocks: Vectors of channels in a group.
        columns: Input columns of a row of tiles, in whole vectors.
        y_blocks: Blocks of taps along the vertical axis.
        x_blocks: Blocks of taps along the horizontal axis.
        image_rows: Rows of tiles in an image.
        all_rows: Rows of tiles in all images.
        tile_rows: Rows of tiles in a unit.
        tile_columns: Tiles in a row of a unit.
        panels: Panels of a unit.
        unit_points: Elements of the transformed input of a unit.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        filter_step: Elements of the output rows of a filter in scratch.
        run: Elements of an output row in scratch.
        whole: Whether rows of tiles are whole rows of the output, which then are copied together.
        streamed: Whether outputs are written with non-temporal stores.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
        ahead: Elements by which weights are asked for ahead.
        offsets: Offsets in the points of (channel, block of taps).
    """

    transform_grid: Grid
    grid: Grid
    pieces: Pieces
    top: int
    left: int
    channels: int
    channel_blocks: int
    columns: int
    y_blocks: int
    x_blocks: int
    image_rows: int
    all_rows: int
    tile_rows: int
    tile_columns: int
    panels: int
    unit_points: int
    blocks: int
    unit_blocks: int
    filter_step: int
    run: int
    whole: int
    streamed: int
    biases: int
    relu: int
    ahead: int
    offsets: Table


unpack = unpacker(Parameters)
split = splitter(Pieces)


@inlined
def fill(y_outputs, x_outputs, lanes, p, place, x, block, image, first_row, lines, band):  # type: ignore[no-untyped-def]
    """Copy the input of some rows of tiles of one image, with a channel in each lane."""
    height, width = x.shape[2], x.shape[3]
    plane = (image * p.grid.groups + place.group) * p.channels + block * lanes
    flat, first = x.reshape(x.size), place.segment * p.tile_columns * x_outputs - p.left
    for line in range(lines):
        row = first_row * y_outputs - p.top + line
        inside = 0 <= row < height
        planes_to_lanes(
            lanes=lanes,
            source=flat,
            source_begin=(plane * height + (row if inside else 0)) * width,
            plane_step=height * width,
            planes=p.channels - block * lanes,
            first=first,
            width=width if inside else 0,
            target=band,
            target_begin=line * p.columns * lanes,
            count=p.columns,
        )


@inlined
def to_points(tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, block, first_tile, rows, band, points):  # type: ignore[no-untyped-def]
    """Transform the input of some rows of tiles, from the unit's tile `first_tile` on, to the points."""
    size = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)
    step = p.y_blocks * p.x_blocks * p.channel_blocks * tiles * lanes
    for y_block in range(p.y_blocks):
        for x_block in range(p.x_blocks):
            part = (y_block * p.x_blocks + x_block) * p.channel_blocks + block
            for row in range(rows):
                source = ((row * y_outputs + y_block * y_taps) * p.columns + x_block * x_taps) * lanes
                for column in range(p.tile_columns):
                    panel, tile = divmod(first_tile + row * p.tile_columns + column, tiles)
                    tile_to_points(
                        y_outputs=y_outputs,
                        y_taps=y_taps,
                        x_outputs=x_outputs,
                        x_taps=x_taps,
                        lanes=lanes,
                        source=band,
                        source_begin=source + column * x_outputs * lanes,
                        row_step=p.columns * lanes,
                        target=points,
                        target_begin=panel * size * step + (part * tiles + tile) * lanes,
                        target_step=step,
                    )


@inlined
def clear_rest(tiles, lanes, points, p, block, rows, target):  # type: ignore[no-untyped-def]
    """Make the input of the tiles zero that fill up the last panel: left-overs may be denormal, which is slow."""
    used, parts = rows * p.tile_columns, p.y_blocks * p.x_blocks
    for number in range(used, (used + tiles - 1) // tiles * tiles):
        panel, tile = divmod(number, tiles)
        for point in range(points):
            for part in range(parts):
                place = ((panel * points + point) * parts + part) * p.channel_blocks + block
                begin = (place * tiles + tile) * lanes
                clear(target[begin : begin + lanes])


@inlined
def products(vectors, tiles, lanes, points, p, group_block, rows, inputs, weights, sums):  # type: ignore[no-untyped-def]
    """Compute the sums of products of a register block of filters at every point of every panel."""
    filters, panels = vectors * lanes, (rows * p.tile_columns + tiles - 1) // tiles
    step = p.y_blocks * p.x_blocks * p.channel_blocks * tiles * lanes
    for point in range(points):
        for panel in range(panels):
            filter_sums(
                vectors=vectors,
                tiles=tiles,
                lanes=lanes,
                x=inputs,
                x_begin=(panel * points + point) * step,
                x_step=lanes,
                offsets=p.offsets,
                weights=weights,
                weights_begin=(group_block * points + point) * p.offsets.size * filters,
                ahead=p.ahead,
                out=sums,
                out_begin=(panel * points + point) * tiles * filters,
            )


@inlined
def from_points(vectors, tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, rows, vector, biases, pieces):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Transform the sums of a vector of filters to output rows in scratch.

    Tiles go from right to left, so that what the last one has beyond the end of a row is overwritten by the next row.
    """
    filters = vectors * lanes
    points = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)
    for row in range(rows):
        for column in range(p.tile_columns - 1, -1, -1):
            panel, tile = divmod(row * p.tile_columns + column, tiles)
            tile_from_points(
                y_outputs=y_outputs,
                y_taps=y_taps,
                x_outputs=x_outputs,
                x_taps=x_taps,
                lanes=lanes,
                source=pieces.sums,
                source_begin=(panel * points * tiles + tile) * filters + vector * lanes,
                vectors=vectors,
                tiles=tiles,
                biases=biases,
                bias_begin=0,
                relu=p.relu,
                target=pieces.runs,
                target_begin=row * y_outputs * p.run + column * x_outputs,
                filter_step=p.filter_step,
                row_step=p.run,
            )


@inlined
def store(y_outputs, x_outputs, lanes, p, place, rows, first_filter, used, runs, out):  # type: ignore[no-untyped-def]
    """Copy the output rows of the first `used` filters of a vector to the output, clipped to it."""
    height, width = out.shape[2], out.shape[3]
    flat, first_column = out.reshape(out.size), place.segment * p.tile_columns * x_outputs
    columns = min(p.run, width - first_column)
    done = 0
    while done < rows:
        image, first_row = divmod(place.band * p.tile_rows + done, p.image_rows)
        count = min(rows - done, p.image_rows - first_row)
        lines = min(count * y_outputs, height - first_row * y_outputs)
        copies, length = (1, lines * width) if p.whole else (lines, columns)
        for number in range(used):
            plane = image * out.shape[1] + first_filter + number
            target = (plane * height + first_row * y_outputs) * width + first_column
            source = number * p.filter_step + done * y_outputs * p.run
            for _ in range(copies):
                put_or_stream(lanes, p.streamed, runs, source, flat, target, length)
                source += p.run
                target += width
        done += count
