"""The steps of the tile of `fft`, inlined into it: forward and inverse transforms, and the store."""

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
    """The pieces of scratch; sizes in elements, or views.

    Attributes:
        band: The input of the unit.
        spectra: Transformed input, shape (tiles, channels * blocks of taps, rows / 2 / lanes, columns, 2, lanes).
        sums: Sums of products of one tile, used where there are several channels or blocks of taps.
        between: Intermediate results of the horizontal inverse pass, shape (columns, 2, lanes).
        half: One tile between its two passes, with padding between vectors of columns.
        runs: Output rows of one filter's tiles, padded by a vector.
    """

    band: int
    spectra: int
    sums: int
    between: int
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
        y_taps: Rows of a block of taps.
        x_taps: Columns of a block of taps.
        y_blocks: Blocks of taps along the vertical axis.
        x_blocks: Blocks of taps along the horizontal axis.
        tiles: Tiles in a unit.
        unit_filters: Filters in a unit.
        run: Elements from one row of `runs` to the next.
        streamed: Whether outputs are written with non-temporal stores.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
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
def to_frequencies(rows, columns, lanes, row_stride, band, band_begin, half, spectra, spectrum_begin):  # type: ignore[no-untyped-def]
    """Transform one tile of the band into a spectrum, shape (rows / 2 / lanes, columns, 2, lanes)."""
    for column in range(0, columns, lanes):
        down_to_frequencies(
            size=rows,
            width=columns,
            lanes=lanes,
            source=band,
            source_begin=band_begin + column,
            row_stride=row_stride,
            target=half,
            target_begin=column * 2 * lanes,
        )
    for part in range(0, rows // 2, lanes):
        across_to_frequencies(
            size=columns,
            lanes=lanes,
            source=half,
            source_begin=part * columns * 2,
            target=spectra,
            target_begin=spectrum_begin + part * columns * 2,
        )


@inlined
def from_frequencies(  # type: ignore[no-untyped-def]  # over 40 lines: two calls, with the name of each argument
    rows, columns, y_outputs, x_outputs, lanes, summed, p, spectrum, weights, own, bias, pieces, target
):
    """Transform the product of two spectra, plus `sums` if `summed`, back into rows of `runs`."""
    group_step = (rows + 2) * lanes  # not a power of two, to avoid conflict misses between vectors of columns
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
    """Transform the first `used` tiles of a band, for every channel and block of taps."""
    size, blocks, row_stride = rows * columns, p.y_blocks * p.x_blocks, p.row_stride
    terms = p.band.channels * blocks
    band, half, spectra = pieces.band, pieces.half, pieces.spectra
    for term in range(terms):
        channel, block = divmod(term, blocks)
        y_block, x_block = divmod(block, p.x_blocks)
        row = channel * p.input_rows + y_block * p.y_taps
        for t in range(used):
            begin = row * row_stride + x_block * p.x_taps + t * x_outputs
            to_frequencies(rows, columns, lanes, row_stride, band, begin, half, spectra, (t * terms + term) * size)


@inlined
def filtered_tile(rows, columns, y_outputs, x_outputs, lanes, summed, p, t, filter_number, weights, pieces):  # type: ignore[no-untyped-def]
    """Compute tile `t` of a unit for one filter, and write it to `runs`."""
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
    """Store the output rows of one filter's tiles."""
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
