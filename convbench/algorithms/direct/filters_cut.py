"""The cut of a problem for direct convolution with filters in the lanes of vectors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from convbench.integers import ceil_div
from convbench.kernels.blocking import CUTS, UNITS
from convbench.kernels.filter_lanes import best_block
from convbench.kernels.grid import Grid
from convbench.kernels.planes import Planes
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem

INPUT, PLANES, BAND = range(3)
"""Where a register block reads pixels: in the input as it lies, in padded planes, in a band of them."""
STEPS: Final = (1, 2)  # strides that tiles are compiled for; one tile serves all others
PLANES_BYTES: Final = 2**22  # most padded planes that a phase of their own writes; larger ones leave the caches
BANDS: Final = 2  # times the usual size of a band: larger ones would need segments
MOST_PLANES_BYTES: Final = 2**26  # likewise, where one row of outputs needs a larger band
FAR_BYTES: Final = 2**23  # an output of more leaves the caches
UNIT_CYCLES: Final = 8000  # a unit of fewer is not split


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        vectors: Vectors of filters of a register block.
        pixels: Pixels of a register block.
        lanes: Filters of a vector.
        step: Stride of columns that the tile is compiled for; 0 for any.
        cycles: Estimated cycles of a call.
        source: `INPUT`, `PLANES` or `BAND`.
        planes: Size of a padded plane, or of a band of it.
        height: Rows of the map of outputs; 1 where its rows are taken as one.
        width: Columns of the map.
        rows: Rows of a unit.
        columns: Columns of a unit.
        blocks: Register blocks of filters in a group.
        unit_blocks: Register blocks of filters in a unit.
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

    def planes_size(self, problem: Problem) -> int:
        """Elements of the padded planes."""
        planes = problem.batch * problem.channels * self.planes.height * self.planes.width
        return planes if self.source == PLANES else 0


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    lanes, item = instruction_set().lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    height, width, images = problem.output_height, problem.output_width, problem.batch * problem.groups
    source, padded, rows = _source(problem)
    if problem.taps == problem.group_channels and problem.stride == (1, 1) and source == INPUT:
        height, width = 1, height * width
        padded = Planes(height, width, 0, 0)
    far = math.prod(problem.output_shape) * item > FAR_BYTES
    vectors, pixels, cycles = best_block(problem.group_filters, width, lanes, problem.taps, far=far)
    columns, blocks, step = width, ceil_div(problem.group_filters, vectors * lanes), problem.stride[1]
    unit_blocks = blocks
    if source != BAND:
        parts = min(ceil_div(UNITS, images), int(height * cycles / UNIT_CYCLES) + 1)
        rows, columns, unit_blocks = _parts(problem, height, width, pixels, blocks, parts)
    return Blocking(
        vectors=vectors,
        pixels=pixels,
        lanes=lanes,
        step=step if step in STEPS else 0,
        cycles=images * height * cycles if _suits(problem, source, padded) else math.inf,
        source=source,
        planes=padded,
        height=height,
        width=width,
        rows=rows,
        columns=columns,
        blocks=blocks,
        unit_blocks=unit_blocks,
    )


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
    if not any(itertools.chain(*problem.padding)):
        return INPUT, Planes(tall, wide, 0, 0), height
    if problem.batch * problem.channels * tall * wide * item <= PLANES_BYTES:
        return PLANES, Planes(tall, wide, top, left), height
    row_bytes = problem.group_channels * wide * item
    reach = (problem.kernel_height - 1) * problem.dilation[0] + 1
    needs_more = reach * row_bytes > BANDS * tuning().band_bytes
    most = min(MOST_PLANES_BYTES, 2 * problem.batch * problem.channels * problem.height * problem.width * item)
    if needs_more and problem.batch * problem.channels * tall * wide * item <= most:
        return PLANES, Planes(tall, wide, top, left), height
    fitting = (tuning().band_bytes // row_bytes - reach) // problem.stride[0] + 1
    enough = height * problem.batch * problem.groups // UNITS
    rows = max(1, min(fitting, enough, height))
    return BAND, Planes((rows - 1) * problem.stride[0] + reach, wide, top, left), rows


def _parts(problem: Problem, height: int, width: int, pixels: int, blocks: int, parts: int) -> tuple[int, int, int]:
    """Rows, columns and register blocks of filters of a unit, such that the map of an image has about `parts` units.

    What is larger is not read again: many filters are split, or else many pixels.
    """
    if height >= parts:
        return height // parts, width, blocks
    parts, across, unit_blocks = ceil_div(parts, height), ceil_div(width, pixels), blocks
    if problem.group_filters * problem.taps > problem.group_channels * problem.height * problem.width:
        unit_blocks = ceil_div(blocks, min(blocks, parts))
        parts = ceil_div(parts, ceil_div(blocks, unit_blocks))
    columns = ceil_div(across, min(across, parts))
    while 0 < width % (columns * pixels) < pixels:  # no block may reach into another unit
        columns += 1
    parts = ceil_div(parts, ceil_div(width, columns * pixels))
    return 1, min(width, columns * pixels), ceil_div(unit_blocks, min(unit_blocks, parts))
