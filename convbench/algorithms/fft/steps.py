"""The steps of a tile of `fft`, which become part of it: transforms there and back, and the store."""

from __future__ import annotations

from typing import NamedTuple

from convbench.kernels.band import Band
from convbench.kernels.fields import splitter, unpacker
from convbench.kernels.fourier_passes import (
    across_from_frequencies,
    across_to_frequencies,
    down_from_frequencies,
    down_to_frequencies,
    multiply_points,
)
from convbench.kernels.grid import Grid
from convbench.kernels.output import write_rows
from convbench.kernels.tile import inlined


class Pieces(NamedTuple):
    """What scratch is cut into.

    Attributes:
        band: The input.
        spectra: Its transforms, shape (tiles, channels and blocks, rows / 2 / lanes, columns, 2, lanes).
        sums: Of one tile, if there are several channels or blocks.
        between: Shape (columns, 2, lanes).
        half: Of one tile, between its two passes, with room between its vectors of columns.
        runs: Rows of pixels of one filter's tiles, and room for a vector.
    """

    band: int
    spectra: int
    sums: int
    between: int
    half: int
    runs: int


class Parameters(NamedTuple):
    """What the tile has to know.

    Attributes:
        grid: Of the units.
        band: How bands are filled.
        pieces: Sizes of the pieces of scratch.
        input_rows: Rows of a band.
        row_stride: From one row of a band to the next.
        y_taps: Rows of a block of taps.
        x_taps: Columns of a block of taps.
        y_blocks: Blocks below each other.
        x_blocks: Blocks side by side.
        tiles: In a unit.
        unit_filters: In a unit.
        run: Pixels from one row of `runs` to the next.
        streamed: Whether outputs are written past the caches.
        biases: Index in the weights of the first filter's bias.
        relu: Whether outputs end with ReLU.
    """

    grid: Grid
    band: Band
    pieces: Pieces
    input_rows: int
    row_stride: int
    y_taps: int
    x_taps: int
    y_blocks: int
    x_blocks: int
    tiles: int
    unit_filters: int
    run: int
    streamed: int
    biases: int
    relu: int


unpack = unpacker(Parameters)
split = splitter(Pieces)


@inlined
def to_frequencies(rows, columns, lanes, p, band_begin, spectrum_begin, pieces):  # type: ignore[no-untyped-def]
    """Transform one tile of the band into a spectrum, shape (rows / 2 / lanes, columns, 2, lanes)."""
    for column in range(0, columns, lanes):
        down_to_frequencies(
            size=rows,
            width=columns,
            lanes=lanes,
            source=pieces.band,
            source_begin=band_begin + column,
            row_stride=p.row_stride,
            target=pieces.half,
            target_begin=column * 2 * lanes,
        )
    for part in range(0, rows // 2, lanes):
        across_to_frequencies(
            size=columns,
            lanes=lanes,
            source=pieces.half,
            source_begin=part * columns * 2,
            target=pieces.spectra,
            target_begin=spectrum_begin + part * columns * 2,
        )


@inlined
def from_frequencies(  # type: ignore[no-untyped-def]  # over 40 lines: two calls, with the name of each argument
    rows, columns, y_outputs, x_outputs, lanes, summed, p, spectrum, weights, own, bias, pieces, target
):
    """Transform the products of a spectrum and a filter's, plus sums if some are to be added, into rows of `runs`."""
    group_step = (rows + 2) * lanes  # no power of two, so that groups of columns do not compete for places in the cache
    for part in range(0, rows // 2, lanes):
        at = part * columns * 2
        across_from_frequencies(
            size=columns,
            outputs=x_outputs,
            lanes=lanes,
            added=summed,
            a=pieces.spectra,
            a_begin=spectrum + at,
            b=weights,
            b_begin=own + at,
            sums=pieces.sums,
            sums_begin=at,
            between=pieces.between,
            target=pieces.half,
            target_begin=part * 2 * lanes,
            step=group_step,
        )
    for column in range(0, x_outputs, lanes):
        down_from_frequencies(
            size=rows,
            outputs=y_outputs,
            lanes=lanes,
            source=pieces.half,
            source_begin=column // lanes * group_step,
            target=pieces.runs,
            target_begin=target + column,
            row_stride=p.run,
            biases=weights,
            bias_begin=bias,
            relu=p.relu,
        )


@inlined
def transform_band(rows, columns, x_outputs, lanes, p, used, pieces):  # type: ignore[no-untyped-def]
    """Transform `used` tiles of a band, for every channel and block of taps."""
    size, blocks = rows * columns, p.y_blocks * p.x_blocks
    terms = p.band.channels * blocks
    for term in range(terms):
        channel, block = divmod(term, blocks)
        y_block, x_block = divmod(block, p.x_blocks)
        row = channel * p.input_rows + y_block * p.y_taps
        for t in range(used):
            begin = row * p.row_stride + x_block * p.x_taps + t * x_outputs
            to_frequencies(rows, columns, lanes, p, begin, (t * terms + term) * size, pieces)


@inlined
def filtered_tile(rows, columns, y_outputs, x_outputs, lanes, summed, p, t, filter_number, weights, pieces):  # type: ignore[no-untyped-def]
    """Compute the `t`-th tile of a unit for one filter into its place in `runs`."""
    size = rows * columns
    terms = p.band.channels * p.y_blocks * p.x_blocks
    begin, own, last = t * terms * size, filter_number * terms * size, (terms - 1) * size
    if summed:
        multiply_points(
            lanes=lanes,
            a=pieces.spectra,
            a_begin=begin,
            a_step=size,
            b=weights,
            b_begin=own,
            b_step=size,
            terms=terms - 1,
            target=pieces.sums,
            target_begin=0,
            count=size // (2 * lanes),
        )
    bias = p.biases + filter_number
    spectrum, own, target = begin + last, own + last, t * x_outputs
    from_frequencies(
        rows, columns, y_outputs, x_outputs, lanes, summed, p, spectrum, weights, own, bias, pieces, target
    )


@inlined
def store(y_outputs, x_outputs, lanes, p, place, filter_number, used, first_column, pieces, out):  # type: ignore[no-untyped-def]
    """Write the rows of one filter's tiles."""
    write_rows(
        lanes,
        p.streamed,
        pieces.runs,
        p.run,
        out[place.image, filter_number],
        place.band * y_outputs,
        y_outputs,
        y_outputs,
        first_column,
        used * x_outputs,
    )
