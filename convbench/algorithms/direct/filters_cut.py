"""The cut of a problem for direct convolution with filters in the lanes of vectors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS, UNITS, columns_of_unit, part_of_taps
from convbench.kernels.filter_block import best_block
from convbench.kernels.filter_lanes import PREFETCH_PIXELS
from convbench.kernels.grid import Grid
from convbench.kernels.output import is_far
from convbench.kernels.planes import GATHER, Planes
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem

INPUT, PLANES, BAND = range(3)
"""Where a register block reads pixels: in the input as it lies, in padded planes, in a band of them."""
STEPS: Final = (1, 2, 4)  # strides that tiles are compiled for; one tile serves all others
PLANES_BYTES: Final = 2**22  # most padded planes that a phase of their own writes; larger ones leave the caches
BANDS: Final = 2  # times the usual size of a band: larger ones would need segments
MOST_PLANES_BYTES: Final = 2**26  # likewise, where one row of outputs needs a larger band, or weights are read again:
AGAIN: Final = 4  # times the planes, at least, that bands would read of weights again ...
NARROW: Final = 16  # ... for so few pixels each, at most, that reading takes longer than adding
FAR_PIXELS: Final = 2**18  # bytes of a unit's pixels: more leave the second-level cache before they are read again
FAR_WEIGHTS: Final = 3 * 2**22  # bytes of weights: more leave all caches before they are read again
UNIT_CYCLES: Final = 8000  # a unit of fewer is not split
SPREAD: Final = 1.1  # times as long where pixels lie apart, since more of them leave the first-level cache
SUMS: Final = 2**15  # numbers that a unit keeps between parts of the taps, about ...
MOST_SUMS: Final = 2**17  # ... and at most
COLLIDES: Final = 512  # bytes: planes of a multiple of it begin in at most eight sets of the first-level cache ...
WAY, LINES = 4096, 8  # ... whose ways have so many bytes, and whose sets so many lines: of a multiple of 4096 in one
MOVED: Final = 64  # filters, at least, for which planes are moved apart ...
MOVED_BYTES: Final = 2**16  # ... and for each of them so many bytes of planes, at most ...
MOST_MOVED: Final = 2**24  # ... and in all
FEW: Final = 8  # units, at least, where there are not as many as wanted, whatever they read
PHASE: Final = 8000  # cycles of one more phase
SHARING: Final = 2  # register blocks of a unit that read the same weights, at least, for their taps to be split


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        vectors: Vectors of filters of a register block.
        pixels: Pixels of a register block.
        lanes: Filters of a vector.
        step: Elements from one pixel of a row to the next, where they are read.
        cycles: Estimated cycles of a call.
        source: `INPUT`, `PLANES` or `BAND`.
        planes: Size of a padded plane, or of a band of it.
        height: Rows of the map of outputs; 1 where its rows are taken as one.
        width: Columns of the map.
        rows: Rows of a unit.
        columns: Columns of a unit.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
        depth: Taps of a part, which may be all; 0 where two loops go over them.
        sums: Numbers that a unit keeps between parts of the taps.
        together: Maximum number of units for the same pixels that are computed as one.
        thinned: Whether the planes hold only the pixels that are read, row after row.
    """

    vectors: int
    pixels: int
    lanes: int
    step: int
    cycles: float
    source: int
    planes: Planes
    height: int
    width: int
    rows: int
    columns: int
    blocks: int
    unit_blocks: int
    depth: int
    sums: int
    together: int
    thinned: bool

    @property
    def filters(self) -> int:
        """Filters of a register block."""
        return self.vectors * self.lanes

    def grid(self, problem: Problem) -> Grid:
        """The grid of units."""
        return Grid(
            images=problem.batch,
            groups=problem.groups,
            bands=ceil_div(self.height, self.rows),
            segments=ceil_div(self.width, self.columns),
            filter_blocks=ceil_div(self.blocks, self.unit_blocks),
        )

    def band_size(self, problem: Problem) -> int:
        """Elements of a band."""
        return problem.group_channels * self.planes.height * self.planes.width if self.source == BAND else 0

    def scratch_size(self, problem: Problem) -> int:
        """Elements of a band, and of the sums that units which are computed as one keep."""
        return self.band_size(problem) + self.together * self.sums

    def planes_size(self, problem: Problem) -> int:
        """Elements of the padded planes."""
        planes = problem.batch * problem.channels * self.planes.height * self.planes.width
        return planes if self.source == PLANES else 0


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    lanes = instruction_set().lanes(problem.dtype)
    images = problem.batch * problem.groups
    source, padded, rows, thinned = _source_and_map(problem, lanes)
    height, width = problem.output_height, problem.output_width
    if thinned or (source != BAND and not _pads(problem) and _is_product(problem)):
        height, width = 1, height * width  # rows follow one another, and are taken as one
    step = 1 if thinned else problem.stride[1]
    spare = int(step not in STEPS)  # for the step; without one, the sums of some blocks would be kept in memory
    filters, far = problem.group_filters, is_far(problem)
    vectors, pixels, cycles = best_block(filters, width, lanes, problem.taps, far=far, spare=spare)
    columns, unit_blocks = width, (blocks := ceil_div(problem.group_filters, vectors * lanes))
    if source != BAND:
        parts = min(ceil_div(UNITS, images), int(height * cycles / UNIT_CYCLES) + 1)
        rows, columns, unit_blocks = _parts(problem, height, width, pixels, blocks, parts)
    depth, sums = _depth(problem, rows * ceil_div(columns, pixels), unit_blocks * pixels * vectors * lanes, pixels)
    return Blocking(
        vectors=vectors,
        pixels=pixels,
        lanes=lanes,
        step=step,
        cycles=images * (height * cycles + thinned * _gathering(problem))
        if _suits(problem, source, padded)
        else math.inf,
        source=source,
        planes=padded,
        height=height,
        width=width,
        rows=rows,
        columns=columns,
        blocks=blocks,
        unit_blocks=unit_blocks,
        depth=depth,
        sums=sums,
        together=_together(problem, padded, rows / height, ceil_div(blocks, unit_blocks), sums),
        thinned=thinned,
    )


