"""Minimal filtering of one channel on a GPU in one kernel: chooses the sizes of `cuda/winograd_fused.cu`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.algorithms.winograd.gpu_transforms import TRANSFORMS, axis_macros, axis_variant, matrices
from convbench.algorithms.winograd.nested import Axis, best_axes, errors, transformed_weights
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
from convbench.cuda.product import LAUNCH
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.problem import ITEM_SIZE, Problem

SOURCE: Final = SOURCES / "winograd_fused.cu"
WARP: Final = 32
VECTOR_BYTES: Final = 16  # bytes of a vector load
TILES: Final = (8, 4)  # tiles of a thread block, the best first


@dataclass(frozen=True)
class Cut:
    """The sizes of the kernel for one problem.

    Attributes:
        y: Cut of the vertical axis.
        x: Cut of the horizontal axis.
        tiles: Tiles of a thread block.
        filters: Filters of a filter block, which a thread block computes at a time.
        filter_blocks: Filter blocks of a group.
        filter_blocks_each: Filter blocks that a thread block computes one after the other.
    """

    y: Axis
    x: Axis
    tiles: int
    filters: int
    filter_blocks: int
    filter_blocks_each: int

    @property
    def sizes(self) -> dict[str, int]:
        """All sizes but those of the axes, by name."""
        return {
            "tiles": self.tiles,
            "filters": self.filters,
            "filter_blocks": self.filter_blocks,
            "filter_blocks_each": self.filter_blocks_each,
        }


def supports(problem: Problem) -> str | None:
    """Supports one channel per group, where the transformed input fits shared memory and planes 32-bit offsets."""
    if problem.channels > problem.groups:
        return "has one channel"
    if (reason := beyond_offsets(problem)) is not None:
        return reason
    fits = best_axes(problem, _cost, _fits) is not None
    return None if fits else "the transformed input of so large a kernel does not fit shared memory"


def cut_up(problem: Problem) -> Cut:
    """The sizes for a supported problem."""
    found = best_axes(problem, _cost, _fits)
    assert found is not None  # noqa: S101  # `supports` has checked this
    y, x = found
    tiles, filters = _largest(problem, y, x)
    filter_blocks = ceil_div(problem.group_filters, filters)
    each = filter_blocks_each(filter_blocks, _places(problem, y, x, tiles))
    return Cut(y, x, tiles, filters, filter_blocks, each)


def _largest(problem: Problem, y: Axis, x: Axis) -> tuple[int, int]:
    """The largest number of tiles of a thread block that fit shared memory, or 0; and the filters of a filter block."""
    filters = thread_filters(problem)
    points, blocks, item = y.points * x.points, y.blocks * x.blocks, ITEM_SIZE[problem.dtype]
    vector = VECTOR_BYTES // item
    sum_stride = (ceil_div(points, vector) // 2 * 2 + 1) * vector
    for tiles in TILES:
        exchange = filters * tiles * max(sum_stride, y.outputs * x.outputs)
        if (blocks * tiles * (points + 1) + exchange) * item <= SHARED_BYTES:
            return tiles, filters
    return 0, filters


def _fits(problem: Problem, y: Axis, x: Axis) -> bool:
    return _largest(problem, y, x)[0] > 0


def _places(problem: Problem, y: Axis, x: Axis, tiles: int) -> int:
    """Number of runs of `tiles` tiles in all images and groups."""
    rows = ceil_div(problem.output_height, y.outputs)
    return problem.batch * problem.groups * rows * ceil_div(problem.output_width, x.outputs * tiles)


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """Estimated multiply-adds of a filter's products and inverse transform, idle lanes included."""
    tiles = ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)
    threads = round_up(y.points * x.points, WARP)
    back = y.outputs * y.points * x.points + y.outputs * x.outputs * x.points
    together = thread_filters(problem) * TILES[0]
    rounds = ceil_div(together, y.points * x.points)
    return tiles * threads * (float(y.blocks * x.blocks) + rounds * back / together)


def footprint(problem: Problem) -> Footprint:
    """The packed weights only."""
    cut = cut_up(problem)
    of_a_filter = cut.y.blocks * cut.x.blocks * cut.y.points * cut.x.points
    size = problem.groups * cut.filter_blocks * cut.filters * of_a_filter
    return Footprint(0, size * ITEM_SIZE[problem.dtype])


def cost(problem: Problem) -> Cost:
    """The multiply-adds that the tile was chosen by, the cycles of a launch, and the bytes."""
    cut = cut_up(problem)
    filters = problem.batch * problem.groups * cut.filter_blocks * cut.filters
    fused = filters * _cost(problem, cut.y, cut.x)
    return Cost({"fused multiply-adds": fused, "product cycles": LAUNCH, "bytes": problem.bytes}, units=1)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Transform and pack the weights by filter blocks; the work is one launch."""
    cut = cut_up(problem)
    y, x, threads = cut.y, cut.x, cut.y.points * cut.x.points
    packed, applied = with_epilogue(pack(problem, weights, cut), problem, epilogue)
    macros = {**geometry_macros(problem), **applied, **axis_macros(y, x), **macros_of(cut.sizes)}
    launch = Launch(
        sources=(EPILOGUE_SOURCE, TRANSFORMS, SOURCE),
        name="winograd",
        macros=tuple(macros.items()),
        blocks=_places(problem, y, x, cut.tiles) * ceil_div(cut.filter_blocks, cut.filter_blocks_each),
        threads=threads,
        stage="winograd",
        matrices=matrices(y, x),
    )
    variant = {"kernels": "fused", **axis_variant(y, x), **cut.sizes, "threads": threads}
    return GpuWork((launch,), packed, errors=errors(problem, y, x), variant=variant)


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """Transform and pack the weights: 1-D, (groups, filter blocks, blocks of taps, filter vectors, points, filters)."""
    points = transformed_weights(problem, weights, cut.y, cut.x, cut.filters, cut.filter_blocks)
    vector = min(cut.filters, VECTOR_BYTES // ITEM_SIZE[problem.dtype])
    parts = cut.y.blocks * cut.x.blocks
    by_vector = points.reshape(problem.groups, cut.filter_blocks, -1, parts, cut.filters // vector, vector)
    return np.ascontiguousarray(by_vector.transpose(0, 1, 3, 4, 2, 5)).ravel()
