"""How alike problems are: a distance between their shapes, and the range that measured ones span."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.problem import ITEM_SIZE, Problem

Matrix = NDArray[np.float64]

COORDINATES: Final = (  # in words, and how many doublings of it count as one
    ("images", 1.0),
    ("groups", 1.0),
    ("channels of a group", 1.0),
    ("filters of a group", 1.0),
    ("output rows", 1.0),
    ("output columns", 1.0),
    ("kernel rows", 1.0),
    ("kernel columns", 1.0),
    ("stride", 0.5),
    ("dilation", 0.5),
    ("bytes of a number", 0.25),
)
"""A problem's coordinates: logarithms to base 2, divided by the second entry."""

MARGIN: Final = 1.0  # a problem may lie so far outside of what was measured, and so far from the nearest


def coordinates(problem: Problem) -> list[float]:
    """A problem as a point; see `COORDINATES`."""
    sizes = (
        problem.batch,
        problem.groups,
        problem.group_channels,
        problem.group_filters,
        problem.output_height,
        problem.output_width,
        problem.kernel_height,
        problem.kernel_width,
        math.sqrt(problem.stride[0] * problem.stride[1]),
        math.sqrt(problem.dilation[0] * problem.dilation[1]),
        ITEM_SIZE[problem.dtype] / 4,
    )
    return [math.log2(size) / unit for size, (_, unit) in zip(sizes, COORDINATES, strict=True)]


def distances(points: Matrix, point: Any) -> Matrix:
    """Euclidean distances of points, shape (points, coordinates), from one."""
    found: Matrix = np.sqrt(np.square(points - point).sum(axis=1))
    return found


def outside(points: Matrix, point: Any) -> list[str]:
    """The coordinates in which a point lies outside the range of others by more than `MARGIN`, in words."""
    if not len(points):
        return [name for name, _ in COORDINATES]
    low, high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
    return [
        name
        for (name, _), place, bottom, top in zip(COORDINATES, point, low, high, strict=True)
        if not bottom <= place <= top
    ]
