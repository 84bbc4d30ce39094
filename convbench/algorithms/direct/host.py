"""Direct convolution: every output is summed tap by tap, a block of them at a time in registers.

The image is cut into bands of output rows, and these into segments of columns where there are few of them. A worker
copies what a band's outputs read into its scratch, with padding and strides sorted out (see `band`), and runs the
micro-kernel over the band's rows, blocks of kernels and blocks of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div
from convbench.kernels.band import Layout, fill_runs, tap_offsets
from convbench.kernels.blocking import (
    bands,
    best_band,
    chunk_blocks,
    pack_weights,
    packed_bytes,
    segments,
)
from convbench.kernels.clock import lap, ticks
from convbench.kernels.micro_kernel import PART, WHOLE, best_block, micro_kernel
from convbench.kernels.tile import GEOMETRY, TileName, Work, geometry, jit, unpack
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("pad", "product and store")
PAD, PRODUCT = range(2)


@dataclass(frozen=True)
class Blocking:
    """How one problem is cut up.

    Attributes:
        kernels: Of a register block.
        vectors: Of a register block.
        lanes: Of a vector.
        edge: From this column on, the block's vectors lie below each other, in as many rows, instead of side by side.
        blocks: Register blocks of kernels in a group.
        chunk: Register blocks of kernels in a unit.
        band: Layout of the input.
    """

    kernels: int
    vectors: int
    lanes: int
    edge: int
    blocks: int
    chunk: int
    band: Layout


def make_tile(kernels: int, vectors: int, lanes: int) -> Any:
    """The tile for a register block of so many kernels and vectors of so many pixels."""

    @jit
    def tile(x, weights, out, parameters, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a chunk of kernels over a band of rows and a segment of columns of one group of one image."""
        groups, _, _, stride_y, stride_x, _, _, top, left = unpack(parameters)
        edge, blocks, chunk, band_rows, band_columns, pitch, outer, inner = (
            parameters[GEOMETRY + 0],
            parameters[GEOMETRY + 1],
            parameters[GEOMETRY + 2],
            parameters[GEOMETRY + 3],
            parameters[GEOMETRY + 4],
            parameters[GEOMETRY + 5],
            parameters[GEOMETRY + 6],
            parameters[GEOMETRY + 7],
        )
        y_step, y_length, x_step, x_length, y_runs, x_runs = (
            parameters[GEOMETRY + 8],
            parameters[GEOMETRY + 9],
            parameters[GEOMETRY + 10],
            parameters[GEOMETRY + 11],
            parameters[GEOMETRY + 12],
            parameters[GEOMETRY + 13],
        )
        tables = parameters[GEOMETRY + 14 :]
        outer_offsets, inner_offsets = tables[:outer], tables[outer : outer + inner]
        y_starts = tables[outer + inner : outer + inner + y_runs]
        x_starts = tables[outer + inner + y_runs : outer + inner + y_runs + x_runs]
        _, out_channels, rows, all_columns = out.shape
        channels, group_kernels = x.shape[1] // groups, out_channels // groups
        flat = out.reshape(out.size)
        bands = (rows + band_rows - 1) // band_rows
        segments = (all_columns + band_columns - 1) // band_columns
        chunks = (blocks + chunk - 1) // chunk
        width = vectors * lanes
        block_size = outer_offsets.size * inner_offsets.size * kernels
        for unit in range(first, last):
            rest, chunk_index = divmod(unit, chunks)
            rest, segment = divmod(rest, segments)
            rest, band_index = divmod(rest, bands)
            image, group = divmod(rest, groups)
            begin, first_column = band_index * band_rows, segment * band_columns
            end = min(rows, begin + band_rows)
            columns = min(band_columns, all_columns - first_column)
            own_edge = min(columns, max(0, edge - first_column))
            wide = (own_edge + width - 1) // width  # blocks side by side in a row
            narrow = (columns - own_edge + lanes - 1) // lanes  # blocks of vectors below each other, at the right edge
            group_x = x[image, group * channels : (group + 1) * channels]
            since = ticks()
            fill_runs(
                group_x,
                scratch,
                begin * stride_y - top,
                first_column * stride_x - left,
                y_step,
                y_length,
                x_step,
                x_length,
                y_starts,
                x_starts,
            )
            since = lap(clock, PAD, since)
            for top_row in range(begin, end, vectors):
                rows_here = min(vectors, end - top_row)
                for block in range(chunk_index * chunk, min(blocks, (chunk_index + 1) * chunk)):
                    kernel = block * kernels
                    used = min(kernels, group_kernels - kernel)
                    plane = (image * groups + group) * group_kernels + kernel
                    for piece in range(rows_here * wide + narrow):
                        stacked = piece >= rows_here * wide
                        if stacked:
                            row, column = top_row, own_edge + (piece - rows_here * wide) * lanes
                            whole = rows_here == vectors and column + lanes <= columns
                            vectors_used = rows_here
                        else:
                            row, column = top_row + piece // wide, piece % wide * width
                            whole = column + width <= columns
                            vectors_used = vectors
                        micro_kernel(
                            kernels,
                            vectors,
                            lanes,
                            scratch,
                            (row - begin) * pitch + column,
                            pitch if stacked else lanes,
                            0,
                            outer_offsets,
                            inner_offsets,
                            weights,
                            (group * blocks + block) * block_size,
                            flat,
                            (plane * rows + row) * all_columns + first_column + column,
                            rows * all_columns,
                            all_columns if stacked else lanes,
                            WHOLE if whole and used == kernels else PART,
                            used,
                            vectors_used,
                            columns - column,
                            0 if stacked else lanes,
                        )
            lap(clock, PRODUCT, since)

    return tile


def blocking(problem: Problem) -> Blocking:
    """How to cut a problem up."""
    lanes = instruction_set().lanes(problem.dtype)
    group_kernels = problem.group_filters
    kernels, vectors, edge = best_block(group_kernels, problem.output_height, problem.output_width, lanes, stack=True)
    blocks = ceil_div(group_kernels, kernels)
    band = best_band(problem, vectors, lanes, step=vectors, reach=vectors * lanes)
    return Blocking(
        kernels=kernels,
        vectors=vectors,
        lanes=lanes,
        edge=edge,
        blocks=blocks,
        chunk=chunk_blocks(problem, blocks, bands(problem, band.rows) * segments(problem, band)),
        band=band,
    )


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> Work:
    """Weights for the micro-kernel, and everything about the blocking as parameters."""
    cut = blocking(problem)
    band = cut.band
    outer, inner = tap_offsets(band)
    numbers = [cut.edge, cut.blocks, cut.chunk, band.rows, band.columns, band.pitch, outer.size, inner.size]
    parts = bands(problem, band.rows) * segments(problem, band)
    return Work(
        tile=TileName(__name__, "make_tile", (cut.kernels, cut.vectors, cut.lanes)),
        units=parts * ceil_div(cut.blocks, cut.chunk),
        weights=pack_weights(problem, weights, cut.kernels).ravel(),
        parameters=np.concatenate([geometry(problem), numbers, band.numbers, outer, inner, band.tables]).astype(
            np.int64
        ),
        scratch_size=band.size,
        errors=of_sums(problem),
        stages=STAGES,
    )


def footprint(problem: Problem) -> Footprint:
    """A band, and the weights in register blocks."""
    cut = blocking(problem)
    return Footprint(cut.band.size * ITEM_SIZE[problem.dtype], packed_bytes(problem, cut.kernels))
