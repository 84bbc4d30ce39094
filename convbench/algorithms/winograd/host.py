"""Winograd convolution on the host: which way a problem is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms.winograd import filter_lanes, tile_lanes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.algorithms import Footprint
    from convbench.epilogue import Epilogue
    from convbench.kernels.tile import Work
    from convbench.problem import Problem


def has_filters_in_lanes(problem: Problem) -> bool:
    """Whether filters are in the lanes of vectors."""
    return problem.group_channels > 2


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """The work of the better way."""
    way = filter_lanes if has_filters_in_lanes(problem) else tile_lanes
    return way.prepare(problem, weights, epilogue)


def footprint(problem: Problem) -> Footprint:
    """The memory of that way."""
    way = filter_lanes if has_filters_in_lanes(problem) else tile_lanes
    return way.footprint(problem)
