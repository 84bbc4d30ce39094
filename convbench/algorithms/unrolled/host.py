"""Unrolled convolution: im2col and a matrix product, a panel at a time.

The image is unrolled into a matrix with a row for each tap and a column for each output pixel, and multiplied by the
matrix of kernels. All of it would be 436 MB for the reference workload. A panel of it is as many columns as a register
block is wide. A few panels, as many as fit the second-level cache, are made at a time and used by every kernel: one
after the other, so that a kernel's outputs of all of them are written in one go, whole cache lines at a time.

Pixels are counted through from the first row of a band to its last, so a panel may begin in one row and end in another,
and no width of an image wastes anything. Where there are few bands, they are single rows, cut into segments.
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
from convbench.kernels.tile import GEOMETRY, TileName, Work, geometry, inlined, jit, unpack
from convbench.kernels.vector import copy_vectors, instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("pad", "unroll", "product and store")
PAD, UNROLL, PRODUCT = range(3)

PANELS_BYTES: Final = 2**18  # of the unrolled matrix at a time: an eighth of a common second-level cache


@inlined
def unroll(vectors, lanes, band, panel, pixel, pixels, columns, row_step, outer_offsets, inner_offsets):  # type: ignore[no-untyped-def]
    """Write the windows of the pixels from `pixel` on, up to `pixels`, as columns of `panel`, shape (taps, width).

    Whole vectors are copied; what they write too much of, the next copy overwrites, or nobody reads.
    """
    width = vectors * lanes
    used = min(width, pixels - pixel)
    first_row, first_column = divmod(pixel, columns)
    first_source = first_row * row_step + first_column
    begin = 0
    for outer in outer_offsets:
        for inner in inner_offsets:
            source = first_source + outer + inner
            copy_vectors(vectors, lanes, band, source, panel, begin)
            done = columns - first_column
            while done < used:  # the panel goes on in the next row
                source += row_step - first_column if done == columns - first_column else row_step
                for part in range(0, min(columns, used - done), lanes):
                    copy_vectors(1, lanes, band, source + part, panel, begin + done + part)
                done += columns
            begin += width


def make_tile(kernels: int, vectors: int, lanes: int) -> Any:
    """The tile for a register block of so many kernels and vectors of so many pixels."""
    width = vectors * lanes

    @jit
    def tile(x, weights, out, parameters, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a chunk of kernels over a band of rows, or a segment of a row, of one group of one image."""
        groups, _, _, stride_y, stride_x, _, _, top, left = unpack(parameters)
        blocks, chunk, band_rows, band_columns, pitch, band_size, together, outer, inner = (
            parameters[GEOMETRY + 0],
            parameters[GEOMETRY + 1],
            parameters[GEOMETRY + 2],
            parameters[GEOMETRY + 3],
            parameters[GEOMETRY + 4],
            parameters[GEOMETRY + 5],
            parameters[GEOMETRY + 6],
            parameters[GEOMETRY + 7],
            parameters[GEOMETRY + 8],
        )
        y_step, y_length, x_step, x_length, y_runs, x_runs = (
            parameters[GEOMETRY + 9],
            parameters[GEOMETRY + 10],
            parameters[GEOMETRY + 11],
            parameters[GEOMETRY + 12],
            parameters[GEOMETRY + 13],
            parameters[GEOMETRY + 14],
        )
        tables = parameters[GEOMETRY + 15 :]
        outer_offsets, tables = tables[:outer], tables[outer:]
        inner_offsets, tables = tables[:inner], tables[inner:]
        y_starts, tables = tables[:y_runs], tables[y_runs:]
        x_starts, tables = tables[:x_runs], tables[x_runs:]
        no_offset, panel_offsets = tables[:1], tables[1:]
        _, out_channels, rows, all_columns = out.shape
        channels, group_kernels = x.shape[1] // groups, out_channels // groups
        flat = out.reshape(out.size)
        band, matrix = scratch[:band_size], scratch[band_size:]
        panel_size = panel_offsets.size * width
        bands = (rows + band_rows - 1) // band_rows
        segments = (all_columns + band_columns - 1) // band_columns
        chunks = (blocks + chunk - 1) // chunk
        for unit in range(first, last):
            rest, chunk_index = divmod(unit, chunks)
            rest, segment = divmod(rest, segments)
            rest, band_index = divmod(rest, bands)
            image, group = divmod(rest, groups)
            begin, first_column = band_index * band_rows, segment * band_columns
            columns = min(band_columns, all_columns - first_column)
            pixels = (min(rows, begin + band_rows) - begin) * columns
            group_x = x[image, group * channels : (group + 1) * channels]
            since = ticks()
            fill_runs(
                group_x,
                band,
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
            for pixel in range(0, pixels, width * together):
                panels = min(together, (pixels - pixel + width - 1) // width)
                for number in range(panels):
                    panel = matrix[number * panel_size : (number + 1) * panel_size + width]
                    start = pixel + number * width
                    unroll(vectors, lanes, band, panel, start, pixels, columns, pitch, outer_offsets, inner_offsets)
                since = lap(clock, UNROLL, since)
                for block in range(chunk_index * chunk, min(blocks, (chunk_index + 1) * chunk)):
                    kernel = block * kernels
                    used = min(kernels, group_kernels - kernel)
                    plane = (image * groups + group) * group_kernels + kernel
                    for number in range(panels):
                        start = pixel + number * width
                        micro_kernel(
                            kernels,
                            vectors,
                            lanes,
                            matrix,
                            number * panel_size,
                            lanes,
                            0,
                            no_offset,
                            panel_offsets,
                            weights,
                            (group * blocks + block) * panel_offsets.size * kernels,
                            flat,
                            (plane * rows + begin) * all_columns + first_column + start,
                            rows * all_columns,
                            lanes,
                            WHOLE if used == kernels and start + width <= pixels else PART,
                            used,
                            vectors,
                            pixels - start,
                            lanes,
                        )
                since = lap(clock, PRODUCT, since)

    return tile


@dataclass(frozen=True)
class Blocking:
    """How one problem is cut up.

    Attributes:
        kernels: Of a register block.
        vectors: Of a register block.
        lanes: Of a vector.
        band: Layout of the input.
        panels: Made at a time.
    """

    kernels: int
    vectors: int
    lanes: int
    band: Layout
    panels: int

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes

    def scratch_size(self, taps: int) -> int:
        """Numbers in a band and its panels, with room for what is copied too much of."""
        return self.band.size + (taps * self.panels + 1) * self.width


def blocking(problem: Problem) -> Blocking:
    """How to cut a problem up."""
    lanes = instruction_set().lanes(problem.dtype)
    group_kernels = problem.group_filters

    def best(pixels: int) -> tuple[int, int]:
        kernels, vectors, _ = best_block(group_kernels, 1, pixels, lanes)
        return kernels, vectors

    _, widest = best(problem.output_height * problem.output_width)
    band = best_band(problem, widest, lanes, step=1, reach=2 * lanes)
    pixels = band.rows * band.columns
    kernels, vectors = best(pixels)
    width = vectors * lanes
    panel_bytes = problem.taps * width * ITEM_SIZE[problem.dtype]
    panels = max(1, min(PANELS_BYTES // panel_bytes, ceil_div(pixels, width)))
    return Blocking(kernels, vectors, lanes, band, panels)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> Work:
    """Weights for the micro-kernel; scratch for a band of input and a few panels of the unrolled matrix."""
    cut = blocking(problem)
    band = cut.band
    outer, inner = tap_offsets(band)
    packed = pack_weights(problem, weights, cut.kernels)
    blocks = packed.shape[1]
    parts = bands(problem, band.rows) * segments(problem, band)
    chunk = chunk_blocks(problem, blocks, parts)
    numbers = [blocks, chunk, band.rows, band.columns, band.pitch, band.size, cut.panels, outer.size, inner.size]
    tables = [*outer, *inner, *band.tables, 0, *np.arange(problem.taps) * cut.width]
    return Work(
        tile=TileName(__name__, "make_tile", (cut.kernels, cut.vectors, cut.lanes)),
        units=parts * ceil_div(blocks, chunk),
        weights=packed.ravel(),
        parameters=np.concatenate([geometry(problem), numbers, band.numbers, tables]).astype(np.int64),
        scratch_size=cut.scratch_size(problem.taps),
        errors=of_sums(problem),
        stages=STAGES,
    )


def footprint(problem: Problem) -> Footprint:
    """A band and its panels, and the weights in register blocks."""
    cut = blocking(problem)
    return Footprint(cut.scratch_size(problem.taps) * ITEM_SIZE[problem.dtype], packed_bytes(problem, cut.kernels))
