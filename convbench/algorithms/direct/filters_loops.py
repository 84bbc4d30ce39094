"""The loops over the register blocks of a unit, for direct convolution with filters in the lanes of vectors.

Where there are few registers, a register block reads its weights faster than the second-level cache delivers them. Taps
are then added in parts (Goto and van de Geijn, 2008), each for all pixels of a unit before the next, and sums are kept
in between. One loop goes over the taps of a part, and with few pixels over all taps: for the few of a kernel's row, a
loop of their own takes too long.
"""

from __future__ import annotations

from typing import Final

from convbench.kernels.copying import prefetch
from convbench.kernels.filter_lanes import filter_lanes, filter_lanes_in_parts
from convbench.kernels.tile import inlined

MOST_AHEAD: Final = 1024  # weights that are asked for at a time: more wait for one another


@inlined
def rows_inside(p, row, height):  # type: ignore[no-untyped-def]
    """The kernel rows [first, last) that a row of outputs reads inside an image of `height` rows."""
    above = p.top - row * p.stride
    first = min(max(0, (above + p.dilation - 1) // p.dilation), p.outer.size // p.row_taps)
    last = min(p.outer.size // p.row_taps, (above + height + p.dilation - 1) // p.dilation)
    return first, max(first, last)


@inlined
def add_all(vectors, pixels, lanes, step, p, places, source, weights, flat):  # type: ignore[no-untyped-def]
    """Compute one register block; `places` is what `rows_of_blocks` knows of it."""
    offsets, x_begin, weights_begin, bias_begin, out_begin, filters_used = places
    filter_lanes(
        vectors=vectors,
        pixels=pixels,
        lanes=lanes,
        x=source,
        x_begin=x_begin,
        x_step=step,
        outer_offsets=offsets,
        inner_offsets=p.inner,
        weights=weights,
        weights_begin=weights_begin,
        bias_begin=bias_begin,
        out=flat,
        out_begin=out_begin,
        filter_step=p.height * p.width,
        filters_used=filters_used,
        pixels_used=pixels,
        relu=p.relu,
    )


@inlined
def rows_of_blocks(vectors, pixels, rest, lanes, step, p, place, block, begin, source, weights, flat, sizes):  # type: ignore[no-untyped-def]  # over 40 lines: the documentation of its arguments
    """Compute a register block of filters over the rows and columns of a unit.

    Args:
        vectors: Vectors of filters of a register block.
        pixels: Pixels of a register block.
        rest: Pixels of the one at the end of a row, if that is smaller; 0 if it is not.
        lanes: Filters of a vector.
        step: Elements from one pixel to the next, where they are read.
        p: Parameters.
        place: Place of the unit.
        block: Number of the register block in its group.
        begin: Index in `source` of the unit's first pixel, at offset 0.
        source: Where pixels are read, 1-D.
        weights: Packed weights.
        flat: Output, 1-D.
        sizes: Filters of the output, and rows of an image.
    """
    (filters, image_rows), size = sizes, vectors * lanes
    group_filters = filters // p.grid.groups
    top, left = place.band * p.rows, place.segment * p.columns
    columns = min(p.columns, p.width - left)
    group_block = place.group * p.blocks + block
    first = (place.image * p.grid.groups + place.group) * group_filters + block * size
    for row in range(min(p.rows, p.height - top)):
        kernel_begin, kernel_end = rows_inside(p, top + row, image_rows)
        skipped = kernel_begin * p.row_taps
        offsets = p.outer[skipped : kernel_end * p.row_taps]
        for piece in range((columns + pixels - 1) // pixels):
            column = piece * pixels
            one = (
                offsets,
                begin + row * p.row_step + column * step,
                (group_block * p.outer.size + skipped) * p.inner.size * size,
                p.biases + group_block * size,
                (first * p.height + top + row) * p.width + left + column,
                group_filters - block * size,
            )
            if rest == 0 or column + pixels <= columns:
                add_all(vectors, pixels, lanes, step, p, one, source, weights, flat)
            else:
                add_all(vectors, rest, lanes, step, p, one, source, weights, flat)


@inlined
def add_part(vectors, pixels, lanes, step, p, places, source, weights, flat, sums):  # type: ignore[no-untyped-def]
    """Add a part of the taps to the sums of one register block; `places` is what `parts_of_rows` knows of it."""
    part, offsets, x_begin, weights_begin, bias_begin, sums_begin, out_begin, filters_used = places
    filter_lanes_in_parts(
        vectors=vectors,
        pixels=pixels,
        lanes=lanes,
        x=source,
        x_begin=x_begin,
        x_step=step,
        offsets=offsets,
        weights=weights,
        weights_begin=weights_begin,
        bias_begin=bias_begin,
        sums=sums,
        sums_begin=sums_begin,
        is_first=part == 0,
        is_last=(part + 1) * p.depth >= p.outer.size,
        out=flat,
        out_begin=out_begin,
        filter_step=p.height * p.width,
        filters_used=filters_used,
        relu=p.relu,
    )


@inlined
def parts_of_rows(vectors, pixels, rest, lanes, step, p, place, blocks, begin, source, weights, flat, sizes, kept):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Add a part of the taps to the sums of a register block of filters over the rows and columns of a unit.

    Args:
        vectors: See `rows_of_blocks`, and so on up to `sizes`.
        pixels: See `rows_of_blocks`.
        rest: See `rows_of_blocks`.
        lanes: See `rows_of_blocks`.
        step: See `rows_of_blocks`.
        p: See `rows_of_blocks`.
        place: See `rows_of_blocks`.
        blocks: Number of the register block in its group, and those of the first and after the last that have turns.
        begin: See `rows_of_blocks`.
        source: See `rows_of_blocks`.
        weights: See `rows_of_blocks`.
        flat: See `rows_of_blocks`.
        sizes: See `rows_of_blocks`.
        kept: Number of the part; where sums stay between parts; and the index there of the first of this block.
    """
    (filters, image_rows), (block, first_block, end_block), (part, sums, base) = sizes, blocks, kept
    size = vectors * lanes
    group_filters = filters // p.grid.groups
    top, left = place.band * p.rows, place.segment * p.columns
    columns = min(p.columns, p.width - left)
    group_block = place.group * p.blocks + block
    first = (place.image * p.grid.groups + place.group) * group_filters + block * size
    pieces = (columns + pixels - 1) // pixels
    rows = min(p.rows, p.height - top)
    next_block, next_part = group_block + 1, part  # whose weights are asked for meanwhile, a share with each block
    if block + 1 == end_block:
        next_block, next_part = place.group * p.blocks + first_block, part + 1
    following = (next_block * p.outer.size + next_part * p.depth) * size
    share = (p.depth * size + rows * pieces - 1) // (rows * pieces)
    is_last = block + 1 == end_block and next_part * p.depth >= p.outer.size
    share = 0 if is_last or share > MOST_AHEAD else share
    for row in range(rows):
        kernel_begin, kernel_end = rows_inside(p, top + row, image_rows)
        begin_tap = max(part * p.depth, kernel_begin * p.row_taps)
        end_tap = max(begin_tap, min((part + 1) * p.depth, kernel_end * p.row_taps))
        offsets = p.outer[begin_tap:end_tap]
        for piece in range(pieces):
            share_begin = following + (row * pieces + piece) * share
            prefetch(lanes=lanes, source=weights, begin=share_begin, count=share)
            column = piece * pixels
            add = (
                part,
                offsets,
                begin + row * p.row_step + column * step,
                (group_block * p.outer.size + begin_tap) * size,
                p.biases + group_block * size,
                base + (row * pieces + piece) * pixels * size,
                (first * p.height + top + row) * p.width + left + column,
                group_filters - block * size,
            )
            if rest == 0 or column + pixels <= columns:
                add_part(vectors, pixels, lanes, step, p, add, source, weights, flat, sums)
            else:
                add_part(vectors, rest, lanes, step, p, add, source, weights, flat, sums)


@inlined
def all_at_once(vectors, pixels, rest, lanes, step, p, place, end_block, begin, source, weights, flat, sizes):  # type: ignore[no-untyped-def]
    """Compute a unit and those after it up to a register block, all taps of a register block before the next."""
    for block in range(place.filter_block * p.unit_blocks, end_block):
        rows_of_blocks(vectors, pixels, rest, lanes, step, p, place, block, begin, source, weights, flat, sizes)


@inlined
def in_parts(vectors, pixels, rest, lanes, step, p, place, end_block, begin, source, weights, flat, sizes, sums):  # type: ignore[no-untyped-def]
    """Likewise, a part of the taps of all register blocks before the next part.

    The weights of a part stay in the first-level cache for all pixels, and its pixels in the second for all filters.
    """
    first_block = place.filter_block * p.unit_blocks
    size = p.rows * ((p.columns + pixels - 1) // pixels) * pixels * vectors * lanes
    for part in range((p.outer.size + p.depth - 1) // p.depth):
        for block in range(first_block, end_block):
            kept, blocks = (part, sums, p.band_size + (block - first_block) * size), (block, first_block, end_block)
            parts_of_rows(
                vectors, pixels, rest, lanes, step, p, place, blocks, begin, source, weights, flat, sizes, kept
            )
