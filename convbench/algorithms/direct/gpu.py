"""Direct convolution on a GPU: how a problem is cut up for `cuda/direct.cu`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.cuda import SOURCES
from convbench.cuda.launch import (
    SHARED_BYTES,
    GpuWork,
    Launch,
    chunks_of_a_block,
    geometry_macros,
    kernels_of_a_thread,
)
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div
from convbench.problem import ITEM_SIZE, Problem
from convbench.rounding import of_sums

SOURCE: Final = SOURCES / "direct.cu"
RUN: Final = 8  # pixels of a thread, side by side in two runs of four
WARP: Final = 32
THREADS: Final = 128  # of a block at most, as its registers allow
LAYERS: Final = (1, 2, 4)
DEPTHS: Final = (1, 2, 4, 8, 16)
WIDEST: Final = 64  # inputs of a run that a thread keeps in registers, twice

# About how many instructions of a thread it takes to ...
LOAD: Final = 12  # ... bring a number of the input to shared memory
TAP_LOAD: Final = 2  # ... bring a weight there, of which four go together
STAGE: Final = 60  # ... wait until everybody has
WRITING: Final = 300  # ... write a chunk's outputs


@dataclass(frozen=True)
class Cut:
    """How one problem is cut up.

    Attributes:
        rows: Rows of outputs of a block.
        columns: Columns of outputs of a block.
        kernels: That a thread computes at a time.
        layers: Of threads over the same outputs, each of which computes kernels of its own.
        depth: Channels that lie in shared memory at a time.
        tap_rows: Rows of the kernels whose weights lie in shared memory at a time.
    """

    rows: int
    columns: int
    kernels: int
    layers: int
    depth: int
    tap_rows: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.rows * self.columns // RUN * self.layers

    @property
    def chunk(self) -> int:
        """Kernels that a block computes at a time."""
        return self.kernels * self.layers

    def chunks(self, problem: Problem) -> int:
        """How many of those a group has."""
        return ceil_div(problem.group_filters, self.chunk)

    def patches(self, problem: Problem) -> int:
        """Blocks for the outputs of one chunk, of all images and groups."""
        rows, columns = ceil_div(problem.output_height, self.rows), ceil_div(problem.output_width, self.columns)
        return rows * columns * problem.batch * problem.groups

    def patch(self, problem: Problem) -> int:
        """Numbers of a channel of the input that a block reads."""
        (stride_y, stride_x), half = problem.stride, RUN // 2
        pitch = ceil_div((self.columns - half) * stride_x + _window(problem), half) * half
        return ((self.rows - 1) * stride_y + problem.kernel_extent[0]) * pitch

    def shared_bytes(self, problem: Problem) -> int:
        """Shared memory of a block: patches, weights, and what warps pass their sums through."""
        taps = self.tap_rows * problem.kernel_width * self.chunk
        numbers = self.depth * (self.patch(problem) + taps) + self.threads * RUN
        return numbers * ITEM_SIZE[problem.dtype]


def supports(problem: Problem) -> str | None:
    """Kernels that leave no room in shared memory, or in a thread's registers, are too large."""
    if _window(problem) > WIDEST:
        return f"a kernel that spans more than {WIDEST - RUN // 2 + 1} columns does not fit a thread's registers"
    fits = next(_cuts(problem), None) is not None
    return None if fits else "a patch of the image for so large a kernel does not fit shared memory"


def cut_up(problem: Problem) -> Cut:
    """The cut that costs the least; of equal ones the widest."""
    return min(_cuts(problem), key=lambda cut: (_instructions(problem, cut), -cut.columns))


def _cuts(problem: Problem) -> Iterator[Cut]:
    """Cuts whose shared memory is enough."""
    kernels, group_kernels = kernels_of_a_thread(problem), problem.group_filters
    channels, height = problem.group_channels, problem.kernel_height
    most = 2 * group_kernels if kernels >= RUN // 2 else 2 * kernels  # a vector of weights is one layer's
    layers = [layers for layers in LAYERS if kernels * layers < most]
    depths = [depth for depth in DEPTHS if depth < 2 * channels]
    for layer, depth, lanes, threads in itertools.product(layers, depths, (32, 16, 8, 4, 2, 1), (32, 64, 128)):
        if threads * layer <= THREADS:
            for tap_rows in [height] if depth > 1 else range(height, 0, -1):
                cut = Cut(threads // lanes, lanes * RUN, kernels, layer, depth, tap_rows)
                if cut.shared_bytes(problem) <= SHARED_BYTES:
                    yield cut
                    break


def _window(problem: Problem) -> int:
    """Inputs of a run of four pixels for a row of the kernel, in whole vectors."""
    return ceil_div((RUN // 2 - 1) * problem.stride[1] + problem.kernel_extent[1], 4) * 4


def _instructions(problem: Problem, cut: Cut) -> float:
    """About how many all threads execute, for outputs that are not there as well."""
    channels, taps = problem.group_channels, problem.kernel_height * problem.kernel_width
    stages = ceil_div(channels, cut.depth) * ceil_div(problem.kernel_height, cut.tap_rows)
    again = 1 if channels > cut.depth else 1 / cut.chunks(problem)  # patches that stay are loaded once
    loads = channels * (cut.patch(problem) * LOAD * again + taps * cut.chunk * TAP_LOAD) / cut.threads
    of_a_thread = channels * taps * cut.kernels * RUN + loads + stages * STAGE + WRITING
    return cut.patches(problem) * cut.chunks(problem) * cut.threads * of_a_thread


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Weights by chunks of kernels, and one launch."""
    cut = cut_up(problem)
    all_chunks, patches = cut.chunks(problem), cut.patches(problem)
    chunks = chunks_of_a_block(all_chunks, patches)
    macros = {
        **geometry_macros(problem),
        "ROWS": cut.rows,
        "COLUMNS": cut.columns,
        "KERNELS": cut.kernels,
        "LAYERS": cut.layers,
        "DEPTH": cut.depth,
        "TAP_ROWS": cut.tap_rows,
        "CHUNKS": chunks,
        "ALL_CHUNKS": all_chunks,
    }
    launch = Launch(
        sources=(SOURCE,),
        name="direct",
        macros=tuple(macros.items()),
        blocks=patches * ceil_div(all_chunks, chunks),
        threads=cut.threads,
        stage="direct",
    )
    return GpuWork((launch,), pack(problem, weights, cut), errors=of_sums(problem))


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """The weights, 1-D: (groups, chunks, channels, taps, kernels of a chunk), zeros for kernels that are not there."""
    groups, channels, chunks = problem.groups, problem.group_channels, cut.chunks(problem)
    kernels, taps = problem.out_channels // groups, problem.kernel_height * problem.kernel_width
    padded = np.zeros((groups, chunks * cut.chunk, channels, taps), problem.dtype)
    padded[:, :kernels] = weights.reshape(groups, kernels, channels, taps)
    chunked = padded.reshape(groups, chunks, cut.chunk, channels, taps)
    return np.ascontiguousarray(chunked.transpose(0, 1, 3, 4, 2)).ravel()
