"""Direct convolution on the host down columns of vectors: depthwise and grouped, and of few taps or filters.

A unit is some planes (a filter, or several side by side, of one image), or a band or a segment of them. The
micro-kernels read the input where it lies, or, where masks for the edges would take too many registers, copies of its
rows with zeros beside them. Columns of vectors (`kernels.columns`) load each input once for each kernel column. Kernels
of one channel that are too large to be unrolled, or whose steps are, are computed by register blocks
(`kernels.columns_block`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.algorithms.direct.columns_cut import SPARE, SPARE_IF_SHUFFLED, Cut, cuts, steps
from convbench.algorithms.direct.columns_tiles import Parameters
from convbench.epilogue import Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.blocking import CUTS, UNITS
from convbench.kernels.counting import of_blocks, of_weights, of_whole, shares
from convbench.kernels.fields import pack
from convbench.kernels.grid import Grid
from convbench.kernels.tile import Phase, TileName, Work
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

STAGES: Final = ("product and store",)

FILTERS: Final = 4  # maximum number of filters that read a channel; more of them share loads in a block of filters
BITS: Final = 128  # width of vectors at which broadcasting every weight takes as long as its multiply-adds
SPAN: Final = 2**12  # maximum number of columns that a filter spans, for which the weights end with zeros
LEAST: Final = 2**12  # cycles of a unit, so that claiming it costs little ...
MOST: Final = 2**15  # ... and that no worker waits long for the last one
FEW_TAPS: Final = 25  # of a channel; filters in the lanes need no masks, and win with more ...
FEW_FILTERS: Final = 16  # ... where there are so many
ALIASED: Final = 2048  # bytes of a row: rows of filters a multiple of it apart share few sets of the nearest cache
AHEAD_BYTES: Final = 2**13  # input of a group of which lines are asked for ahead; less is near
WIDE: Final = 1.5  # vectors of a row from which on copying it costs less than masks
BAND_BYTES: Final = 2**15  # input of a band: neighbouring columns of vectors find it in the first-level cache

OVERLAPS: Final = 4  # minimum number of rows of a band, in kernel rows: neighbouring bands begin with the same lines


@dataclass(frozen=True)
class Blocking:
    """The blocking of one problem.

    Attributes:
        cut: How planes are computed.
        lanes: Elements of a vector; fewer than the processor's for narrow outputs.
        narrow: Elements of the last vector of a row where half a vector is enough; otherwise 0.
        column_step: Columns of the input from one output to the next.
        all_planes: Planes of the output together, as many at a time as a block has filters.
        planes: Of them, those of a unit.
        band: Output rows of a band.
        segment: Output columns of a segment.
        grid: Grid of the units.
        copies: Whether the rows of a unit are first copied to scratch, where zeros are beside them.
    """

    cut: Cut
    lanes: int
    narrow: int
    column_step: int
    all_planes: int
    planes: int
    band: int
    segment: int
    grid: Grid
    copies: bool

    @property
    def cycles(self) -> float:
        """Estimated cycles of a call."""
        return self.all_planes * self.cut.cycles


def suits(problem: Problem) -> bool:
    """Whether this module computes a problem, and may be fast: of groups, or of few taps or filters."""
    if problem.group_channels == 1 and problem.groups > 1:
        return problem.group_filters <= FILTERS and computes(problem)
    if instruction_set().bits <= BITS or not computes(problem):
        return False
    return problem.groups > 1 or _is_dense_and_suits(problem)


def _is_dense_and_suits(problem: Problem) -> bool:
    """Whether there are few taps or filters, and rows of all filters do not fall into a few sets of the first cache."""
    few = problem.kernel_height * problem.kernel_width <= FEW_TAPS or problem.group_filters < FEW_FILTERS
    return few and problem.output_width * ITEM_SIZE[problem.dtype] % ALIASED != 0


@lru_cache(maxsize=CUTS)
def computes(problem: Problem) -> bool:
    """Whether this module has a way to compute a problem, of any groups."""
    return (
        steps(problem)[1] <= 2  # further columns apart, shuffles do not separate them
        and (problem.kernel_width - 1) * problem.dilation[1] <= SPAN
        and bool(cuts(problem, 1))
    )


@lru_cache(maxsize=CUTS)
def blocking(problem: Problem) -> Blocking:
    """The blocking for a problem."""
    full, width = instruction_set().lanes(problem.dtype), problem.output_width
    lanes = min(full, max(16 // ITEM_SIZE[problem.dtype], 1 << (width - 1).bit_length()))
    cut = min(cuts(problem, lanes), key=lambda cut: cut.cycles)
    planes = problem.batch * problem.out_channels // cut.filters
    together = max(ceil_div(LEAST, cut.cycles), min(planes // UNITS, MOST // cut.cycles), 1)
    copies = not cut.rows and _has_edges(problem, lanes)
    parts = min(ceil_div(UNITS, planes), max(1, cut.cycles // LEAST))
    band, segment = _part(problem, cut, lanes, parts, copies=copies)
    bands, segments = ceil_div(problem.output_height, band), ceil_div(width, segment)
    grid = Grid(1, 1, bands, segments, ceil_div(planes, together))
    narrow = lanes // 2 if not cut.rows and lanes == full and 0 < width % lanes <= lanes // 2 else 0
    return Blocking(cut, lanes, narrow, steps(problem)[1], planes, together, band, segment, grid, copies)


def _has_edges(problem: Problem, lanes: int) -> bool:
    """Whether rows of a depthwise problem have vectors at the edges, and masks for these spill other registers."""
    if instruction_set().has_masks or max(problem.group_channels, problem.group_filters) > 1:
        return False
    is_whole = not any(problem.padding[1]) and problem.output_width % lanes == 0
    is_small = ceil_div(problem.output_width, lanes) <= problem.taps  # few vectors lie between those at the edges
    is_wide = min(problem.kernel_width, problem.output_width) > 1 and problem.width >= WIDE * lanes
    is_taken = is_wide and problem.stride[1] == 1 and padded_row(problem, lanes) <= 2 * round_up(problem.width, lanes)
    return not is_whole and is_small and is_taken


def _part(problem: Problem, cut: Cut, lanes: int, parts: int, *, copies: bool) -> tuple[int, int]:
    """Output rows of a band and columns of a segment, for at least so many parts of a plane where there is room."""
    rows, columns = max(1, cut.rows), cut.vectors * lanes  # of a register block
    high, wide = ceil_div(problem.output_height, rows), ceil_div(problem.output_width, columns)
    segment = ceil_div(wide, 1 if copies else min(parts, wide)) * columns  # copies are of whole rows
    most = high
    if not cut.rows:  # neighbouring columns of vectors, or blocks of filters, should find their input in a cache
        is_near = copies or (problem.group_channels == 1 and not tuning().prefetch_rows)
        cache = BAND_BYTES if is_near else tuning().band_bytes
        parts = max(parts, ceil_div(_group_bytes(problem), cache))
        most = ceil_div(high, OVERLAPS * problem.kernel_height)
    down = min(ceil_div(parts, ceil_div(problem.output_width, segment)), most)
    return ceil_div(high, down) * rows, segment


def _group_bytes(problem: Problem) -> int:
    """Bytes of the input of a group."""
    return problem.group_channels * problem.height * problem.width * ITEM_SIZE[problem.dtype]


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights in the order of the micro-kernel, followed by biases and zeros."""
    found = blocking(problem)
    shape = (found.cut.rows, found.cut.vectors) if found.cut.rows else ("column",)
    return Work(
        phases=(Phase(_tile(problem), found.grid.units, pack(_parameters(problem, epilogue)), STAGES),),
        weights=packed(problem, weights, epilogue),
        scratch_size=scratch_size(problem),
        errors=of_sums(problem),
        variant={
            "register block": " x ".join(map(str, (found.cut.filters, *shape, found.lanes))),
            **({"source": "band"} if found.copies else {}),
            "planes": found.planes,
            "units": found.grid.units,
        },
    )