def _source_and_map(problem: Problem, lanes: int) -> tuple[int, Planes, int, bool]:
    """As `_source`, and whether only the pixels that are read are brought together."""
    source, padded, rows = _source(problem)
    if _thins(problem, source, lanes):
        return PLANES, Planes(problem.output_height, problem.output_width, 0, 0), rows, True
    return source, padded, rows, False


def _depth(problem: Problem, pieces: int, each: int, block_pixels: int) -> tuple[int, int]:
    """Taps of a part, for so many register blocks that share weights; 0 for two loops over all taps, not one.

    And how many sums a unit keeps between parts, of `each` for a register block of all its filters.

    Taps are split where the weights of a register block with all of them leave the first-level cache before they are
    read again, and a unit's sums do not leave the second. Few pixels do not hide an inner loop.
    """
    most = tuning().part_taps
    depth = part_of_taps(problem.taps, most) if pieces >= SHARING and pieces * each <= MOST_SUMS else 0
    return (depth, pieces * each) if depth else (problem.taps * (most > 0 or block_pixels < PREFETCH_PIXELS), 0)


def _together(problem: Problem, planes: Planes, share: float, units: int, sums: int) -> int:
    """How many of so many units for the same share of the planes are computed as one; each keeps so many sums."""
    pixels = share * problem.group_channels * planes.height * planes.width * ITEM_SIZE[problem.dtype]
    return max(1, min(units, SUMS // sums)) if sums and pixels > FAR_PIXELS else 1


def _thins(problem: Problem, source: int, lanes: int) -> bool:
    """Whether pixels that a kernel of one tap reads at a stride are first brought together, and taken as one row."""
    if problem.taps != problem.group_channels or problem.stride == (1, 1) or source != INPUT or not tuning().part_taps:
        return False
    height, width, filters = problem.output_height, problem.output_width, problem.group_filters
    if problem.batch * problem.channels * height * width * ITEM_SIZE[problem.dtype] > PLANES_BYTES:
        return False
    *_, by_rows = best_block(filters, width, lanes, problem.taps, far=False)
    *_, as_one = best_block(filters, height * width, lanes, problem.taps, far=False)
    return as_one + _gathering(problem) < SPREAD * height * by_rows


def _gathering(problem: Problem) -> float:
    """Estimated cycles of bringing together the pixels of one group of one image, in a phase of its own."""
    return PHASE + problem.group_channels * problem.output_height * problem.output_width * GATHER


def _suits(problem: Problem, source: int, padded: Planes) -> bool:
    """Whether this way is meant for a problem: its bands have no segments."""
    band = problem.group_channels * padded.height * padded.width * ITEM_SIZE[problem.dtype]
    return source != BAND or band <= BANDS * tuning().band_bytes


def _source(problem: Problem) -> tuple[int, Planes, int]:
    """Where pixels are read, the size of planes there, and the rows of outputs of a band."""
    (top, bottom), (left, right) = problem.padding
    tall, wide = problem.height + top + bottom, problem.width + left + right
    item = ITEM_SIZE[problem.dtype]
    height = problem.output_height
    if not _pads(problem):
        if _collides(problem):  # an extra row moves the planes apart
            return PLANES, Planes(tall + 1, wide, 0, 0), height
        return INPUT, Planes(tall, wide, 0, 0), height
    planes = problem.batch * problem.channels * tall * wide * item
    row_bytes = problem.group_channels * wide * item
    reach = (problem.kernel_height - 1) * problem.dilation[0] + 1
    fitting = (tuning().band_bytes // row_bytes - reach) // problem.stride[0] + 1
    enough = height * problem.batch * problem.groups // UNITS
    rows = max(1, min(fitting, enough, height))
    needs_more = reach * row_bytes > BANDS * tuning().band_bytes
    again = (ceil_div(height, rows) - 1) * problem.batch * problem.out_channels * problem.taps * item
    most = min(MOST_PLANES_BYTES, 2 * problem.batch * problem.channels * problem.height * problem.width * item)
    rereads = rows * problem.output_width <= NARROW and again > AGAIN * planes
    if planes <= PLANES_BYTES or (planes <= most and (needs_more or rereads)):
        return PLANES, Planes(tall, wide, top, left), height
    return BAND, Planes((rows - 1) * problem.stride[0] + reach, wide, top, left), rows


def _pads(problem: Problem) -> bool:
    """Whether anything is padded."""
    return any(itertools.chain(*problem.padding))


def _is_product(problem: Problem) -> bool:
    """Whether a convolution without padding is a matrix product."""
    return problem.taps == problem.group_channels and problem.stride == (1, 1)


def _collides(problem: Problem) -> bool:
    """Whether the pixels of a part of the taps fall into so few sets of the first-level cache that they do not stay.

    That costs a fifth of the time where taps are added in parts; moving the planes apart is worth it for many filters.
    """
    row = problem.width * ITEM_SIZE[problem.dtype]
    plane = problem.height * row
    return (
        _is_product(problem)
        and plane % COLLIDES == 0
        and row % COLLIDES != 0
        and min(problem.taps, tuning().part_taps) > LINES * WAY // math.gcd(plane, WAY)
        and problem.group_filters >= MOVED
        and problem.batch * problem.channels * plane <= min(MOST_MOVED, problem.group_filters * MOVED_BYTES)
    )


def _parts(problem: Problem, height: int, width: int, pixels: int, blocks: int, parts: int) -> tuple[int, int, int]:
    """Rows, columns and register blocks of filters of a unit, such that the map of an image has about `parts` units.

    What is larger is not read again: many filters are split, or else many pixels.
    """
    if tuning().part_taps:
        parts = max(ceil_div(parts, 2), problem.group_filters * height * width // SUMS)
    if tuning().part_taps or problem.group_filters * problem.taps * ITEM_SIZE[problem.dtype] > FAR_WEIGHTS:
        return _parts_of_least_traffic(problem, height, width, pixels, blocks, parts)
    if height >= parts:
        return height // parts, width, blocks
    parts, unit_blocks = ceil_div(parts, height), blocks
    if problem.group_filters * problem.taps > problem.group_channels * problem.height * problem.width:
        unit_blocks = ceil_div(blocks, min(blocks, parts))
        parts = ceil_div(parts, ceil_div(blocks, unit_blocks))
    columns = columns_of_unit(width, pixels, parts)
    parts = ceil_div(parts, ceil_div(width, columns))
    return 1, columns, ceil_div(unit_blocks, min(unit_blocks, parts))


def _parts_of_least_traffic(
    problem: Problem, height: int, width: int, pixels: int, blocks: int, parts: int
) -> tuple[int, int, int]:
    """Likewise, where every unit reads its weights and its pixels once, from far away."""
    weights = problem.group_filters * problem.taps
    inputs, found = problem.group_channels * problem.height * problem.width, []
    for doublings in range((min(blocks, parts) - 1).bit_length() + 1):
        unit_blocks = max(1, blocks >> doublings)
        by_filters = ceil_div(blocks, unit_blocks)
        rows = height // min(height, ceil_div(parts, by_filters))
        down = ceil_div(height, rows)
        columns = columns_of_unit(width, pixels, ceil_div(parts, by_filters * down))
        by_pixels = down * ceil_div(width, columns)
        traffic = by_filters * inputs + by_pixels * weights
        units = by_filters * by_pixels
        found.append((units < min(parts, FEW), units < parts, traffic, (rows, columns, unit_blocks)))
    return min(found)[-1]
