"""Minimal filtering on a GPU: in one kernel where there is one channel, otherwise in three.

With one channel there is little to multiply, and what would be passed on through memory is many times the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms import winograd_fused_cuda, winograd_steps_cuda

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.device import DeviceWork
    from convbench.problem import Problem


def prepare(problem: Problem, weights: NDArray[Any]) -> DeviceWork:
    """The work of whichever way it is."""
    if winograd_fused_cuda.supports(problem) is None:
        return winograd_fused_cuda.prepare(problem, weights)
    return winograd_steps_cuda.prepare(problem, weights)
