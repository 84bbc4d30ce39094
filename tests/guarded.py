"""Arrays between two pages that the process may not touch, one of which begins right where the array ends."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
NO_ACCESS = 0
READ_ONLY = 1
CANARY = 0xA5  # in what is left of the pages in between


class Guarded:
    """Memory for one array, of undefined content.

    Args:
        shape: Of the array.
        dtype: Of the array.
        in_front: Whether the array begins right behind the first page without access; otherwise it ends right before
            the second.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, *, in_front: bool = False) -> None:
        size, page = int(np.prod(shape)) * np.dtype(dtype).itemsize, mmap.PAGESIZE
        self._size = max(1, -(-size // page)) * page
        memory = mmap.mmap(-1, self._size + 2 * page)
        every = np.frombuffer(memory, np.uint8)
        every.fill(CANARY)
        inside = every[page : page + self._size]
        self._begin = inside.ctypes.data
        self._slack = inside[size:] if in_front else inside[: self._size - size]
        own = inside[:size] if in_front else inside[self._size - size :]
        self.array: np.ndarray = own.view(dtype).reshape(shape)
        self._protect(self._begin - page, page, NO_ACCESS)
        self._protect(self._begin + self._size, page, NO_ACCESS)

    @classmethod
    def copy(cls, array: np.ndarray, *, in_front: bool = False) -> Guarded:
        """A copy of an array, which cannot be written to."""
        guarded = cls(array.shape, array.dtype, in_front=in_front)
        guarded.array[...] = array
        guarded._protect(guarded._begin, guarded._size, READ_ONLY)
        return guarded

    @property
    def intact(self) -> bool:
        """Whether nothing was written beside the array, as far as there is something between it and a page's end."""
        return bool((self._slack == CANARY).all())

    def _protect(self, begin: int, size: int, access: int) -> None:
        if _LIBC.mprotect(begin, size, access):
            raise OSError(ctypes.get_errno(), "mprotect")


def fill(
    work: Any, x: np.ndarray, shape: tuple[int, ...], *, in_front: bool, cut: Callable[[int], list[tuple[int, int]]]
) -> np.ndarray:
    """The output of a work, every array guarded, and what is not given full of NaN.

    Args:
        work: What is done.
        x: Its input.
        shape: Of its output.
        in_front: See `Guarded`.
        cut: Makes ranges, in any order, of the number of a phase's units.

    Raises:
        AssertionError: Something beside an array was written to, or an output was not.
    """
    from convbench.kernels.clock import STAGES

    dtype = work.dtype.name
    given = [Guarded.copy(array, in_front=in_front) for array in (x, work.weights)]
    sizes = (shape, (max(1, work.workspace_size),), (max(1, work.scratch_size),))
    made = [Guarded(size, dtype, in_front=in_front) for size in sizes]
    x, weights = (guarded.array for guarded in given)
    out, workspace, scratch = (guarded.array for guarded in made)
    for array in (out, workspace, scratch):
        array.fill(np.nan)
    for phase in work.phases:
        tile = phase.tile.load(dtype)
        parameters = Guarded.copy(phase.parameters, in_front=in_front)
        for first, last in cut(phase.units):
            tile(x, weights, out, parameters.array, workspace, scratch, np.zeros(STAGES, np.int64), first, last)
    assert all(guarded.intact for guarded in made), "a tile must keep to its arrays"
    return out
