"""Convolution by Fourier transforms on the host: overlap-save, with all transforms in straight-line vector code.

The input of a tile is transformed, multiplied by the transformed filter, summed over channels (and over blocks of taps,
where the kernel is too large for a tile and is split), and transformed back; outputs that wrap around are discarded.
The cost of an output hardly depends on the kernel size, so this form suits large kernels.

A unit is a few adjacent tiles and a block of filters. Its output rows are assembled in scratch and then stored
together.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.fft.cut import Cut, cut_up, errors, packed_shape
from convbench.algorithms.fft.steps import Parameters, Pieces, filtered_tile, split, store, transform_band, unpack
from convbench.algorithms.fft.weights import transform_weights
from convbench.epilogue import Epilogue
from convbench.kernels.band import Band, fill_band
from convbench.kernels.blocking import PACKING_BYTES, with_tail
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import pack
from convbench.kernels.grid import locate
from convbench.kernels.output import streamed
from convbench.kernels.tile import Phase, TileName, Work, jit
from convbench.kernels.vector import fence
from convbench.problem import ITEM_SIZE, Problem

STAGES: Final = ("pad", "transform", "product and inverse", "store")
PAD, TRANSFORM, PRODUCT, STORE = range(4)


def make_tile(rows: int, columns: int, y_outputs: int, x_outputs: int, lanes: int, summed: int) -> Any:
    """The tile for transforms of rows x columns; `summed` says whether there are several products to sum."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a block of filters over a few adjacent tiles of one row of tiles of one group of one image."""
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


def _parameters(problem: Problem, cut: Cut, weights: int, epilogue: Epilogue) -> Parameters:
    """The parameters of the tile; `weights` is the number of elements before the biases."""
    y, x = cut.y, cut.x
    (top, _), (left, _) = problem.padding
    start = np.zeros(1, np.int64)  # one run of rows and one of columns, starting at 0
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
    """Transform the weights; the biases follow them."""
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
    """Scratch, transformed weights, and the temporary memory of their transformation."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    weights = math.prod(packed_shape(problem, cut)) + problem.out_channels
    return Footprint(sum(_pieces(problem, cut)) * item, weights * item, PACKING_BYTES)
