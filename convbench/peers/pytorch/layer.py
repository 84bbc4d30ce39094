"""One PyTorch layer in inference mode, on the host or on a GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from convbench.problem import Problem


def supports(problem: Problem) -> str | None:
    """Supports the forward direction."""
    return None if problem.direction == "forward" else f"has no {problem.direction} form here"


def forward(torch: Any, problem: Problem) -> Callable[[Any, Any], Any]:
    """A function that convolves a tensor with weights; asymmetric padding, which `conv2d` lacks, is a separate step."""
    (top, bottom), (left, right) = problem.padding
    uneven = (left, right, top, bottom) if top != bottom or left != right else None
    convolve = partial(
        torch.nn.functional.conv2d,
        stride=problem.stride,
        padding=(0, 0) if uneven else (top, left),
        dilation=problem.dilation,
        groups=problem.groups,
    )

    def compute(x: Any, weights: Any) -> Any:
        with torch.inference_mode():
            return convolve(torch.nn.functional.pad(x, uneven) if uneven else x, weights)

    return compute


class Layer:
    """Weights as a tensor of one memory format, and the tensors of the last call.

    Args:
        torch: The package `torch`.
        problem: The problem.
        memory_format: PyTorch's name of the memory format.
    """

    def __init__(self, torch: Any, problem: Problem, memory_format: str) -> None:
        self._torch = torch
        self._format = getattr(torch, memory_format)
        self._forward = forward(torch, problem)
        self._weights: Any = None
        self._x: Any = None
        self._y: Any = None

    def __call__(self) -> None:
        """Convolve into a new output."""
        self._y = None  # lets the allocator reuse its memory for the next output
        self._y = self._forward(self._x, self._weights)

    def _in_format(self, tensor: Any) -> Any:
        """Convert a tensor to the memory format; copies only if necessary."""
        return tensor.contiguous(memory_format=self._format)

    def _release(self) -> None:
        """Drop all tensors."""
        self._x = self._y = self._weights = None
