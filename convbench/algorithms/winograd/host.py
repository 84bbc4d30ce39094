"""Winograd convolution on the host: channels and filters in the lanes of vectors, or tiles; dilated ones in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from convbench.algorithms import within_reason
from convbench.algorithms.winograd import dilated, filter_lanes, tile_lanes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.algorithms import Footprint
    from convbench.epilogue import Epilogue
    from convbench.kernels.tile import Work
    from convbench.problem import Problem

LEAST_CHANNELS: Final = 3  # of a group: fewer leave too many lanes of the input transform empty


def has_filters_in_lanes(problem: Problem) -> bool:
    """Whether channels and filters are in the lanes, not tiles."""
    return problem.group_channels >= LEAST_CHANNELS


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """The work, with transformed weights."""
    if dilated.is_dilated(problem):
        return dilated.around(prepare(dilated.components(problem).problem, weights, epilogue), problem)
    if has_filters_in_lanes(problem):
        return filter_lanes.prepare(problem, weights, epilogue)
    return tile_lanes.prepare(problem, weights, epilogue)


def supports(problem: Problem) -> str | None:
    """Why the memory that a problem needs is out of proportion; None if it is not."""
    return dilated.supports(problem) or within_reason(footprint)(problem)


def footprint(problem: Problem) -> Footprint:
    """The memory that a problem needs."""
    if dilated.is_dilated(problem):
        return dilated.more_memory(footprint(dilated.components(problem).problem), problem)
    return filter_lanes.footprint(problem) if has_filters_in_lanes(problem) else tile_lanes.footprint(problem)
