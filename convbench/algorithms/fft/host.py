"""Convolution by Fourier transforms of tiles: overlap-save, with both transforms in straight vector code.

The input under a tile of outputs is transformed, multiplied with the transformed kernel, summed over channels (and over
blocks, where a kernel is too large for a tile and is cut into some), and transformed back; what wraps around is thrown
away. The cost of an output hardly grows with the kernel, so this form is for large kernels.

One NaN or infinity in the input spreads, as NaN, over every output of the tiles that read it, and not only over those
whose kernel covers it; one among the weights over every output of its kernel. So do the rounding errors of one number
that is far larger than the rest, and it overflows sooner. `direct` and `unrolled` keep all of these where they belong.

A unit is a few tiles beside each other and a chunk of kernels. Its rows of outputs are put together in scratch and
written in one go.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint, forward_only
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.band import fill_runs
from convbench.kernels.blocking import PACKING_BYTES, UNITS, pieces
from convbench.kernels.clock import lap, ticks
from convbench.kernels.fourier import (
    across_from_frequencies,
    across_to_frequencies,
    down_from_frequencies,
    down_to_frequencies,
    multiply_points,
    operations,
    order,
    roots,
)
from convbench.kernels.output import streamed, write_rows
from convbench.kernels.tile import TileName, Work, inlined, jit
from convbench.kernels.vector import fence, instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import Errors, gamma, of_sums, unit_roundoff

CUTS: Final = 256  # problems whose cut is kept; it is asked for several times while a plan is made
STEP: Final = 7  # roundings that one step of a transform is worth
TURNS: Final = 3  # steps of a transform of two directions that only turn numbers
LARGEST: Final = 64  # rows or columns of a tile; larger transforms do not fit the registers even by halves
SPECTRA_BYTES: Final = 2**18  # of transformed input in a unit: what leaves room in a second-level cache
WEIGHTS_BYTES: Final = 2**30  # of transformed weights, at most
TRAFFIC_COST: Final = 8e-5  # cycles for a number that is moved, for each number of the tile that it belongs to


@dataclass(frozen=True)
class Axis:
    """How one direction is cut: tiles of `size` inputs, and the kernel into `blocks` of `taps`."""

    size: int
    taps: int
    blocks: int

    @property
    def outputs(self) -> int:
        """Of a tile."""
        return self.size - self.taps + 1


@dataclass(frozen=True)
class Cut:
    """How one problem is cut into units.

    Attributes:
        y: The vertical direction.
        x: The horizontal direction.
        lanes: Of a vector.
        tiles: Side by side in a unit.
        segments: Units side by side.
        chunk: Kernels in a unit.
    """

    y: Axis
    x: Axis
    lanes: int
    tiles: int
    segments: int
    chunk: int

    @property
    def input_rows(self) -> int:
        """Rows of the band."""
        return self.y.size + self.y.taps * (self.y.blocks - 1)

    @property
    def pitch(self) -> int:
        """From one row of the band to the next."""
        columns = (self.tiles - 1) * self.x.outputs + self.x.size + self.x.taps * (self.x.blocks - 1)
        return round_up(columns, self.lanes)

    @property
    def run(self) -> int:
        """Pixels in a row of a unit's outputs, with room for what the last tile writes too much of."""
        return self.tiles * self.x.outputs + self.lanes


