"""PyTorch: `conv2d` in inference mode, on tensors in either memory format.

It makes a new output at every call. Left alone, the system takes the old one's memory back and hands out fresh pages
at every call, which costs more than the convolution; so the C library is told to keep memory, as PyTorch's guides
advise.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from convbench.peers import LIBRARY, missing
from convbench.precision import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem

_TRIM_THRESHOLD: Final = -1  # mallopt's names for what it can be told (malloc.h)
_MMAP_MAX: Final = -4
_KEEP: Final = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_USUAL: Final = {_TRIM_THRESHOLD: 2**17, _MMAP_MAX: 2**16}


@dataclass(frozen=True)
class Torch:
    """PyTorch's CPU kernels (oneDNN) with tensors in one memory format."""

    memory_format: str
    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Is an extra of its own, for its size."""
        return missing("torch", extra="torch")

    def supports(self, problem: Problem) -> str | None:
        """Forward."""
        return None if problem.direction == "forward" else f"has no {problem.direction} form here"

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Set the number of threads, and turn the weights into a tensor."""
        return _Layer(problem, weights, cores, self.memory_format)


class _Layer:
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int, memory_format: str) -> None:
        import torch

        _tell_malloc(_KEEP)
        torch.set_num_threads(cores)
        self._torch = torch
        self._format = getattr(torch, memory_format)
        self._weights: Any = torch.from_numpy(weights).contiguous(memory_format=self._format)
        self._forward = forward(torch, problem)
        self._x: Any = None
        self._y: Any = None

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:  # it has no use for our output
        """Turn the input into a tensor of the memory format."""
        self._x = self._torch.from_numpy(x).contiguous(memory_format=self._format)

    def __call__(self) -> None:
        self._y = None  # so that its memory serves the next
        self._y = self._forward(self._x, self._weights)

    def result(self) -> NDArray[Any]:
        """The tensor's memory as an array."""
        array: NDArray[Any] = self._y.numpy()
        return array

    def threads(self) -> int:
        """What PyTorch says."""
        return int(self._torch.get_num_threads())

    def close(self) -> None:
        """Give back tensors, and let the C library do as it usually does."""
        self._x = self._y = self._weights = None
        _tell_malloc(_USUAL)


def forward(torch: Any, problem: Problem) -> Callable[[Any, Any], Any]:
    """What convolves a tensor with another in inference mode; uneven padding, which `conv2d` has not, comes first."""
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


def _tell_malloc(settings: dict[int, int]) -> None:
    """Set what the C library's allocator does, where it is one that can be told."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for name, value in settings.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)


CONTIGUOUS = Torch("contiguous_format")
CHANNELS_LAST = Torch("channels_last")
