"""Convolution by Fourier transforms on the host: overlap-save, with both transforms in straight vector code.

The input under a tile of outputs is transformed, multiplied with the transformed kernel, summed over channels (and over
blocks, where a kernel is too large for a tile and is cut into some), and transformed back; what wraps around is thrown
away. The cost of an output hardly grows with the kernel, so this form is for large kernels.

A unit is a few tiles beside each other and some filters. Its rows of outputs are put together in scratch and written in
one go.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.fft.cut import Cut, cut_up, errors, packed_shape
from convbench.epilogue import Epilogue
from convbench.kernels.band import Band, fill_band
from convbench.kernels.blocking import PACKING_BYTES, pieces, with_tail
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import pack, splitter, unpacker
from convbench.kernels.fourier import order, roots
from convbench.kernels.fourier_passes import (
    across_from_frequencies,
    across_to_frequencies,
    down_from_frequencies,
    down_to_frequencies,
    multiply_points,
)
from convbench.kernels.grid import Grid, locate
from convbench.kernels.output import streamed, write_rows
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
from convbench.kernels.vector import fence
from convbench.problem import ITEM_SIZE, Problem

STAGES: Final = ("pad", "transform", "product and inverse", "store")
PAD, TRANSFORM, PRODUCT, STORE = range(4)


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


def make_tile(rows: int, columns: int, y_outputs: int, x_outputs: int, lanes: int, summed: int) -> Any:
    """The tile for transforms of rows x columns inputs into so many outputs, of one product or of a sum of several."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is some filters over a few tiles of one row of tiles of one group of one image."""
        p = unpack(parameters)
        pieces, filters = split(scratch, p.pieces), out.shape[1] // p.grid.groups
        for unit in range(first, last):
            place = locate(p.grid, unit)
            first_column = place.segment * p.tiles * x_outputs
            used = min(p.tiles, (out.shape[3] - first_column + x_outputs - 1) // x_outputs)
            since = ticks()
            fill_band(x, pieces.band, p.band, place)
            since = lap(clock, PAD, since)
            transform_band(rows, columns, x_outputs, lanes, p, used, pieces)
            since = lap(clock, TRANSFORM, since)
            begin = place.filter_block * p.unit_filters
            for number in range(begin, min(filters, begin + p.unit_filters)):
                own = place.group * filters + number
                for t in range(used):
                    filtered_tile(rows, columns, y_outputs, x_outputs, lanes, summed, p, t, own, weights, pieces)
                since = lap(clock, PRODUCT, since)
                store(y_outputs, x_outputs, lanes, p, place, own, used, first_column, pieces, out)
                since = lap(clock, STORE, since)
        if p.streamed:
            fence()

    return tile


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


def transform_weights(problem: Problem, weights: NDArray[Any], cut: Cut, packed: NDArray[Any]) -> None:
    """Compute the conjugate of the weights' transforms, divided by what both transforms of an input multiply it by.

    Args:
        problem: Whose weights they are.
        weights: Shape `problem.weights_shape`.
        cut: The tiles.
        packed: Where to: shape `packed_shape`, (groups, filters, channels and blocks, parts of the vertical
            frequencies, horizontal frequencies, real and imaginary, lanes).
    """
    y, x = cut.y, cut.x
    (rows, columns), (step_y, step_x) = problem.kernel_extent, problem.dilation
    vertical = roots(np.outer(4 * np.arange(y.size // 2) + 1, np.arange(y.taps)), 2 * y.size)
    horizontal = roots(np.outer(np.arange(x.size), np.arange(x.taps)), x.size)
    vertical = vertical[order(y.size // 2)] / (y.size // 2 * x.size)
    blocks = y.blocks * x.blocks
    by_filter = packed.reshape(-1, *packed.shape[2:])
    for filters, channels in pieces(weights.shape[0], weights.shape[1], 8 * blocks * y.size * x.size):
        own = weights[filters, channels]
        spread = np.zeros((*own.shape[:2], y.blocks * y.taps, x.blocks * x.taps))
        spread[:, :, :rows:step_y, :columns:step_x] = own
        blocked = spread.reshape(*own.shape[:2], y.blocks, y.taps, x.blocks, x.taps)
        points = np.einsum("ma,kcyaxd,nd->kcyxnm", vertical, blocked, horizontal, optimize=True)
        parts = points.reshape(len(own), -1, x.size, packed.shape[3], cut.lanes).swapaxes(2, 3)
        into = by_filter[filters, channels.start * blocks : channels.stop * blocks]
        into[..., 0, :], into[..., 1, :] = parts.real, parts.imag


def _parameters(problem: Problem, cut: Cut, weights: int, epilogue: Epilogue) -> Parameters:
    """What the tile has to know, where so many numbers of weights stand before the biases."""
    y, x = cut.y, cut.x
    (top, _), (left, _) = problem.padding
    start = np.zeros(1, np.int64)  # of the only run of a band's rows and columns
    steps = y.outputs, cut.tiles * x.outputs
    band = Band(problem.group_channels, *steps, top, left, 1, cut.input_rows, 1, cut.row_stride, start, start)
    return Parameters(
        grid=cut.grid,
        band=band,
        pieces=_pieces(problem, cut),
        input_rows=cut.input_rows,
        row_stride=cut.row_stride,
        y_taps=y.taps,
        x_taps=x.taps,
        y_blocks=y.blocks,
        x_blocks=x.blocks,
        tiles=cut.tiles,
        unit_filters=cut.unit_filters,
        run=cut.run,
        streamed=streamed(problem),
        biases=weights,
        relu=epilogue.relu,
    )


def _pieces(problem: Problem, cut: Cut) -> Pieces:
    y, x = cut.y, cut.x
    size = y.size * x.size
    return Pieces(
        band=problem.group_channels * cut.input_rows * cut.row_stride,
        spectra=cut.tiles * problem.group_channels * y.blocks * x.blocks * size,
        sums=size,
        between=x.size * 2 * cut.lanes,
        half=size + 2 * x.size,
        runs=y.outputs * cut.run + cut.lanes,
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Transformed weights with the biases behind them."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    everything, transformed = with_tail(packed_shape(problem, cut), epilogue.biases(problem, problem.group_filters))
    transform_weights(problem, weights, cut, transformed)
    parameters = _parameters(problem, cut, transformed.size, epilogue)
    summed = problem.group_channels * y.blocks * x.blocks > 1
    tile = TileName(__name__, "make_tile", (y.size, x.size, y.outputs, x.outputs, cut.lanes, int(summed)))
    return Work(
        phases=(Phase(tile, cut.grid.units, pack(parameters), STAGES),),
        weights=everything,
        scratch_size=sum(parameters.pieces),
        errors=errors(problem, cut),
        variant={
            "tile": f"{y.size} x {x.size}",
            "outputs": f"{y.outputs} x {x.outputs}",
            "blocks": f"{y.blocks} x {x.blocks}",
            "lanes": cut.lanes,
            "tiles of a unit": cut.tiles,
            "units": cut.grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch, and the weights' transforms."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    weights = math.prod(packed_shape(problem, cut)) + problem.out_channels
    return Footprint(sum(_pieces(problem, cut)) * item, weights * item, PACKING_BYTES)
