"""Direct convolution on a GPU: how a problem is cut up for `cuda/direct.cu`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.device import (
    SHARED_BYTES,
    DeviceWork,
    Launch,
    chunks_of_a_block,
    geometry_macros,
    kernels_of_a_thread,
)
from convbench.problem import ITEM_SIZE, Problem
from convbench.tile import error_of_sums

SOURCE: Final = Path(__file__).parent / "cuda" / "direct.cu"
RUN: Final = 8  # pixels of a thread, side by side in two runs of four
WARP: Final = 32
THREADS: Final = 128  # of a block, where shared memory is enough
WIDEST: Final = 64  # inputs of a run that a thread keeps in registers, twice
SMALL_BLOCK: Final = 64  # pixels' worth of work that a block costs beside its own


@dataclass(frozen=True)
class Cut:
    """How one problem is cut up.

    Attributes:
        rows: Rows of outputs of a block.
        columns: Columns of outputs of a block.
        kernels: That a thread computes at a time.
        tap_rows: Rows of the kernels whose weights lie in shared memory at a time.
        chunks: How often `kernels` kernels a block computes, one after the other.
        all_chunks: How often a group has them.
    """

    rows: int
    columns: int
    kernels: int
    tap_rows: int
    chunks: int
    all_chunks: int


def supports(problem: Problem) -> str | None:
    """Kernels that leave no room in shared memory, or in a thread's registers, are too large."""
    if _window(problem) > WIDEST:
        return f"a kernel that spans more than {WIDEST - RUN // 2 + 1} columns does not fit a thread's registers"
    return None if _shapes(problem) else "a patch of the image for so large a kernel does not fit shared memory"


def cut_up(problem: Problem) -> Cut:
    """The shape that costs the least; of equal ones the widest."""
    rows, columns, tap_rows = min(_shapes(problem), key=lambda shape: (_cost(problem, *shape[:2]), -shape[1]))
    kernels = kernels_of_a_thread(problem)
    all_chunks = -(-problem.out_channels // problem.groups // kernels)
    patches = _patches(problem, rows, columns) * problem.batch * problem.groups
    return Cut(rows, columns, kernels, tap_rows, chunks_of_a_block(all_chunks, patches), all_chunks)


def _shapes(problem: Problem) -> list[tuple[int, int, int]]:
    """(rows, columns, rows of taps) of blocks whose shared memory is enough."""
    kernels, item = kernels_of_a_thread(problem), ITEM_SIZE[problem.dtype]
    extent_y, (stride_y, stride_x) = problem.kernel_extent[0], problem.stride
    window = _window(problem)
    found = []
    for threads in (THREADS, THREADS // 2, WARP):
        for lanes in (32, 16, 8, 4, 2, 1):
            rows, columns = threads // lanes, lanes * RUN
            pitch = -(-((columns - RUN // 2) * stride_x + window) // 4) * 4
            left = SHARED_BYTES // item - ((rows - 1) * stride_y + extent_y) * pitch - threads * RUN
            if (tap_rows := min(problem.kernel_height, left // (problem.kernel_width * kernels + 4))) > 0:
                found.append((rows, columns, tap_rows))
    return found


def _window(problem: Problem) -> int:
    """Inputs of a run of four pixels for a row of the kernel, in whole vectors."""
    return -(-((RUN // 2 - 1) * problem.stride[1] + problem.kernel_extent[1]) // 4) * 4


def _patches(problem: Problem, rows: int, columns: int) -> int:
    return -(-problem.output_height // rows) * -(-problem.output_width // columns)


def _cost(problem: Problem, rows: int, columns: int) -> float:
    """Pixels that all blocks compute together, those that are not there included, and what the blocks cost beside."""
    return _patches(problem, rows, columns) * rows * columns * (1 + SMALL_BLOCK / (rows * columns))


def prepare(problem: Problem, weights: NDArray[Any]) -> DeviceWork:
    """Weights by chunks of kernels, and one launch."""
    cut = cut_up(problem)
    macros = {
        **geometry_macros(problem),
        "ROWS": cut.rows,
        "COLUMNS": cut.columns,
        "KERNELS": cut.kernels,
        "TAP_ROWS": cut.tap_rows,
        "CHUNKS": cut.chunks,
        "ALL_CHUNKS": cut.all_chunks,
    }
    launch = Launch(
        sources=(SOURCE,),
        name="direct",
        macros=tuple(macros.items()),
        blocks=_patches(problem, cut.rows, cut.columns)
        * -(-cut.all_chunks // cut.chunks)
        * (problem.batch * problem.groups),
        threads=cut.rows * cut.columns // RUN,
        stage="direct",
    )
    return DeviceWork((launch,), pack(problem, weights, cut), error_bound=error_of_sums(problem))


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """The weights, 1-D: (groups, chunks, channels, taps, kernels of a chunk), zeros for kernels that are not there."""
    groups, channels = problem.groups, problem.channels // problem.groups
    kernels, taps = problem.out_channels // groups, problem.kernel_height * problem.kernel_width
    padded = np.zeros((groups, cut.all_chunks * cut.kernels, channels, taps), problem.dtype)
    padded[:, :kernels] = weights.reshape(groups, kernels, channels, taps)
    chunked = padded.reshape(groups, cut.all_chunks, cut.kernels, channels, taps)
    return np.ascontiguousarray(chunked.transpose(0, 1, 3, 4, 2)).ravel()