def _parameters(problem: Problem, epilogue: Epilogue) -> Parameters:
    """The parameters of the tile."""
    found, kernel = blocking(problem), blocking(problem).cut.kernel
    of_group = problem.group_filters // found.cut.filters
    interleaved = 1 if found.cut.rows else kernel.tap_step
    return Parameters(
        grid=found.grid,
        all_planes=problem.batch * problem.groups * of_group,
        planes=found.planes,
        cached=1 if found.copies else max(1, BAND_BYTES // _group_bytes(problem)) * of_group,
        filters=of_group,
        channels=problem.group_channels,
        rows=found.band,
        columns=found.segment,
        wide=problem.output_width // found.lanes * found.lanes if found.narrow else problem.output_width,
        row_stride=problem.stride[0],
        top=problem.padding[0][0],
        left=problem.padding[1][0],
        line_step=kernel.line_step * interleaved,
        interleaved=interleaved,
        group_step=kernel.taps * problem.dilation[0],
        tap_groups=kernel.groups,
        kernel_columns=problem.kernel_width,
        pairs=problem.kernel_width // 2 if found.column_step > 1 and problem.dilation[1] == 1 else 0,
        dilation=problem.dilation[1],
        taps=problem.taps,
        biases=problem.out_channels * problem.taps,
        zeros=problem.out_channels * (problem.taps + 1),
        relu=epilogue.relu,
        padded=padded_row(problem, found.lanes) if found.copies else 0,
        reach=(problem.kernel_height - 1) * problem.dilation[0] + 1,
    )


def padded_row(problem: Problem, lanes: int) -> int:
    """Elements of a copied row, with all that the vectors of an output row read: a multiple of a vector."""
    read = round_up(problem.output_width, lanes) + (problem.kernel_width - 1) * problem.dilation[1]
    return round_up(max(problem.padding[1][0] + problem.width, read) + 1, lanes)


def _tile(problem: Problem) -> TileName:
    """The tile for the blocking of a problem."""
    found, kernel = blocking(problem), blocking(problem).cut.kernel
    module = "convbench.algorithms.direct.columns_tiles"
    if not found.cut.rows:
        sums = ceil_div(kernel.taps, kernel.row_step)
        needed = problem.taps * found.cut.filters + sums + (SPARE if found.column_step == 1 else SPARE_IF_SHUFFLED)
        is_far = not found.copies and _group_bytes(problem) >= AHEAD_BYTES
        gains = problem.group_channels > 1 or found.column_step <= tuning().prefetch_steps
        ahead = ceil_div(tuning().prefetch_rows, problem.group_channels) if is_far and gains else 0
        resident = int(problem.group_channels == 1 and needed <= tuning().registers)
        size = (kernel.taps, problem.kernel_width, kernel.row_step, found.column_step)
        constants = (found.lanes, found.narrow, found.cut.filters, int(problem.group_channels > 1), *size)
        how = resident, int(instruction_set().has_masks), int(found.copies), ahead
        return TileName(module, "make_columns_tile", (*constants, *how))
    block = (found.cut.rows, found.cut.vectors, kernel.taps, kernel.rest, kernel.row_step, kernel.tap_step)
    return TileName(module, "make_blocks_tile", (*block, found.column_step, found.lanes))


def packed(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> NDArray[Any]:
    """1-D: weights in the order in which the micro-kernels read them, filters side by side; then biases, and zeros."""
    cut, filters = blocking(problem).cut, problem.out_channels
    everything = np.zeros(_packed_size(problem), problem.dtype)
    target = everything[: filters * problem.taps].reshape(filters // cut.filters, problem.group_channels, -1)
    given = weights.reshape(-1, cut.filters, problem.group_channels, problem.kernel_height, problem.kernel_width)
    split = cut.kernel.groups * cut.kernel.taps
    for begin, end, taps in ((0, split, cut.kernel.taps), (split, problem.kernel_height, cut.kernel.rest)):
        if taps:
            rows = given[..., begin:end, :].reshape(*given.shape[:3], -1, taps, problem.kernel_width)
            size = [row * problem.kernel_width * cut.filters for row in (begin, end)]
            ordered = rows.transpose(0, 2, 3, 5, 4, 1)  # block, channel, group of kernel rows, column, row, filter
            target[..., slice(*size)] = ordered.reshape(*target.shape[:2], -1)
    everything[filters * problem.taps :][:filters] = epilogue.biases(problem, problem.group_filters).ravel()
    return everything


def _packed_size(problem: Problem) -> int:
    found = blocking(problem)
    zeros = (problem.kernel_width - 1) * problem.dilation[1] + found.column_step * found.cut.vectors * found.lanes
    return problem.out_channels * (problem.taps + 1) + zeros


def scratch_size(problem: Problem) -> int:
    """Elements of the copied rows of a unit, and of a vector that a load may go beyond."""
    found = blocking(problem)
    if not found.copies:
        return 0
    return rows_of_unit(problem) * padded_row(problem, found.lanes) + found.lanes


def rows_of_unit(problem: Problem) -> int:
    """Rows of the input that a unit reads, at most."""
    last = (blocking(problem).band - 1) * problem.stride[0]
    return min(problem.height, last + (problem.kernel_height - 1) * problem.dilation[0] + 1)


def footprint(problem: Problem) -> Footprint:
    """The packed weights, and the copied rows of a unit."""
    return Footprint(scratch_size(problem) * ITEM_SIZE[problem.dtype], _packed_size(problem) * ITEM_SIZE[problem.dtype])


def cost(problem: Problem) -> Cost:
    """Register blocks with all their taps, the weights, and the copied rows."""
    found = blocking(problem)
    planes, height, width = problem.batch * problem.out_channels, problem.output_height, problem.output_width
    rows, of_plane = found.cut.rows or height, problem.taps * found.cut.filters
    band_rows, item = planes * found.grid.bands * rows_of_unit(problem), ITEM_SIZE[problem.dtype]
    copied = {"band rows": band_rows, "band bytes": band_rows * padded_row(problem, found.lanes) * item}
    blocks = planes // found.cut.filters * ceil_div(height, rows) * ceil_div(width, found.cut.vectors * found.lanes)
    return Cost(
        {
            **of_whole(problem, found.grid.units),
            **of_blocks(blocks, problem.taps, found.cut.filters, rows * found.cut.vectors),
            "rows of taps": blocks * problem.group_channels * problem.kernel_height,
            **(copied if found.copies else {}),
            **of_weights(blocks * of_plane, of_plane, item),
        },
        found.grid.units,
        shares(found.grid, (height, found.band), (width, found.segment), (planes // found.cut.filters, found.planes)),
    )
