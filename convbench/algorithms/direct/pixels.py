"""Direct convolution on the host with pixels in the lanes of vectors.

The output is partitioned into bands of rows; where there are few bands, these are split into segments of columns. For
each unit, a worker copies the input of a band into its scratch, padded and rearranged for unit-stride reads (see
`band`), and runs the micro-kernel over the band's rows, filter blocks and blocks of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div
from convbench.kernels.band import Band, Layout, fill_band, tap_offsets
from convbench.kernels.blocking import (
    CUTS,
    bands,
    best_band,
    pack_weights,
    packed_size,
    segments,
    units_of_filters,
)
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fields import Table, pack, unpacker
from convbench.kernels.grid import Grid, at_position, locate
from convbench.kernels.micro_kernel import best_block, block_cycles, micro_kernel
from convbench.kernels.tile import Phase, TileName, Work, inlined, jit
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("pad", "product and store")
PAD, PRODUCT = range(2)


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        grid: Grid of the units.
        band: Parameters of `fill_band`.
        rows: Output rows of a band.
        columns: Output columns of a segment.
        row_stride: Elements from one row of a band to the next.
        edge: From this column on, the vectors of a block lie below each other, one in each row, not side by side.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        together: Maximum number of units for the same pixels that are computed as one.
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
        outer: Offsets in a band of (channel, kernel row).
        inner: Offsets in a band of kernel columns.
    """

    grid: Grid
    band: Band
    rows: int
    columns: int
    row_stride: int
    edge: int
    blocks: int
    unit_blocks: int
    together: int
    biases: int
    relu: int
    outer: Table
    inner: Table


unpack = unpacker(Parameters)


@inlined
def row_of_blocks(filters, vectors, lanes, p, place, block, top, scratch, weights, flat, shape):  # type: ignore[no-untyped-def]  # over 40 lines: one call, with the name of each argument
    """Compute a register block of filters over a segment of at most `vectors` rows, from the band's row `top` on."""
    width, group_filters = vectors * lanes, shape[1] // p.grid.groups
    first_row, first_column = place.band * p.rows, place.segment * p.columns
    rows = min(vectors, min(shape[2] - first_row, p.rows) - top)
    columns = min(p.columns, shape[3] - first_column)
    edge = min(columns, max(0, p.edge - first_column))
    wide = (edge + width - 1) // width  # blocks in a row, each of adjacent vectors
    narrow = (columns - edge + lanes - 1) // lanes  # blocks of stacked vectors, at the right edge
    group_block = place.group * p.blocks + block
    plane = (place.image * p.grid.groups + place.group) * group_filters + block * filters
    for piece in range(rows * wide + narrow):
        stacked = piece >= rows * wide
        row = top if stacked else top + piece // wide
        column = edge + (piece - rows * wide) * lanes if stacked else piece % wide * width
        x_step = p.row_stride if stacked else lanes
        vector_step = shape[3] if stacked else lanes
        vectors_used = rows if stacked else vectors
        lane_step = 0 if stacked else lanes
        micro_kernel(
            filters=filters,
            vectors=vectors,
            lanes=lanes,
            x=scratch,
            x_begin=row * p.row_stride + column,
            x_step=x_step,
            prefetch=0,
            outer_offsets=p.outer,
            inner_offsets=p.inner,
            weights=weights,
            weights_begin=group_block * p.outer.size * p.inner.size * filters,
            bias_begin=p.biases + group_block * filters,
            out=flat,
            out_begin=(plane * shape[2] + first_row + row) * shape[3] + first_column + column,
            filter_step=shape[2] * shape[3],
            vector_step=vector_step,
            filters_used=group_filters - block * filters,
            vectors_used=vectors_used,
            lanes_used=columns - column,
            lane_step=lane_step,
            relu=p.relu,
        )


