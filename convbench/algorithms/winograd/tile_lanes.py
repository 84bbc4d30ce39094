"""Winograd convolution on the host: tiles of outputs from fewer multiplications.

A kernel that is larger than the taps of a tile is split into blocks of taps. The input of a tile is transformed for
each block and channel, multiplied point by point by the transformed weights, and summed over blocks and channels; only
the sum is transformed back. This is nested filtering: the sum over blocks is itself a convolution. For an 11 x 11
kernel, tiles of 5 x 5 outputs and 3 x 3 blocks of 4 x 4 taps take 21 multiplications for each output instead of 121.

A unit is a few rows of tiles, or a segment of one row where the transformed input of a whole row exceeds the cache. The
products are one matrix product for each point, (filters x blocks * channels) times (blocks * channels x tiles). Where
these have few terms, they are straight lines of code, otherwise the micro-kernel's loops.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.winograd.cut import Cut, cut_up, is_streamed, is_whole
from convbench.algorithms.winograd.nested import errors, transformed_shape
from convbench.algorithms.winograd.outputs import (
    fetched,
    first_of_unit,
    first_pixel,
    rows_to_output,
    rows_to_scratch,
    store,
)
from convbench.algorithms.winograd.packing import pack_weights, packing_bytes
from convbench.algorithms.winograd.steps import (
    Parameters,
    Pieces,
    column_from_points,
    products_in_lines,
    products_in_loops,
    split,
    to_points,
    unpack,
)
from convbench.algorithms.winograd.terms import terms
from convbench.epilogue import Epilogue
from convbench.kernels.band import Band, fill_band
from convbench.kernels.blocking import with_tail
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import pack
from convbench.kernels.grid import at_position, locate
from convbench.kernels.linear_map import pixels_overwritten
from convbench.kernels.tile import Phase, TileName, Work, borrowed, jit
from convbench.kernels.vector import fence
from convbench.problem import ITEM_SIZE, Problem

STAGES: Final = ("pad", "transform", "product", "inverse", "store")
PAD, TRANSFORM, PRODUCT, INVERSE, STORE = range(5)


def make_tile(  # noqa: C901  # over 40 lines: the steps of a unit, and their times
    filters: int,
    vectors: int,
    lanes: int,
    y_outputs: int,
    y_taps: int,
    x_outputs: int,
    x_taps: int,
    fetched_lines: int,
    *line_terms: int,
) -> Any:
    """The tile for a register block, and for minimal filtering with given outputs and taps along each axis.

    Args:
        filters: Filters of a register block.
        vectors: Vectors of a register block.
        lanes: Elements of a vector.
        y_outputs: m of `toom_cook`, vertical.
        y_taps: r of `toom_cook`, vertical.
        x_outputs: Likewise, horizontal.
        x_taps: Likewise.
        fetched_lines: See `Cut`.
        line_terms: `terms.counts` for products in straight lines; empty for loops.
    """
    size, in_lines = (filters, vectors, lanes, filters - 1), bool(line_terms)
    width, points = vectors * lanes, (y_outputs + y_taps - 1, x_outputs + x_taps - 1)
    at_once, beyond = fetched_lines > 0, pixels_overwritten(x_outputs, lanes)

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is `unit_blocks` register blocks of filters over rows of tiles of one group of one image.

        Units for the same tiles are computed as one, from the same points.
        """
        p = unpack(parameters)
        pieces, group_filters = split(scratch, p.pieces), out.shape[1] // p.grid.groups
        packed, flat, plane = borrowed(weights), borrowed(out.reshape(out.size)), out.shape[2] * out.shape[3]
        unit = first
        while unit < last:
            place, count = locate(p.grid, unit), at_position(p.grid, unit, last, p.together)
            unit += count
            rows = min(p.tile_rows, (out.shape[2] + y_outputs - 1) // y_outputs - place.band * p.tile_rows)
            first_block = place.filter_block * p.unit_blocks
            since = ticks()
            fill_band(x, pieces.band, p.band, place)
            since = lap(clock, PAD, since)
            to_points(y_outputs, y_taps, x_outputs, x_taps, lanes, p, rows, pieces)
            since = lap(clock, TRANSFORM, since)
            end = min(p.blocks, first_block + count * p.unit_blocks)
            following = first_of_unit(y_outputs, x_outputs, p, min(unit, last - 1), group_filters, out)
            for block in range(first_block, end):
                first_filter = p.ends[block - 1] if block > 0 else 0
                used = p.ends[block] - first_filter
                number = place.group * p.blocks + block
                filter_number = place.group * group_filters + first_filter
                begin = first_pixel(y_outputs, x_outputs, p, place, filter_number, 0, out)
                biases = packed[p.biases + place.group * p.blocks * filters + first_filter :]
                for t in range(0, rows * p.tile_columns, width):
                    later = begin + used * plane if block + 1 < end else following  # what the next products write
                    if t + width < rows * p.tile_columns:
                        later = first_pixel(y_outputs, x_outputs, p, place, filter_number, t + width, out)
                    for column in range(points[1]):
                        if in_lines:
                            products_in_lines(
                                size, fetched_lines, line_terms, points, p, number, used, t, column, pieces, packed,
                                flat, later,
                            )  # fmt: skip
                        else:
                            products_in_loops(
                                size, fetched_lines, points, p, number, t, column, pieces, packed, flat, later
                            )
                        since = lap(clock, PRODUCT, since)
                        column_from_points(size, y_outputs, y_taps, points[1], column, used, pieces)
                        since = lap(clock, INVERSE, since)
                    if at_once:
                        rows_to_output(
                            size, y_outputs, x_outputs, x_taps, beyond, p, place, rows, filter_number, used, t, pieces,
                            biases, out, flat,
                        )  # fmt: skip
                    else:
                        rows_to_scratch(size, y_outputs, x_outputs, x_taps, p, used, t, pieces, biases)
                    since = lap(clock, INVERSE, since)
                if not at_once:
                    store(y_outputs, x_outputs, lanes, p, place, filter_number, used, rows, pieces, out)
                    since = lap(clock, STORE, since)
        if p.streamed:
            fence()

    return tile


def _parameters(problem: Problem, cut: Cut, weights: int, epilogue: Epilogue) -> Parameters:
    """The parameters of the tile; `weights` is the number of elements before the biases."""
    y, x = cut.y, cut.x
    columns = np.add.outer(np.arange(x.blocks) * x.taps, np.arange(x.points)).ravel()
    channels, counted = problem.group_channels, terms(problem, y, x)
    parts = np.add.outer(np.arange(channels) * len(counted.order), np.argsort(counted.order)).ravel()
    return Parameters(
        grid=cut.grid,
        band=_band(problem, cut),
        pieces=_pieces(problem, cut),
        input_rows=cut.input_rows,
        row_stride=cut.row_stride,
        y_blocks=y.blocks,
        x_blocks=x.blocks,
        tile_rows=cut.tile_rows,
        tile_columns=cut.tile_columns,
        tiles=cut.tiles,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        together=cut.together,
        run=_run(cut),
        whole=is_whole(problem, cut),
        streamed=is_streamed(problem, cut),
        biases=weights,
        zeros=weights + problem.groups * cut.blocks * cut.filters,
        relu=epilogue.relu,
        columns=columns % x.outputs * cut.length + columns // x.outputs,
        no_offset=np.zeros(1, np.int64),
        parts=parts * cut.tiles,
        begins=np.array(counted.begins),
        ends=np.array(cut.ends),
        fetched=fetched(problem, cut),
        term_ends=np.array(counted.ends) * channels,
    )


def _band(problem: Problem, cut: Cut) -> Band:
    """Bands in which the columns of each residue class modulo a tile's output columns are contiguous."""
    (top, _), (left, _) = problem.padding
    return Band(
        channels=problem.group_channels,
        row_step=cut.tile_rows * cut.y.outputs,
        column_step=cut.tile_columns * cut.x.outputs,
        top=top,
        left=left,
        y_step=1,
        y_length=cut.input_rows,
        x_step=cut.x.outputs,
        x_length=cut.length,
        y_starts=np.zeros(1, np.int64),
        x_starts=np.arange(cut.x.outputs),
    )


def _pieces(problem: Problem, cut: Cut) -> Pieces:
    y, x = cut.y, cut.x
    points = y.points * x.points
    return Pieces(
        band=problem.group_channels * cut.input_rows * cut.row_stride,
        strip=y.points * cut.row_stride,
        points=points * problem.group_channels * y.blocks * x.blocks * cut.tiles,
        sums=y.points * cut.filters * cut.width,
        half=y.outputs * x.points * cut.filters * cut.width,
        runs=(1 if cut.fetched_lines else cut.filters) * y.outputs * _run(cut) + 2 * cut.lanes,
    )


def _run(cut: Cut) -> int:
    """Elements of an output row in scratch: of all tiles or of a block, and what interleaving may overwrite."""
    return (cut.width if cut.fetched_lines else cut.tiles) * cut.x.outputs + cut.lanes


def _places(cut: Cut) -> NDArray[Any] | None:
    """The filters of a group, block by block; None where they follow one another.

    A block that has one less than others repeats the first filter of the next.
    """
    ends = np.array(cut.ends)
    if np.array_equal(ends[:-1], np.arange(1, cut.blocks) * cut.filters):
        return None
    first = np.array([0, *ends[:-1]])
    return np.minimum(first[:, None] + np.arange(cut.filters), cut.group_filters - 1).ravel()


def _by_blocks(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """The weights with as many filters for each register block."""
    if (places := _places(cut)) is None:
        return weights
    grouped = weights.reshape(problem.groups, problem.group_filters, *weights.shape[1:])
    return np.take(grouped, places, axis=1).reshape(-1, *weights.shape[1:])


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Transform the weights; the biases follow them, and then a zero for each filter of a register block."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    biases = epilogue.biases(problem, cut.blocks * cut.filters).ravel()
    tail = np.concatenate([biases, np.zeros(cut.filters, problem.dtype)])
    everything, transformed = with_tail(transformed_shape(problem, y, x, cut.filters, cut.blocks), tail)
    order, spread = terms(problem, y, x).order, _by_blocks(problem, weights, cut)
    pack_weights(problem, spread, (y, x), cut.filters, cut.blocks, everything, order, by_columns=True)
    parameters = _parameters(problem, cut, transformed.size, epilogue)
    sizes = (cut.filters, cut.vectors, cut.lanes, y.outputs, y.taps, x.outputs, x.taps)
    stages = STAGES[:STORE] if cut.fetched_lines else STAGES
    tile, grid = TileName(__name__, "make_tile", (*sizes, cut.fetched_lines, *cut.line_terms)), cut.grid
    return Work(
        phases=(Phase(tile, grid.units, pack(parameters), stages, cut.together),),
        weights=everything,
        scratch_size=sum(parameters.pieces),
        errors=errors(problem, y, x),
        variant={
            "tile": f"{y.outputs} x {x.outputs}",
            "taps": f"{y.taps} x {x.taps}",
            "blocks": f"{y.blocks} x {x.blocks}",
            "register block": f"{cut.filters} x {cut.vectors} x {cut.lanes}",
            "tiles of a unit": f"{cut.tile_rows} x {cut.tile_columns}",
            "units": cut.grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band, its points, and sums and outputs of a register block; and the transformed weights."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    weights = math.prod(transformed_shape(problem, cut.y, cut.x, cut.filters, cut.blocks))
    biases = (problem.groups * cut.blocks + 1) * cut.filters
    places = _places(cut)
    taps = problem.group_channels * problem.kernel_height * problem.kernel_width
    copied = 0 if places is None else problem.groups * places.size * taps * item
    return Footprint(
        sum(_pieces(problem, cut)) * item,
        (weights + biases) * item,
        packing_bytes(problem, (cut.y, cut.x), cut.filters) + copied,
    )
