"""Direct convolution on a GPU: chooses the sizes of `cuda/direct.cu` for a problem."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.cuda import SOURCES
from convbench.cuda.epilogue import EPILOGUE_SOURCE, with_epilogue
from convbench.cuda.launch import (
    SHARED_BYTES,
    GpuWork,
    Launch,
    beyond_offsets,
    filter_blocks_each,
    geometry_macros,
    macros_of,
    thread_filters,
)
from convbench.cuda.product import LAUNCH, MULTIPROCESSORS
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

SOURCE: Final = SOURCES / "direct.cu"
RUN: Final = 8  # pixels of a thread in a row, as two runs of four
THREADS: Final = 128  # maximum number of threads of a thread block, bounded by registers
LAYERS: Final = (1, 2, 4)
DEPTHS: Final = (1, 2, 4, 8, 16)
WIDEST: Final = 64  # maximum number of inputs of each of a thread's two runs, bounded by registers

# Estimated instructions of a thread:
LOAD: Final = 12  # to load an element of the input to shared memory
TAP_LOAD: Final = 2  # to load a weight to shared memory, four at a time
STAGE: Final = 60  # for the barriers of a stage
STORES: Final = 300  # to store the outputs of a filter block

LANES: Final = 128  # of a multiprocessor


@dataclass(frozen=True)
class Cut:
    """The sizes of the kernel for one problem.

    Attributes:
        rows: Output rows of a thread block.
        columns: Output columns of a thread block.
        filters: Filters that a thread computes at a time.
        layers: Layers of threads with the same output pixels, each of which computes different filters.
        depth: Channels that shared memory holds at a time.
        tap_rows: Rows of the filters whose weights shared memory holds at a time.
    """

    rows: int
    columns: int
    filters: int
    layers: int
    depth: int
    tap_rows: int

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return self.rows * self.columns // RUN * self.layers

    @property
    def block_filters(self) -> int:
        """Filters of a filter block, which a thread block computes at a time."""
        return self.filters * self.layers

    def filter_blocks(self, problem: Problem) -> int:
        """Number of filter blocks of a group."""
        return ceil_div(problem.group_filters, self.block_filters)

    def patches(self, problem: Problem) -> int:
        """Number of patches of outputs of all images and groups."""
        rows, columns = ceil_div(problem.output_height, self.rows), ceil_div(problem.output_width, self.columns)
        return rows * columns * problem.batch * problem.groups

    def patch(self, problem: Problem) -> int:
        """Input elements that a thread block reads of each channel."""
        (stride_y, stride_x), half = problem.stride, RUN // 2
        row_stride = ceil_div((self.columns - half) * stride_x + _window(problem), half) * half
        return ((self.rows - 1) * stride_y + problem.kernel_extent[0]) * row_stride

    def weights_size(self, problem: Problem) -> int:
        """Elements of the packed weights."""
        filters = problem.groups * self.filter_blocks(problem) * self.block_filters
        return filters * problem.group_channels * problem.kernel_height * problem.kernel_width

    def shared_bytes(self, problem: Problem) -> int:
        """Shared memory of a thread block: input patches, weights, and the buffer in which warps exchange sums."""
        taps = self.tap_rows * problem.kernel_width * self.block_filters
        elements = self.depth * (self.patch(problem) + taps) + self.threads * RUN
        return elements * ITEM_SIZE[problem.dtype]


def supports(problem: Problem) -> str | None:
    """Supports kernels whose row of taps fits a thread's registers, and whose input patch fits shared memory.

    Planes are within the range of 32-bit offsets.
    """
    if (reason := beyond_offsets(problem)) is not None:
        return reason
    if _window(problem) > WIDEST:
        return f"a kernel that spans more than {WIDEST - RUN // 2 + 1} columns does not fit a thread's registers"
    fits = next(_cuts(problem), None) is not None
    return None if fits else "a patch of the image for so large a kernel does not fit shared memory"


def cut_up(problem: Problem) -> Cut:
    """The sizes with the fewest estimated instructions; ties go to the widest."""
    return min(_cuts(problem), key=lambda cut: (_instructions(problem, cut), -cut.columns))


def _cuts(problem: Problem) -> Iterator[Cut]:
    """Sizes that fit shared memory."""
    filters, group_filters = thread_filters(problem), problem.group_filters
    channels, height = problem.group_channels, problem.kernel_height
    most = 2 * group_filters if filters >= RUN // 2 else 2 * filters  # a vector of weights belongs to one layer
    layers = [layers for layers in LAYERS if filters * layers < most]
    depths = [depth for depth in DEPTHS if depth < 2 * channels]
    for layer, depth, lanes, threads in itertools.product(layers, depths, (32, 16, 8, 4, 2, 1), (32, 64, 128)):
        if threads * layer <= THREADS:
            for tap_rows in [height] if depth > 1 else range(height, 0, -1):
                cut = Cut(threads // lanes, lanes * RUN, filters, layer, depth, tap_rows)
                if cut.shared_bytes(problem) <= SHARED_BYTES:
                    yield cut
                    break


def _window(problem: Problem) -> int:
    """Input elements that a run of four pixels reads for a row of the filter, rounded up to whole vectors."""
    return ceil_div((RUN // 2 - 1) * problem.stride[1] + problem.kernel_extent[1], 4) * 4


def _instructions(problem: Problem, cut: Cut) -> float:
    """Estimated instructions of all threads, idle ones included."""
    channels, taps = problem.group_channels, problem.kernel_height * problem.kernel_width
    stages = ceil_div(channels, cut.depth) * ceil_div(problem.kernel_height, cut.tap_rows)
    again = 1 if channels > cut.depth else 1 / cut.filter_blocks(problem)  # loaded once if it holds all channels
    loads = channels * (cut.patch(problem) * LOAD * again + taps * cut.block_filters * TAP_LOAD) / cut.threads
    of_a_thread = channels * taps * cut.filters * RUN + loads + stages * STAGE + STORES
    return cut.patches(problem) * cut.filter_blocks(problem) * cut.threads * of_a_thread


def footprint(problem: Problem) -> Footprint:
    """The packed weights only."""
    return Footprint(0, cut_up(problem).weights_size(problem) * ITEM_SIZE[problem.dtype])


def cost(problem: Problem) -> Cost:
    """The instructions that the sizes were chosen by and those of a launch's time, and the bytes.

    Every multiprocessor of a large GPU counts as long as the busiest one.
    """
    cut = cut_up(problem)
    filter_blocks, patches = cut.filter_blocks(problem), cut.patches(problem)
    blocks = patches * ceil_div(filter_blocks, filter_blocks_each(filter_blocks, patches))
    waves = ceil_div(blocks, MULTIPROCESSORS) * MULTIPROCESSORS / blocks
    instructions = waves * _instructions(problem, cut) + LAUNCH * MULTIPROCESSORS * LANES
    return Cost({"instructions": instructions, "bytes": problem.bytes}, units=1)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Pack the weights by filter blocks; the work is one launch."""
    cut = cut_up(problem)
    filter_blocks, patches = cut.filter_blocks(problem), cut.patches(problem)
    each = filter_blocks_each(filter_blocks, patches)
    packed, applied = with_epilogue(pack(problem, weights, cut), problem, epilogue)
    macros = {
        **geometry_macros(problem),
        **applied,
        **macros_of(asdict(cut)),
        "FILTER_BLOCKS": filter_blocks,
        "FILTER_BLOCKS_EACH": each,
    }
    launch = Launch(
        sources=(EPILOGUE_SOURCE, SOURCE),
        name="direct",
        macros=tuple(macros.items()),
        blocks=patches * ceil_div(filter_blocks, each),
        threads=cut.threads,
        stage="direct",
    )
    variant = {**asdict(cut), "threads": cut.threads, "filter_blocks_each": each}
    return GpuWork((launch,), packed, errors=of_sums(problem), variant=variant)


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """Pack the weights: 1-D, (groups, filter blocks, channels, taps, filters of a block), padded with zeros."""
    groups, channels, filter_blocks = problem.groups, problem.group_channels, cut.filter_blocks(problem)
    filters, taps = problem.group_filters, problem.kernel_height * problem.kernel_width
    padded = np.zeros((groups, filter_blocks * cut.block_filters, channels, taps), problem.dtype)
    padded[:, :filters] = weights.reshape(groups, filters, channels, taps)
    blocked = padded.reshape(groups, filter_blocks, cut.block_filters, channels, taps)
    return np.ascontiguousarray(blocked.transpose(0, 1, 3, 4, 2)).ravel()
