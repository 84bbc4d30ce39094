"""Winograd convolution on the host with channels, then filters, in the lanes of vectors.

Vectors are full whatever the size of the maps. The input of a vector of channels is transposed, so that a tile is a
few dozen vectors of channels, which are transformed in registers. The products are one matrix product for each point,
with filters in the lanes and a panel of tiles in the other direction. The sums of a tile are then a few dozen vectors
of filters; they are transformed back in registers, and transposed on their way to the output.

Where the transformed input of all tiles fits the caches, a phase of its own transforms it for all filters. Otherwise a
unit transforms what it needs, and computes all filters.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.winograd.filter_cut import FilterCut, cut_up
from convbench.algorithms.winograd.filter_steps import (
    Parameters,
    Pieces,
    clear_rest,
    fill,
    from_points,
    products,
    split,
    store,
    to_points,
    unpack,
)
from convbench.algorithms.winograd.nested import errors
from convbench.algorithms.winograd.packing import pack_weights, packing_bytes
from convbench.epilogue import Epilogue
from convbench.kernels.blocking import with_tail
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import pack
from convbench.kernels.grid import Grid, locate
from convbench.kernels.output import streamed
from convbench.kernels.tile import Phase, TileName, Work, borrowed, inlined, jit
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import fence
from convbench.problem import ITEM_SIZE, Problem

TRANSFORM_STAGES: Final = ("pad", "transform")
PRODUCT_STAGES: Final = ("product", "inverse", "store")


@inlined
def transform_rows(tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, blocks, x, band, points, clock):  # type: ignore[no-untyped-def]
    """Transform the input of a unit, of the vectors of channels [blocks[0], blocks[1]), to the points."""
    rows = min(p.tile_rows, p.all_rows - place.band * p.tile_rows)
    since = ticks()
    for block in range(blocks[0], blocks[1]):
        done = 0
        while done < rows:
            image, row = divmod(place.band * p.tile_rows + done, p.image_rows)
            count, tile = min(rows - done, p.image_rows - row), done * p.tile_columns
            lines = count * y_outputs + y_taps * p.y_blocks - 1
            fill(y_outputs, x_outputs, lanes, p, place, x, block, image, row, lines, band)
            since = lap(clock, 0, since)
            to_points(tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, block, tile, count, band, points)
            since = lap(clock, 1, since)
            done += count
        clear_rest(tiles, lanes, (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1), p, block, rows, points)


@inlined
def compute(vectors, tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, points, weights, pieces, out, clock):  # type: ignore[no-untyped-def]
    """Compute the outputs of a unit from its transformed input."""
    filters = vectors * lanes
    rows = min(p.tile_rows, p.all_rows - place.band * p.tile_rows)
    group_filters, first_block = out.shape[1] // p.grid.groups, place.filter_block * p.unit_blocks
    since = ticks()
    for block in range(first_block, min(p.blocks, first_block + p.unit_blocks)):
        group_block = place.group * p.blocks + block
        size = (y_outputs + y_taps - 1) * (x_outputs + x_taps - 1)
        products(vectors, tiles, lanes, size, p, group_block, rows, points, weights, pieces.sums)
        since = lap(clock, 0, since)
        for vector in range(vectors):
            first = block * filters + vector * lanes
            used = min(lanes, group_filters - first)
            if used > 0:
                bias = weights[p.biases + group_block * filters + vector * lanes :]
                from_points(vectors, tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, rows, vector, bias, pieces)
                since = lap(clock, 1, since)
                own = place.group * group_filters + first
                store(y_outputs, x_outputs, lanes, p, place, rows, own, used, pieces.runs, out)
                since = lap(clock, 2, since)


def make_transform(tiles: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int) -> Any:
    """The tile of the phase that transforms the input."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a vector of channels of some rows of tiles of one group."""
        p = unpack(parameters)
        band, shared = split(scratch, p.pieces).band, borrowed(workspace)
        for unit in range(first, last):
            place = locate(p.transform_grid, unit)
            blocks = place.filter_block, place.filter_block + 1
            own = shared[unit // p.transform_grid.filter_blocks * p.unit_points :]
            transform_rows(tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, blocks, x, band, own, clock)

    return tile


def make_products(
    vectors: int, tiles: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int
) -> Any:
    """The tile of the phase that computes the outputs."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is `unit_blocks` register blocks of filters over some rows of tiles of one group."""
        p = unpack(parameters)
        pieces, shared, packed = split(scratch, p.pieces), borrowed(workspace), borrowed(weights)
        for unit in range(first, last):
            place, own = locate(p.grid, unit), shared[unit // p.grid.filter_blocks * p.unit_points :]
            compute(
                vectors, tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, own, packed, pieces, out, clock
            )
        if p.streamed:
            fence()

    return tile


def make_tile(vectors: int, tiles: int, lanes: int, y_outputs: int, y_taps: int, x_outputs: int, x_taps: int) -> Any:
    """The tile of both together."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is all filters over some rows of tiles of one group."""
        p = unpack(parameters)
        pieces, packed, late = split(scratch, p.pieces), borrowed(weights), borrowed(clock)[2:]
        band, own, blocks = pieces.band, pieces.points, (0, p.channel_blocks)
        for unit in range(first, last):
            place = locate(p.grid, unit)
            transform_rows(tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, blocks, x, band, own, clock)
            compute(
                vectors, tiles, lanes, y_outputs, y_taps, x_outputs, x_taps, p, place, own, packed, pieces, out, late
            )
        if p.streamed:
            fence()

    return tile


def _parameters(problem: Problem, cut: FilterCut, weights: int, epilogue: Epilogue) -> Parameters:
    """The parameters of the tiles; `weights` is the number of elements before the biases."""
    (top, _), (left, _) = problem.padding
    blocks = np.arange(cut.y.blocks * cut.x.blocks) * cut.channel_blocks * cut.tiles * cut.lanes
    channel_block, lane = np.divmod(np.arange(problem.group_channels), cut.lanes)
    grid = cut.grid
    return Parameters(
        transform_grid=Grid(1, grid.groups, grid.bands, grid.segments, cut.channel_blocks),
        grid=grid,
        pieces=_pieces(problem, cut),
        top=top,
        left=left,
        channels=problem.group_channels,
        channel_blocks=cut.channel_blocks,
        columns=cut.columns,
        y_blocks=cut.y.blocks,
        x_blocks=cut.x.blocks,
        image_rows=cut.image_rows,
        all_rows=problem.batch * cut.image_rows,
        tile_rows=cut.tile_rows,
        tile_columns=cut.tile_columns,
        panels=cut.panels,
        unit_points=cut.panels * cut.panel_size,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        filter_step=_filter_step(problem, cut),
        run=_run(problem, cut),
        whole=grid.segments == 1,
        streamed=streamed(problem),
        biases=weights,
        relu=epilogue.relu,
        ahead=(tuning().prefetch_terms or problem.group_channels * len(blocks)) * cut.filters,
        offsets=np.add.outer(channel_block * cut.tiles * cut.lanes + lane, blocks).ravel(),
    )


def _run(problem: Problem, cut: FilterCut) -> int:
    """Elements of an output row in scratch: no more than it has, where rows of tiles are copied as one."""
    return problem.output_width if cut.grid.segments == 1 else cut.tile_columns * cut.x.outputs


def _filter_step(problem: Problem, cut: FilterCut) -> int:
    """An odd number of vectors, so that the same pixel of all filters lies in different sets of a cache."""
    rows = cut.tile_rows * cut.y.outputs * _run(problem, cut) + cut.x.outputs
    return (rows // cut.lanes // 2 * 2 + 3) * cut.lanes


def _pieces(problem: Problem, cut: FilterCut) -> Pieces:
    return Pieces(
        band=cut.lines * cut.columns * cut.lanes,
        points=0 if cut.is_phased else cut.panels * cut.panel_size,
        sums=cut.panels * cut.points * cut.tiles * cut.filters,
        runs=cut.lanes * _filter_step(problem, cut) + 2 * cut.lanes,
    )


def packed_size(problem: Problem, cut: FilterCut) -> int:
    """Elements of the packed weights without the biases."""
    return problem.groups * cut.blocks * cut.points * problem.group_channels * cut.y.blocks * cut.x.blocks * cut.filters


def _phases(cut: FilterCut, parameters: Parameters) -> tuple[Phase, ...]:
    """The phases: two where the transformed input is shared, otherwise one."""
    sizes = (cut.tiles, cut.lanes, cut.y.outputs, cut.y.taps, cut.x.outputs, cut.x.taps)
    packed, units = pack(parameters), cut.grid.units
    if not cut.is_phased:
        tile = TileName(__name__, "make_tile", (cut.vectors, *sizes))
        return (Phase(tile, units, packed, TRANSFORM_STAGES + PRODUCT_STAGES),)
    transform = TileName(__name__, "make_transform", sizes)
    products = TileName(__name__, "make_products", (cut.vectors, *sizes))
    return (
        Phase(transform, parameters.transform_grid.units, packed, TRANSFORM_STAGES),
        Phase(products, units, packed, PRODUCT_STAGES),
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Transform the weights; the biases follow them."""
    cut = cut_up(problem)
    y, x, size = cut.y, cut.x, packed_size(problem, cut)
    biases = epilogue.biases(problem, cut.blocks * cut.filters).ravel()
    everything, _ = with_tail((size,), biases)
    pack_weights(problem, weights, (y, x), cut.filters, cut.blocks, everything)
    parameters = _parameters(problem, cut, size, epilogue)
    return Work(
        phases=_phases(cut, parameters),
        weights=everything,
        scratch_size=sum(parameters.pieces),
        workspace_size=cut.shared,
        errors=errors(problem, y, x),
        variant={
            "tile": f"{y.outputs} x {x.outputs}",
            "taps": f"{y.taps} x {x.taps}",
            "blocks": f"{y.blocks} x {x.blocks}",
            "register block": f"{cut.vectors} x {cut.lanes} filters x {cut.tiles} tiles",
            "tiles of a unit": f"{cut.tile_rows} x {cut.tile_columns}",
            "units": cut.grid.units,
            "phases": 2 if cut.is_phased else 1,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band, its points, and sums and outputs of a vector of filters; and the transformed weights."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    weights = packed_size(problem, cut) + problem.groups * cut.blocks * cut.filters
    packing = packing_bytes(problem, (cut.y, cut.x), cut.filters)
    return Footprint(sum(_pieces(problem, cut)) * item, weights * item, packing, cut.shared * item)
