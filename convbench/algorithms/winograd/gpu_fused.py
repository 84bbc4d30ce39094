"""Minimal filtering of one channel on a GPU in one kernel: how a problem is cut up for `cuda/winograd_fused.cu`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.winograd.nested import TRANSFORMS, Axis, best_axes, errors, transformed_weights
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
from convbench.kernels.toom_cook import toom_cook
from convbench.problem import ITEM_SIZE, Problem

SOURCE: Final = SOURCES / "winograd_fused.cu"
WARP: Final = 32
VECTOR_BYTES: Final = 16  # that a thread reads at once
TILES: Final = (8, 4)  # of a thread, the best first


@dataclass(frozen=True)
class Cut:
    """How one problem is cut up.

    Attributes:
        y: The vertical direction.
        x: The horizontal direction.
        tiles: Of a block.
        kernels: That a block computes at a time.
        chunks: How often it does so, one chunk after the other.
        all_chunks: How many a group has.
    """

    y: Axis
    x: Axis
    tiles: int
    kernels: int
    chunks: int
    all_chunks: int


def supports(problem: Problem) -> str | None:
    """One channel a group; and kernels of many blocks leave no room in shared memory."""
    if problem.channels > problem.groups:
        return "has one channel"
    fits = best_axes(problem, _cost, _fits) is not None
    return None if fits else "the transformed input of so large a kernel does not fit shared memory"


def cut_up(problem: Problem) -> Cut:
    """The cut of a problem that `supports` has let pass."""
    found = best_axes(problem, _cost, _fits)
    assert found is not None  # noqa: S101  # `supports` has found one
    y, x = found
    tiles, kernels = _largest(problem, y, x)
    all_chunks = ceil_div(problem.group_filters, kernels)
    chunks = chunks_of_a_block(all_chunks, _positions(problem, y, x, tiles))
    return Cut(y, x, tiles, kernels, chunks, all_chunks)


def _largest(problem: Problem, y: Axis, x: Axis) -> tuple[int, int]:
    """Tiles of a block and kernels of a chunk: the most that shared memory holds; none where it is too small."""
    kernels = kernels_of_a_thread(problem)
    points, blocks, item = y.points * x.points, y.blocks * x.blocks, ITEM_SIZE[problem.dtype]
    vector = VECTOR_BYTES // item
    sum_pitch = (ceil_div(points, vector) // 2 * 2 + 1) * vector
    for tiles in TILES:
        passed_on = kernels * tiles * max(sum_pitch, y.outputs * x.outputs)
        if (blocks * tiles * (points + 1) + passed_on) * item <= SHARED_BYTES:
            return tiles, kernels
    return 0, kernels


def _fits(problem: Problem, y: Axis, x: Axis) -> bool:
    return _largest(problem, y, x)[0] > 0


def _positions(problem: Problem, y: Axis, x: Axis, tiles: int) -> int:
    """Blocks for one chunk of kernels of everything."""
    rows, columns = (
        math.ceil(problem.output_height / y.outputs),
        math.ceil(problem.output_width / (x.outputs * tiles)),
    )
    return problem.batch * problem.groups * rows * columns


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """About how many multiply-adds a kernel's products and transform back take, lanes that idle included."""
    tiles = ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)
    threads = -(-y.points * x.points // WARP) * WARP
    back = y.outputs * y.points * x.points + y.outputs * x.outputs * x.points
    together = kernels_of_a_thread(problem) * TILES[0]
    rounds = ceil_div(together, y.points * x.points)
    return tiles * threads * (float(y.blocks * x.blocks) + rounds * back / together)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Transformed weights by chunks of kernels, and one launch."""
    cut = cut_up(problem)
    y, x = cut.y, cut.x
    macros = {
        **geometry_macros(problem),
        **y.macros("Y"),
        **x.macros("X"),
        "TILES": cut.tiles,
        "KERNELS": cut.kernels,
        "CHUNKS": cut.chunks,
        "ALL_CHUNKS": cut.all_chunks,
    }
    to_y, to_x = toom_cook(y.outputs, y.taps), toom_cook(x.outputs, x.taps)
    launch = Launch(
        sources=(TRANSFORMS, SOURCE),
        name="winograd",
        macros=tuple(macros.items()),
        blocks=_positions(problem, y, x, cut.tiles) * ceil_div(cut.all_chunks, cut.chunks),
        threads=y.points * x.points,
        stage="winograd",
        matrices=(
            ("INPUT_Y", to_y.input),
            ("INPUT_X", to_x.input),
            ("OUTPUT_Y", to_y.output),
            ("OUTPUT_X", to_x.output),
        ),
    )
    return GpuWork((launch,), pack(problem, weights, cut), errors=errors(problem, y, x))


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """The transformed weights, 1-D: (groups, chunks, blocks of taps, vectors of kernels, points, kernels in one)."""
    points = transformed_weights(problem, weights, cut.y, cut.x, cut.kernels, cut.all_chunks)
    vector = min(cut.kernels, VECTOR_BYTES // ITEM_SIZE[problem.dtype])
    parts = cut.y.blocks * cut.x.blocks
    by_vector = points.reshape(problem.groups, cut.all_chunks, -1, parts, cut.kernels // vector, vector)
    return np.ascontiguousarray(by_vector.transpose(0, 1, 3, 4, 2, 5)).ravel()
