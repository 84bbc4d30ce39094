"""Nested minimal filtering: tiles of outputs and blocks of taps, and their effect on rounding errors.

A kernel of any size is split into blocks of a few taps. Tiles of the input are transformed once for each block and
channel, multiplied point by point by the transformed weights, summed over blocks and channels, and transformed back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import forward_only
from convbench.integers import ceil_div
from convbench.kernels.blocking import pieces
from convbench.kernels.toom_cook import LARGEST, toom_cook
from convbench.problem import Problem
from convbench.rounding import Errors, gamma, unit_roundoff

ERROR_LIMIT: Final = {"float32": 1e-5, "float64": 1e-13}  # largest error of an output, relative to the largest output
# Square of the ratio of the largest error to the root mean square error that `growth` estimates, fitted to many random
# problems: a constant, a term for each product of a sum, and a term for the square of the number of blocks of taps
# (with larger kernels, adjacent outputs are more correlated, and the largest output exceeds the others by less).
SPREAD: Final = (10.0, 0.35, 0.5)
MARGIN: Final = 3.0  # factor from the typical error to one that was never observed
MAP: Final = 4  # roundings of a product with a small constant matrix, in addition to those of its sum


@dataclass(frozen=True)
class Axis:
    """The cut along one axis: tiles of `outputs`; the kernel is split into `blocks` of `taps` each."""

    outputs: int
    taps: int
    blocks: int

    @property
    def points(self) -> int:
        """Number of products of a tile."""
        return self.outputs + self.taps - 1

    @property
    def growth(self) -> float:
        """Growth of rounding errors, see `ToomCook`."""
        return toom_cook(self.outputs, self.taps).growth


def axes(kernel: int, size: int) -> list[Axis]:
    """All cuts of an axis with `kernel` taps and `size` outputs."""
    if kernel == 1:
        return [Axis(1, 1, 1)]
    return [
        Axis(outputs, taps, ceil_div(kernel, taps))
        for taps in range(2, min(kernel, LARGEST - 1) + 1)
        for outputs in range(2, min(LARGEST + 1 - taps, max(2, size)) + 1)
    ]


def errors(problem: Problem, y: Axis, x: Axis) -> Errors:
    """Rounding errors of the outputs of such tiles.

    The bound counts the roundings in the two passes of each of the input, weights and output transforms (`MAP` in
    addition to those of the sums) and in the sums of products, multiplied by the largest ratio of intermediate sums to
    the output. Because of cancellation, it is far larger than any observed error.
    """
    parts = problem.group_channels * y.blocks * x.blocks
    of_weights = 2 * (y.taps + x.taps + MAP) if problem.dtype == "float64" else 2
    roundings = 2 * (y.points + x.points + 2 * MAP) + parts + 1 + of_weights
    amplification = toom_cook(y.outputs, y.taps).amplification * toom_cook(x.outputs, x.taps).amplification
    return Errors(amplification * gamma(roundings, problem.dtype), MARGIN * typical_error(problem, y, x))


def typical_error(problem: Problem, y: Axis, x: Axis) -> float:
    """Estimated largest error for random data, relative to the largest output; the criterion for choosing tiles."""
    blocks = y.blocks * x.blocks
    single, summed, block = SPREAD
    spread = math.sqrt(single + summed * (problem.group_channels) * blocks + block * blocks)
    return spread * unit_roundoff(problem.dtype) * y.growth * x.growth


def best_axes(
    problem: Problem,
    cost: Callable[[Problem, Axis, Axis], float],
    fits: Callable[[Problem, Axis, Axis], bool] = lambda *_: True,
) -> tuple[Axis, Axis] | None:
    """The cut of both axes of least cost among those that fit and keep the error limit; None if there is none."""
    pairs = itertools.product(
        axes(problem.kernel_height, problem.output_height), axes(problem.kernel_width, problem.output_width)
    )
    allowed = [
        (y, x) for y, x in pairs if typical_error(problem, y, x) <= ERROR_LIMIT[problem.dtype] and fits(problem, y, x)
    ]
    return min(allowed, key=lambda pair: cost(problem, *pair), default=None)


def supports(problem: Problem) -> str | None:
    """Supports the forward direction with stride 1 and more than one tap; see `dilated` for a dilation."""
    if (reason := forward_only(problem)) is not None:
        return reason
    if problem.stride != (1, 1):
        return "needs stride 1"
    if problem.kernel_height == problem.kernel_width == 1:
        return "saves nothing with a kernel of one tap"
    return None if _exact_enough(problem) else "has no tile that is exact enough for so many channels and taps"


def undilated(problem: Problem) -> str | None:
    """Supports a dilation of 1 alone."""
    return None if problem.dilation == (1, 1) else "needs dilation 1"


@lru_cache(maxsize=256)
def _exact_enough(problem: Problem) -> bool:
    return best_axes(problem, lambda *_: 0.0) is not None


def transformed_shape(problem: Problem, y: Axis, x: Axis, filters: int, blocks: int) -> tuple[int, ...]:
    """The shape of the array that `transformed_weights` returns."""
    return problem.groups, blocks, y.points, x.points, problem.group_channels, y.blocks, x.blocks, filters


def transformed_weights(
    problem: Problem,
    weights: NDArray[Any],
    y: Axis,
    x: Axis,
    filters: int,
    blocks: int,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Transform the weights to the points, by filter blocks; the last block of a group is padded with zeros.

    Args:
        problem: The problem that the weights belong to.
        weights: Shape `problem.weights_shape`.
        y: Cut of the vertical axis.
        x: Cut of the horizontal axis.
        filters: Filters of a filter block.
        blocks: Filter blocks of a group.
        out: Output array; default: a new array.

    Returns:
        `out`, shape (groups, filter blocks, vertical points, horizontal points, channels, vertical blocks of taps,
        horizontal blocks of taps, filters of a block).
    """
    shape = transformed_shape(problem, y, x, filters, blocks)
    to_y, to_x = (np.array(toom_cook(axis.outputs, axis.taps).weights, float) for axis in (y, x))
    found: NDArray[Any] = np.empty(shape, problem.dtype) if out is None else out
    packed = found.reshape(-1, *shape[2:])
    group, block = np.divmod(np.arange(problem.groups * blocks), blocks)
    place = block[:, None] * filters + np.arange(filters)  # index in its group of every filter of a block
    there, number = place < problem.group_filters, group[:, None] * problem.group_filters + place
    each = 8 * filters * y.points * x.points * y.blocks * x.blocks
    for rows, columns in pieces(len(packed), problem.group_channels, each):
        own = there[rows]
        padded = np.zeros((*own.shape, columns.stop - columns.start, y.blocks * y.taps, x.blocks * x.taps))
        kept = padded[..., : problem.kernel_height, : problem.kernel_width]
        kept[own] = weights[number[rows][own], columns]
        blocked = padded.reshape(*padded.shape[:3], y.blocks, y.taps, x.blocks, x.taps)
        packed[rows, :, :, columns] = np.einsum("pa,bkcyaxd,qd->bpqcyxk", to_y, blocked, to_x, optimize=True)
    return found
