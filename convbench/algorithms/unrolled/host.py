"""Unrolled convolution on the host.

The input is unrolled into a matrix with a row for each tap and a column for each output pixel (im2col), which the
matrix of filters is multiplied by. The complete matrix would take 436 MB for the reference workload. A panel is a part
of it with as many columns as a register block. A unit unrolls a few panels at a time, as many as fit the second-level
cache, and multiplies them by each filter block in turn, so that a filter's outputs are stored as contiguous cache
lines. Where filters fill the lanes of vectors better than pixels, a panel is as narrow as a block of a few pixels.

The pixels of a band are numbered consecutively across its rows, so that a panel may begin in one row and end in another
and images of any width fill whole panels. Where there are few bands, a band is a single row, split into segments.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.unrolled.cut import blocking
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div
from convbench.kernels.band import Band, fill_band, tap_offsets
from convbench.kernels.blocking import pack_weights, packed_size
from convbench.kernels.clock import lap, ticks
from convbench.kernels.copying import copy_vectors
from convbench.kernels.fields import Table, pack, unpacker
from convbench.kernels.filter_lanes import filter_lanes
from convbench.kernels.grid import Grid, at_position, locate
from convbench.kernels.micro_kernel import micro_kernel
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("pad", "unroll", "product and store")
PAD, UNROLL, PRODUCT = range(3)


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units.
        band: Parameters of `fill_band`.
        rows: Output rows of a band.
        columns: Output columns of a segment.
        row_stride: Elements from one row of a band to the next.
        band_size: Elements of a band.
        panels: Panels that exist at a time.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        together: Maximum number of units for the same pixels that are computed as one.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
        outer: Offsets in a band of (channel, kernel row).
        inner: Offsets in a band of kernel columns.
        no_offset: A table of one zero: the outer offsets in a panel.
        panel: Offsets in a panel of the taps.
    """

    grid: Grid
    band: Band
    rows: int
    columns: int
    row_stride: int
    band_size: int
    panels: int
    blocks: int
    unit_blocks: int
    together: int
    biases: int
    relu: int
    outer: Table
    inner: Table
    no_offset: Table
    panel: Table


unpack = unpacker(Parameters)


@inlined
def unroll(vectors, lanes, width, p, band, panel, pixel, pixels, columns):  # type: ignore[no-untyped-def]
    """Write the inputs of pixels [pixel, min(pixel + width, pixels)) to the columns of `panel`, shape (taps, width).

    Whole vectors are copied; the elements that they write in excess are overwritten by the next copy or not read.
    """
    used = min(width, pixels - pixel)
    first_row, first_column = divmod(pixel, columns)
    first_source = first_row * p.row_stride + first_column
    begin = 0
    for outer in p.outer:
        for inner in p.inner:
            source = first_source + outer + inner
            copy_vectors(
                vectors=vectors, lanes=lanes, source=band, source_begin=source, target=panel, target_begin=begin
            )
            done = columns - first_column
            while done < used:  # the panel continues in the next row
                source += p.row_stride - first_column if done == columns - first_column else p.row_stride
                for part in range(0, min(columns, used - done), lanes):
                    at = begin + done + part
                    copy_vectors(
                        vectors=1, lanes=lanes, source=band, source_begin=source + part, target=panel, target_begin=at
                    )
                done += columns
            begin += width


@inlined
def unroll_panels(vectors, lanes, width, p, band, table, first, panels, pixels, columns):  # type: ignore[no-untyped-def]
    """Write `panels` panels, from pixel `first` of the unit's `pixels` on."""
    size = p.panel.size * width
    for number in range(panels):
        panel = table[number * size : (number + 1) * size + width + lanes]
        unroll(vectors, lanes, width, p, band, panel, first + number * width, pixels, columns)


@inlined
def multiply(filters, vectors, width, lanes, p, place, block, first, panels, pixels, matrix, weights, flat, shape):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute a register block of filters over `panels` panels, from pixel `first` of the unit's `pixels` on."""
    group_filters, panel_size = shape[1] // p.grid.groups, p.panel.size * width
    group_block = place.group * p.blocks + block
    plane = (place.image * p.grid.groups + place.group) * group_filters + block * filters
    first_out = (plane * shape[2] + place.band * p.rows) * shape[3] + place.segment * p.columns
    for number in range(panels):
        pixel = first + number * width
        micro_kernel(
            filters=filters,
            vectors=vectors,
            lanes=lanes,
            x=matrix,
            x_begin=number * panel_size,
            x_step=lanes,
            prefetch=0,
            outer_offsets=p.no_offset,
            inner_offsets=p.panel,
            weights=weights,
            weights_begin=group_block * p.panel.size * filters,
            bias_begin=p.biases + group_block * filters,
            out=flat,
            out_begin=first_out + pixel,
            filter_step=shape[2] * shape[3],
            vector_step=lanes,
            filters_used=group_filters - block * filters,
            vectors_used=vectors,
            lanes_used=pixels - pixel,
            lane_step=lanes,
            relu=p.relu,
        )


