"""The epilogue of a convolution on a GPU: the macros of `cuda/epilogue.cuh`, and the bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.cuda import SOURCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.epilogue import Epilogue
    from convbench.problem import Problem

EPILOGUE_SOURCE: Final = SOURCES / "epilogue.cuh"
NO_BIAS: Final = -1


def with_epilogue(packed: NDArray[Any], problem: Problem, epilogue: Epilogue) -> tuple[NDArray[Any], dict[str, int]]:
    """Append the bias to packed weights, and define the macros of the epilogue.

    Args:
        packed: Weights as the kernels read them, 1-D, of the problem's dtype.
        problem: The problem.
        epilogue: The epilogue.

    Returns:
        The packed weights, followed by one number for each output channel where there is a bias; and the macros of
        `epilogue.cuh`. Weights come first, so that vectors of them stay aligned; the bias is read one number at a time.
    """
    macros = {"BIAS": NO_BIAS if epilogue.bias is None else packed.size, "RELU": int(epilogue.relu)}
    if epilogue.bias is None:
        return packed, macros
    return np.concatenate([packed, epilogue.biases(problem, problem.group_filters).ravel()]), macros
