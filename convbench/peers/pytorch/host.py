"""PyTorch on the host: `conv2d` in inference mode, on tensors in either memory format.

Every call makes a new output. By default, the C library returns the old output's memory to the system and maps new
pages at every call, which takes longer than the convolution. The C library is therefore set to keep freed memory, as
PyTorch's guides advise.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from convbench.peers import LIBRARY, missing
from convbench.peers.pytorch.layer import Layer, supports
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem

_TRIM_THRESHOLD: Final = -1  # parameters of mallopt (malloc.h)
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
        """Needs PyTorch, which has its own extra because of its size."""
        return missing("torch", extra="torch")

    def supports(self, problem: Problem) -> str | None:
        """Supports the forward direction."""
        return supports(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Set the number of threads, and convert the weights to a tensor."""
        return _HostLayer(problem, weights, cores, self.memory_format)


class _HostLayer(Layer):
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int, memory_format: str) -> None:
        import torch

        _tell_malloc(_KEEP)
        torch.set_num_threads(cores)
        super().__init__(torch, problem, memory_format)
        self._weights = self._in_format(torch.from_numpy(weights))

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:  # PyTorch makes its own output
        """Convert the input to a tensor of the memory format."""
        self._x = self._in_format(self._torch.from_numpy(x))

    def result(self) -> NDArray[Any]:
        """The output tensor as an array, without a copy."""
        array: NDArray[Any] = self._y.numpy()
        return array

    def threads(self) -> int:
        """Number of threads according to PyTorch."""
        return int(self._torch.get_num_threads())

    def close(self) -> None:
        """Drop all tensors, and restore the C library's default settings."""
        self._release()
        _tell_malloc(_USUAL)


def _tell_malloc(settings: dict[int, int]) -> None:
    """Change settings of the C library's allocator, if it supports `mallopt`."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for name, value in settings.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)


CONTIGUOUS = Torch("contiguous_format")
CHANNELS_LAST = Torch("channels_last")