def make_tile(filters: int, vectors: int, lanes: int) -> Any:
    """The tile for a register block of `filters` x `vectors`, with `lanes` pixels in a vector."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is `unit_blocks` register blocks of filters over a segment of a band of one group of one image.

        Units for the same pixels are computed as one, from one band.
        """
        p, flat = unpack(parameters), out.reshape(out.size)
        unit = first
        while unit < last:
            place, count = locate(p.grid, unit), at_position(p.grid, unit, last, p.together)
            unit += count
            since = ticks()
            fill_band(x, scratch, p.band, place)
            since = lap(clock, PAD, since)
            first_block = place.filter_block * p.unit_blocks
            for top in range(0, min(p.rows, out.shape[2] - place.band * p.rows), vectors):
                for block in range(first_block, min(p.blocks, first_block + count * p.unit_blocks)):
                    row_of_blocks(filters, vectors, lanes, p, place, block, top, scratch, weights, flat, out.shape)
            lap(clock, PRODUCT, since)

    return tile


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        filters: Filters of a register block.
        vectors: Vectors of a register block.
        lanes: Elements of a vector.
        edge: See `Parameters`.
        blocks: See `Parameters`.
        unit_blocks: See `Parameters`.
        together: See `Parameters`.
        cycles: Estimated cycles of a call.
        band: Layout of the bands.
        grid: Grid of the units.
    """

    filters: int
    vectors: int
    lanes: int
    edge: int
    blocks: int
    unit_blocks: int
    together: int
    cycles: float
    band: Layout
    grid: Grid


def blocks_of_an_image(problem: Problem, vectors: int, lanes: int, edge: int) -> int:
    """Register blocks of pixels in one group of one image."""
    edge = min(edge, problem.output_width)
    wide = ceil_div(edge, vectors * lanes) * problem.output_height
    return wide + ceil_div(problem.output_width - edge, lanes) * ceil_div(problem.output_height, vectors)


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    lanes = instruction_set().lanes(problem.dtype)
    filters, vectors, edge = best_block(
        problem.group_filters, problem.output_height, problem.output_width, lanes, stack=True
    )
    blocks = ceil_div(problem.group_filters, filters)
    band = best_band(problem, vectors, lanes, step=vectors, reach=vectors * lanes)
    positions, weights = bands(problem, band.rows) * segments(problem, band), blocks * filters * problem.taps
    unit_blocks, together = units_of_filters(problem, blocks, positions, weights)
    grid = band.grid(problem, ceil_div(blocks, unit_blocks))
    pieces = blocks_of_an_image(problem, vectors, lanes, edge) * blocks
    return Blocking(
        filters=filters,
        vectors=vectors,
        lanes=lanes,
        edge=edge,
        blocks=blocks,
        unit_blocks=unit_blocks,
        together=together,
        cycles=problem.batch * problem.groups * pieces * block_cycles(filters, vectors, problem.taps)
        + grid.units // together * band.filling_cycles,
        band=band,
        grid=grid,
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights for the micro-kernel, followed by the biases; the blocking becomes the tile's parameters."""
    cut = blocking(problem)
    outer, inner = tap_offsets(cut.band)
    parameters = Parameters(
        grid=cut.grid,
        band=cut.band.record(problem),
        rows=cut.band.rows,
        columns=cut.band.columns,
        row_stride=cut.band.row_stride,
        edge=cut.edge,
        blocks=cut.blocks,
        unit_blocks=cut.unit_blocks,
        together=cut.together,
        biases=problem.groups * cut.blocks * cut.filters * problem.taps,
        relu=epilogue.relu,
        outer=outer,
        inner=inner,
    )
    tile = TileName(__name__, "make_tile", (cut.filters, cut.vectors, cut.lanes))
    return Work(
        phases=(Phase(tile, cut.grid.units, pack(parameters), STAGES, cut.together),),
        weights=pack_weights(problem, weights, cut.filters, epilogue),
        scratch_size=cut.band.size,
        errors=of_sums(problem),
        variant={
            "register block": f"{cut.filters} x {cut.vectors} x {cut.lanes}",
            "band": f"{cut.band.rows} x {cut.band.columns}",
            "units": cut.grid.units,
        },
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch for a band, and the packed weights."""
    cut, item = blocking(problem), ITEM_SIZE[problem.dtype]
    return Footprint(cut.band.size * item, packed_size(problem, cut.filters) * item)
