"""Nested minimal filtering: how a problem is cut into tiles of outputs and blocks of taps, and what it costs in digits.

A kernel of any size is cut into blocks of a few taps. Tiles of the input are transformed once for each block and
channel, multiplied point by point with the transformed weights, summed over blocks and channels, and transformed back.
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

ERROR_LIMIT: Final = {"float32": 1e-5, "float64": 1e-13}  # of an output, relative to the largest
# The square of the largest error over the root mean square that `growth` estimates, from many random problems: of a
# single product, what each product of a sum adds, and each block of a kernel (the larger a kernel, the more alike are
# neighbouring outputs, and the less does the largest of them stand out).
SPREAD: Final = (10.0, 0.35, 0.5)
MARGIN: Final = 2.0  # between what is typical and what is never seen
MAP: Final = 4  # roundings of a number in a small constant matrix's product beside those of its sum


@dataclass(frozen=True)
class Axis:
    """How one direction is cut: tiles of `outputs`, and the kernel into `blocks` of `taps`."""

    outputs: int
    taps: int
    blocks: int

    @property
    def points(self) -> int:
        """Products of a tile."""
        return self.outputs + self.taps - 1

    @property
    def growth(self) -> float:
        """Of rounding errors, see `ToomCook`."""
        return toom_cook(self.outputs, self.taps).growth


def axes(kernel: int, size: int) -> list[Axis]:
    """Every way to cut a direction with a kernel of so many taps and so many outputs."""
    if kernel == 1:
        return [Axis(1, 1, 1)]
    return [
        Axis(outputs, taps, ceil_div(kernel, taps))
        for taps in range(2, min(kernel, LARGEST - 1) + 1)
        for outputs in range(2, min(LARGEST + 1 - taps, max(2, size)) + 1)
    ]


def errors(problem: Problem, y: Axis, x: Axis) -> Errors:
    """How far rounding takes outputs of such tiles.

    The bound adds up the roundings on the way of a number through both transforms of the input (`MAP` beside those of
    the sums), both of the weights, the products' sums and both transforms back, each times what the numbers that are
    added there can be over what comes out. Cancellation makes that much more than is ever seen.
    """
    parts = problem.group_channels * y.blocks * x.blocks
    of_weights = 2 * (y.taps + x.taps + MAP) if problem.dtype == "float64" else 2
    roundings = 2 * (y.points + x.points + 2 * MAP) + parts + 1 + of_weights
    amplification = toom_cook(y.outputs, y.taps).amplification * toom_cook(x.outputs, x.taps).amplification
    return Errors(amplification * gamma(roundings, problem.dtype), MARGIN * typical_error(problem, y, x))


def typical_error(problem: Problem, y: Axis, x: Axis) -> float:
    """What tiles are chosen by: about the largest error for random data, relative to the largest output."""
    blocks = y.blocks * x.blocks
    single, summed, block = SPREAD
    spread = math.sqrt(single + summed * (problem.group_channels) * blocks + block * blocks)
    return spread * unit_roundoff(problem.dtype) * y.growth * x.growth


def best_axes(
    problem: Problem,
    cost: Callable[[Problem, Axis, Axis], float],
    fits: Callable[[Problem, Axis, Axis], bool] = lambda *_: True,
) -> tuple[Axis, Axis] | None:
    """The way to cut both directions that costs least among those whose error stays below the limit, and that fit."""
    pairs = itertools.product(
        axes(problem.kernel_height, problem.output_height), axes(problem.kernel_width, problem.output_width)
    )
    allowed = [
        (y, x) for y, x in pairs if typical_error(problem, y, x) <= ERROR_LIMIT[problem.dtype] and fits(problem, y, x)
    ]
    return min(allowed, key=lambda pair: cost(problem, *pair), default=None)


def supports(problem: Problem) -> str | None:
    """Forward, dense steps, and a kernel with something to save."""
    if (reason := forward_only(problem)) is not None:
        return reason
    if problem.stride != (1, 1) or problem.dilation != (1, 1):
        return "needs stride 1 and dilation 1"
    if problem.kernel_height == problem.kernel_width == 1:
        return "saves nothing with a kernel of one tap"
    return None if _exact_enough(problem) else "has no tile that is exact enough for so many channels and taps"


@lru_cache(maxsize=256)
def _exact_enough(problem: Problem) -> bool:
    return best_axes(problem, lambda *_: 0.0) is not None


def transformed_shape(problem: Problem, y: Axis, x: Axis, filters: int, blocks: int) -> tuple[int, ...]:
    """What `transformed_weights` returns."""
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
    """The weights at the points, by blocks of filters; zeros for filters that are not there.

    Args:
        problem: Whose weights they are.
        weights: Shape `problem.weights_shape`.
        y: The vertical direction.
        x: The horizontal direction.
        filters: Of a block.
        blocks: Of a group.
        out: Where to put them; default: a new array.

    Returns:
        `out`, shape (groups, blocks, vertical and horizontal points, channels, vertical and horizontal blocks of taps,
        filters of a block).
    """
    shape = transformed_shape(problem, y, x, filters, blocks)
    to_y, to_x = (np.array(toom_cook(axis.outputs, axis.taps).weights, float) for axis in (y, x))
    found: NDArray[Any] = np.empty(shape, problem.dtype) if out is None else out
    packed = found.reshape(-1, *shape[2:])
    group, block = np.divmod(np.arange(problem.groups * blocks), blocks)
    place = block[:, None] * filters + np.arange(filters)  # of every filter of a block in its group
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
