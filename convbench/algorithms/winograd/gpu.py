"""Minimal filtering on a GPU: one fused kernel for one channel per group, otherwise three kernels.

With one channel there are few multiplications, and the intermediate arrays of three kernels would be many times the
size of the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms.winograd import gpu_fused, gpu_steps
from convbench.algorithms.winograd.nested import undilated
from convbench.epilogue import NO_EPILOGUE, Epilogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.algorithms import Cost, Footprint
    from convbench.cuda.launch import GpuWork
    from convbench.problem import Problem


def supports(problem: Problem) -> str | None:
    """Supports a dilation of 1 alone, and what either choice of kernels does."""
    if (reason := undilated(problem)) is not None:
        return reason
    return None if gpu_fused.supports(problem) is None else gpu_steps.supports(problem)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """The fused kernel where it is supported, otherwise three kernels."""
    if gpu_fused.supports(problem) is None:
        return gpu_fused.prepare(problem, weights, epilogue)
    return gpu_steps.prepare(problem, weights, epilogue)


def footprint(problem: Problem) -> Footprint:
    """The memory of the kernels that `prepare` chooses."""
    return gpu_fused.footprint(problem) if gpu_fused.supports(problem) is None else gpu_steps.footprint(problem)


def cost(problem: Problem) -> Cost:
    """The work of the kernels that `prepare` chooses."""
    return gpu_fused.cost(problem) if gpu_fused.supports(problem) is None else gpu_steps.cost(problem)