def axes(extent: int, least: int) -> Iterator[Axis]:
    """Every way to cut a direction of a kernel of so many taps into tiles of `least` inputs or more."""
    size = least
    while size <= max(least, LARGEST):
        blocks = ceil_div(extent, size - size // 4)  # the fewest with which a quarter of the tile or more are outputs
        yield Axis(size, ceil_div(extent, blocks), blocks)
        size *= 2


@lru_cache(maxsize=CUTS)
def cut_up(problem: Problem) -> Cut:
    """The cut that costs least."""
    lanes = instruction_set().lanes(problem.dtype)
    height, width = problem.kernel_extent
    y, x = min(
        itertools.product(axes(height, 2 * lanes), axes(width, lanes)),
        key=lambda pair: _cost(problem, pair[0], pair[1], lanes),
    )
    rows, columns = ceil_div(problem.output_height, y.outputs), ceil_div(problem.output_width, x.outputs)
    channels, kernels = problem.group_channels, problem.group_filters
    tile_bytes = channels * y.blocks * x.blocks * y.size * x.size * ITEM_SIZE[problem.dtype]
    segments = ceil_div(columns, max(1, SPECTRA_BYTES // tile_bytes))
    segments = max(segments, min(columns, ceil_div(UNITS, rows * problem.batch * problem.groups)))
    tiles = ceil_div(columns, segments)
    segments = ceil_div(columns, tiles)
    bands = problem.batch * problem.groups * rows * segments
    chunks = max(1, min(kernels, UNITS // bands))
    return Cut(y, x, lanes, tiles, segments, ceil_div(kernels, chunks))


def _cost(problem: Problem, y: Axis, x: Axis, lanes: int) -> float:
    """About how many cycles of a core it takes: two vector operations a cycle, and what is read and written.

    The smaller a tile, the nearer the caches that hold it; the constants were fitted to measured times.
    """
    kernels, channels = problem.group_filters, problem.group_channels
    tiles = math.ceil(problem.output_height / y.outputs) * math.ceil(problem.output_width / x.outputs)
    terms, half, numbers = channels * y.blocks * x.blocks, y.size // 2, y.size * x.size
    shuffles = 2 * math.log2(lanes)  # of a complex vector that is transposed
    down, across = operations(half) + 6 * half, operations(x.size)
    forward = (down + shuffles * half) * (x.size / lanes) + across * (half / lanes)
    backward = (down + shuffles * half) * math.ceil(x.outputs / lanes) + across * (half / lanes)
    products = 2 * (terms + 2 * (terms - 1)) * numbers / lanes  # all but the last go through memory
    traffic = numbers * (terms * numbers + 2 * y.outputs * x.outputs) * TRAFFIC_COST
    tile = (terms * forward + kernels * (products + backward)) / 2 + kernels * traffic
    return problem.batch * problem.groups * tiles * tile


def errors(problem: Problem, cut: Cut) -> Errors:
    """How far rounding takes outputs of such tiles.

    Each step of a transform changes the root of the sum of squares of its numbers by `STEP` roundings at most, relative
    to itself (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, theorem 24.2), and so do the products and
    their sum; that of a tile's inputs is at most the root of their number times the largest, and no output is larger
    than that of all. Typical errors grow with the root of the number of steps (Schatzman, "Accuracy of the discrete
    Fourier transform and the fast Fourier transform", 1996); those of sums over all taps are added.
    """
    numbers, terms = cut.y.size * cut.x.size, problem.group_channels * cut.y.blocks * cut.x.blocks
    steps = math.log2(numbers)
    of_weights = 2 * (cut.y.taps + cut.x.taps + STEP) if problem.dtype == "float64" else 2
    roundings = 2 * STEP * (steps + TURNS) + 3 * (terms + 1) + of_weights
    sums = of_sums(problem)
    return Errors(
        math.sqrt(numbers) * gamma(roundings, problem.dtype),
        unit_roundoff(problem.dtype) * math.sqrt(9 * steps) + sums.estimate,
    )


def supports(problem: Problem) -> str | None:
    """Forward, stride 1, and weights that do not explode when transformed."""
    if (reason := forward_only(problem)) is not None:
        return reason
    if problem.stride != (1, 1):
        return "needs stride 1"
    needed = footprint(problem).weights_bytes
    if needed > WEIGHTS_BYTES:
        return f"would need {needed / 2**30:.1f} GiB for transformed weights"
    return None


STAGES: Final = ("pad", "transform", "product and inverse", "store")
PAD, TRANSFORM, PRODUCT, STORE = range(4)

# Places of the parameters; the last, zero, is where the only run of a band's rows and columns starts.
GROUPS, TOP, LEFT, Y_TAPS, Y_BLOCKS, X_TAPS, X_BLOCKS = range(7)
TILES, SEGMENTS, CHUNK, INPUT_ROWS, PITCH, RUN, STREAMED, START = range(7, 15)


@inlined
def to_frequencies(rows, columns, lanes, band, begin, pitch, half, spectrum, spectrum_begin):  # type: ignore[no-untyped-def]
    """Transform one tile of the band into `spectrum`, shape (rows / 2 / lanes, columns, 2, lanes)."""
    for column in range(0, columns, lanes):
        down_to_frequencies(rows, columns, lanes, band, begin + column, pitch, half, column * 2 * lanes)
    for part in range(0, rows // 2, lanes):
        across_to_frequencies(columns, lanes, half, part * columns * 2, spectrum, spectrum_begin + part * columns * 2)


@inlined
def from_frequencies(  # type: ignore[no-untyped-def]
    rows, columns, y_outputs, x_outputs, lanes, added, a, a_begin, b, b_begin, sums, between, half, runs, begin, run
):
    """Transform the products of two tiles' frequencies, plus sums if some are to be added, into rows of `runs`."""
    group_step = (rows + 2) * lanes  # no power of two, so that groups of columns do not compete for places in the cache
    for part in range(0, rows // 2, lanes):
        at = part * columns * 2
        across_from_frequencies(
            columns,
            x_outputs,
            lanes,
            added,
            a,
            a_begin + at,
            b,
            b_begin + at,
            sums,
            at,
            between,
            half,
            part * 2 * lanes,
            group_step,
        )
    for column in range(0, x_outputs, lanes):
        down_from_frequencies(rows, y_outputs, lanes, half, column // lanes * group_step, runs, begin + column, run)


def make_tile(rows: int, columns: int, y_outputs: int, x_outputs: int, lanes: int, summed: int) -> Any:
    """The tile for transforms of rows x columns inputs into so many outputs, of one product or of a sum of several."""
    size = rows * columns

    @jit
    def tile(x, weights, out, parameters, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is a chunk of kernels over a few tiles of one row of tiles of one group of one image."""
        groups, tiles, chunk, pitch, run = (
            parameters[GROUPS],
            parameters[TILES],
            parameters[CHUNK],
            parameters[PITCH],
            parameters[RUN],
        )
        channels, kernels = x.shape[1] // groups, out.shape[1] // groups
        blocks = parameters[Y_BLOCKS] * parameters[X_BLOCKS]
        terms = channels * blocks
        band_size = channels * parameters[INPUT_ROWS] * pitch
        band, rest = scratch[:band_size], scratch[band_size:]
        spectra, rest = rest[: tiles * terms * size], rest[tiles * terms * size :]
        sums, rest = rest[:size], rest[size:]
        between, rest = rest[: columns * 2 * lanes], rest[columns * 2 * lanes :]
        half, runs = rest[: size + 2 * columns], rest[size + 2 * columns :]
        bands = (out.shape[2] + y_outputs - 1) // y_outputs
        chunks = (kernels + chunk - 1) // chunk
        for unit in range(first, last):
            rest_units, chunk_index = divmod(unit, chunks)
            rest_units, segment = divmod(rest_units, parameters[SEGMENTS])
            rest_units, band_index = divmod(rest_units, bands)
            image, group = divmod(rest_units, groups)
            first_row, first_column = band_index * y_outputs, segment * tiles * x_outputs
            used = min(tiles, (out.shape[3] - first_column + x_outputs - 1) // x_outputs)
            group_x = x[image, group * channels : (group + 1) * channels]
            since = ticks()
            fill_runs(
                group_x,
                band,
                first_row - parameters[TOP],
                first_column - parameters[LEFT],
                1,
                parameters[INPUT_ROWS],
                1,
                pitch,
                parameters[START:],
                parameters[START:],
            )
            since = lap(clock, PAD, since)
            for term in range(terms):
                channel, block = divmod(term, blocks)
                y_block, x_block = divmod(block, parameters[X_BLOCKS])
                row = channel * parameters[INPUT_ROWS] + y_block * parameters[Y_TAPS]
                for t in range(used):
                    begin = row * pitch + x_block * parameters[X_TAPS] + t * x_outputs
                    at = (t * terms + term) * size
                    to_frequencies(rows, columns, lanes, band, begin, pitch, half, spectra, at)
            since = lap(clock, TRANSFORM, since)
            for kernel in range(chunk_index * chunk, min(kernels, (chunk_index + 1) * chunk)):
                own = (group * kernels + kernel) * terms * size
                for t in range(used):
                    begin = t * terms * size
                    if summed:
                        points = size // (2 * lanes)
                        multiply_points(lanes, spectra, begin, size, weights, own, size, terms - 1, sums, 0, points)
                    from_frequencies(
                        rows,
                        columns,
                        y_outputs,
                        x_outputs,
                        lanes,
                        summed,
                        spectra,
                        begin + (terms - 1) * size,
                        weights,
                        own + (terms - 1) * size,
                        sums,
                        between,
                        half,
                        runs,
                        t * x_outputs,
                        run,
                    )
                since = lap(clock, PRODUCT, since)
                plane = out[image, group * kernels + kernel]
                past_caches = parameters[STREAMED]
                write_rows(
                    lanes,
                    past_caches,
                    runs,
                    run,
                    plane,
                    first_row,
                    y_outputs,
                    y_outputs,
                    first_column,
                    used * x_outputs,
                )
                since = lap(clock, STORE, since)
        if parameters[STREAMED]:
            fence()

    return tile


def _packed_shape(problem: Problem, cut: Cut) -> tuple[int, ...]:
    channels, kernels = problem.group_channels, problem.group_filters
    parts = cut.y.size // 2 // cut.lanes
    blocks = cut.y.blocks * cut.x.blocks
    return problem.groups, kernels, channels * blocks, parts, cut.x.size, 2, cut.lanes


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """The conjugate of the weights' transforms, divided by what the two transforms of an input multiply it by.

    Returns:
        Shape (groups, kernels, channels and blocks, parts of the vertical frequencies, horizontal frequencies, real and
        imaginary, lanes).
    """
    y, x = cut.y, cut.x
    (rows, columns), (step_y, step_x) = problem.kernel_extent, problem.dilation
    vertical = roots(np.outer(4 * np.arange(y.size // 2) + 1, np.arange(y.taps)), 2 * y.size)
    horizontal = roots(np.outer(np.arange(x.size), np.arange(x.taps)), x.size)
    vertical = vertical[order(y.size // 2)] / (y.size // 2 * x.size)
    blocks, shape = y.blocks * x.blocks, _packed_shape(problem, cut)
    packed = np.empty(shape, problem.dtype)
    by_kernel = packed.reshape(-1, *shape[2:])
    for kernels, channels in pieces(weights.shape[0], weights.shape[1], 8 * blocks * y.size * x.size):
        own = weights[kernels, channels]
        spread = np.zeros((*own.shape[:2], y.blocks * y.taps, x.blocks * x.taps))
        spread[:, :, :rows:step_y, :columns:step_x] = own
        blocked = spread.reshape(*own.shape[:2], y.blocks, y.taps, x.blocks, x.taps)
        points = np.einsum("ma,kcyaxd,nd->kcyxnm", vertical, blocked, horizontal, optimize=True)
        split = points.reshape(len(own), -1, x.size, shape[3], cut.lanes).swapaxes(2, 3)
        into = by_kernel[kernels, channels.start * blocks : channels.stop * blocks]
        into[..., 0, :], into[..., 1, :] = split.real, split.imag
    return packed


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> Work:
    """Transformed weights, and scratch for a band of input, its transforms, a tile's sums and a unit's rows."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    channels = problem.group_channels
    (top, _), (left, _) = problem.padding
    numbers = np.zeros(START + 1, np.int64)
    numbers[[GROUPS, TOP, LEFT]] = problem.groups, top, left
    numbers[[Y_TAPS, Y_BLOCKS, X_TAPS, X_BLOCKS]] = y.taps, y.blocks, x.taps, x.blocks
    numbers[[TILES, SEGMENTS, CHUNK]] = cut.tiles, cut.segments, cut.chunk
    numbers[[INPUT_ROWS, PITCH, RUN, STREAMED]] = cut.input_rows, cut.pitch, cut.run, streamed(problem)
    terms = channels * y.blocks * x.blocks
    kernels = problem.group_filters
    bands = problem.batch * problem.groups * ceil_div(problem.output_height, y.outputs)
    return Work(
        tile=TileName(__name__, "make_tile", (y.size, x.size, y.outputs, x.outputs, cut.lanes, int(terms > 1))),
        units=bands * cut.segments * ceil_div(kernels, cut.chunk),
        weights=pack(problem, weights, cut).ravel(),
        parameters=numbers,
        scratch_size=_scratch_size(problem, cut),
        errors=errors(problem, cut),
        stages=STAGES,
    )


def _scratch_size(problem: Problem, cut: Cut) -> int:
    """Numbers in a band of input, its transforms, a tile's sums and a unit's rows."""
    y, x, channels = cut.y, cut.x, problem.group_channels
    return (
        channels * cut.input_rows * cut.pitch
        + (cut.tiles * channels * y.blocks * x.blocks + 2) * y.size * x.size
        + 2 * x.size * (cut.lanes + 1)
        + y.outputs * cut.run
        + cut.lanes
    )


def footprint(problem: Problem) -> Footprint:
    """Scratch, and the weights' transforms."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    return Footprint(_scratch_size(problem, cut) * item, math.prod(_packed_shape(problem, cut)) * item, PACKING_BYTES)
