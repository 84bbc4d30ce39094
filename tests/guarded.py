"""Arrays that end where the process may no longer read: the next byte is on a page without access."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
NO_ACCESS = 0


def guarded(shape: tuple[int, ...], dtype: Any, *, in_front: bool = False) -> np.ndarray:
    """An array of undefined content with a page behind it, or in front of it, that must not be touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    page = mmap.PAGESIZE
    pages = -(-size // page) * page
    memory = mmap.mmap(-1, pages + page)
    begin = np.frombuffer(memory, np.uint8).ctypes.data
    if _LIBC.mprotect(begin if in_front else begin + pages, page, NO_ACCESS):
        raise OSError(ctypes.get_errno(), "mprotect")
    return np.frombuffer(memory, dtype, int(np.prod(shape)), page if in_front else pages - size).reshape(shape)


def guarded_copy(array: np.ndarray, *, in_front: bool = False) -> np.ndarray:
    """A copy of an array there."""
    copy = guarded(array.shape, array.dtype, in_front=in_front)
    copy[...] = array
    return copy
