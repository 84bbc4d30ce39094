"""Simple numbers that describe a problem's shape, by which shapes are compared and told apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convbench.problem import Problem

FEATURES: Final[Mapping[str, Callable[[Problem], int]]] = {
    "input channels": lambda problem: problem.channels,
    "filters": lambda problem: problem.out_channels,
    "channels of a filter": lambda problem: problem.group_channels,
    "filters of a group": lambda problem: problem.group_filters,
    "groups": lambda problem: problem.groups,
    "kernel rows": lambda problem: problem.kernel_height,
    "kernel columns": lambda problem: problem.kernel_width,
    "stride": lambda problem: math.prod(problem.stride),
    "dilation": lambda problem: math.prod(problem.dilation),
    "batch": lambda problem: problem.batch,
    "output pixels": lambda problem: problem.output_height * problem.output_width,
    "output columns": lambda problem: problem.output_width,
    "products of an output": lambda problem: problem.taps,
    "multiply-adds": lambda problem: problem.multiply_adds,
    "elements of the weights": lambda problem: math.prod(problem.weights_shape),
}
"""Each is a whole number from 1 up."""


@lru_cache(maxsize=2**15)
def features(problem: Problem) -> tuple[float, ...]:
    """Every feature of a problem, in the order of `FEATURES`."""
    return tuple(float(feature(problem)) for feature in FEATURES.values())


def feature_matrix(problems: Iterable[Problem]) -> NDArray[np.float64]:
    """Shape (problems, features)."""
    return np.array([features(problem) for problem in problems], np.float64).reshape(-1, len(FEATURES))
