"""Minimal filtering on a GPU: in one kernel where there is one channel, otherwise in three.

With one channel there is little to multiply, and what would be passed on through memory is many times the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms.winograd import gpu_fused, gpu_steps
from convbench.epilogue import NO_EPILOGUE, Epilogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.cuda.launch import GpuWork
    from convbench.problem import Problem


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """The work of whichever way it is."""
    if gpu_fused.supports(problem) is None:
        return gpu_fused.prepare(problem, weights, epilogue)
    return gpu_steps.prepare(problem, weights, epilogue)