@inlined
def across(filters, vectors, width, lanes, p, place, block, first, panels, pixels, matrix, weights, flat, shape):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Likewise with filters in the lanes: `vectors` of filters, over panels of `width` pixels."""
    group_filters, panel_size = shape[1] // p.grid.groups, p.panel.size * width
    group_block = place.group * p.blocks + block
    plane = (place.image * p.grid.groups + place.group) * group_filters + block * filters
    first_out = (plane * shape[2] + place.band * p.rows) * shape[3] + place.segment * p.columns
    for number in range(panels):
        pixel = first + number * width
        filter_lanes(
            vectors=vectors,
            pixels=width,
            lanes=lanes,
            x=matrix,
            x_begin=number * panel_size,
            x_step=1,
            outer_offsets=p.no_offset,
            inner_offsets=p.panel,
            weights=weights,
            weights_begin=group_block * p.panel.size * filters,
            bias_begin=p.biases + group_block * filters,
            out=flat,
            out_begin=first_out + pixel,
            filter_step=shape[2] * shape[3],
            filters_used=group_filters - block * filters,
            pixels_used=pixels - pixel,
            relu=p.relu,
        )


def make_tile(filters: int, vectors: int, width: int, lanes: int) -> Any:  # over 40 lines: the steps of a unit
    """The tile for a register block of `filters` x `width` pixels.

    Args:
        filters: Filters of the block.
        vectors: Vectors of pixels that make `width`; where they do not, vectors of filters that make `filters`.
        width: Pixels of the block.
        lanes: Elements of a vector.
    """
    pixels_in_lanes, copied = vectors * lanes == width, ceil_div(width, lanes)  # a function would not be cached on disk

    @jit
    def tile(x, w, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is register blocks of filters over a segment of a band; units for the same one are computed as one."""
        p, y, shape = unpack(parameters), out.reshape(out.size), out.shape
        band, table = scratch[: p.band_size], scratch[p.band_size :]
        unit = first
        while unit < last:
            place, count = locate(p.grid, unit), at_position(p.grid, unit, last, p.together)
            begin, unit = place.filter_block * p.unit_blocks, unit + count
            columns = min(p.columns, shape[3] - place.segment * p.columns)
            pixels = min(p.rows, shape[2] - place.band * p.rows) * columns
            since = ticks()
            fill_band(x, band, p.band, place)
            since = lap(clock, PAD, since)
            for pixel in range(0, pixels, width * p.panels):
                panels = min(p.panels, (pixels - pixel + width - 1) // width)
                unroll_panels(copied, lanes, width, p, band, table, pixel, panels, pixels, columns)
                since = lap(clock, UNROLL, since)
                for block in range(begin, min(p.blocks, begin + count * p.unit_blocks)):
                    if pixels_in_lanes:
                        multiply(
                            filters, vectors, width, lanes, p, place, block, pixel, panels, pixels, table, w, y, shape
                        )
                    else:
                        across(
                            filters, vectors, width, lanes, p, place, block, pixel, panels, pixels, table, w, y, shape
                        )
                since = lap(clock, PRODUCT, since)

    return tile


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights for the micro-kernel; scratch holds a band and a few panels of the unrolled table."""
    cut = blocking(problem)
    outer, inner = tap_offsets(cut.band)
    parameters = Parameters(
        grid=cut.grid,
        band=cut.band.record(problem),
        rows=cut.band.rows,
        columns=cut.band.columns,
        row_stride=cut.band.row_stride,
        band_size=cut.band.size,
        panels=cut.panels,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        together=cut.together,
        biases=problem.groups * cut.blocks * cut.filters * problem.taps,
        relu=epilogue.relu,
        outer=outer,
        inner=inner,
        no_offset=np.zeros(1, np.int64),
        panel=np.arange(problem.taps) * cut.width,
    )
    tile = TileName(__name__, "make_tile", (cut.filters, cut.vectors, cut.width, cut.lanes))
    return Work(
        phases=(Phase(tile, cut.grid.units, pack(parameters), STAGES, cut.together),),
        weights=pack_weights(problem, weights, cut.filters, epilogue),
        scratch_size=cut.scratch_size(problem.taps),
        errors=of_sums(problem),
        variant={
            "register block": (
                f"{cut.filters} filters in lanes x {cut.width}"
                if cut.is_across
                else f"{cut.filters} x {cut.vectors} x {cut.lanes}"
            ),
            "band": f"{cut.band.rows} x {cut.band.columns}",
            "panels": cut.panels,
            "units": cut.grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band and its panels, and the packed weights."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    return Footprint(cut.scratch_size(problem.taps) * item, packed_size(problem, cut.filters) * item)
