"""Arrays on page boundaries: private ones, and ones that other processes can map without a copy.

Both ask for huge pages, because touching 462 MB for the first time in pages of 4 KiB takes a second. Shared memory has
no name: it is a file descriptor that is passed to the processes that need it, and the system takes it back when the
last of them is gone, however they end.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_HUGE_PAGE: Final = 2 * 2**20


@dataclass(frozen=True)
class Segment:
    """A stretch of shared memory: what tells it apart, where it is mapped here, and what others map it by."""

    number: int
    address: int
    size: int
    fd: int


_live: dict[int, Segment] = {}
_numbers = itertools.count()


def private_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An array of undefined content that starts on a page boundary, in huge pages where the system has them."""
    size = _size(shape, dtype)
    if size >= _HUGE_PAGE:
        return _as_array(_advised(_private_mapping(size)), shape, dtype)
    block = np.empty(size + mmap.PAGESIZE, np.uint8)
    begin = -_address(block) % mmap.PAGESIZE
    return block[begin : begin + size].view(dtype).reshape(shape)


def shared_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The same in shared memory; `locate` tells another process where."""
    size = max(_size(shape, dtype), mmap.PAGESIZE)
    fd = _anonymous_file(size)
    try:
        mapping = _SharedMapping(fd, size)
    except OSError:
        os.close(fd)
        raise
    array = _as_array(_advised(mapping), shape, dtype)
    mapping.number = next(_numbers)
    _live[mapping.number] = Segment(mapping.number, _address(array), size, fd)
    return array


class _SharedMapping(mmap.mmap):
    """A mapping that is forgotten before its addresses are free for another, which a weak reference tells too late."""

    number = -1

    def __del__(self, live: dict[int, Segment] = _live, close: Callable[[int], None] = os.close) -> None:
        if (segment := live.pop(self.number, None)) is not None:
            close(segment.fd)


def shared_copies(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Copies of arrays in one stretch of shared memory, each on a page boundary."""
    begins = [0, *itertools.accumulate(-(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE for array in arrays)]
    block = shared_empty((begins[-1],), "uint8")
    copies = []
    for array, begin in zip(arrays, begins, strict=False):
        copy = block[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        copies.append(copy)
    return copies


def map_shared(fd: int) -> mmap.mmap:
    """Map a segment that another process made, every page of it, so that no call pays for that later.

    The descriptor may be closed afterwards.
    """
    mapping = _advised(mmap.mmap(fd, os.fstat(fd).st_size))
    np.frombuffer(mapping, np.uint8)[:: mmap.PAGESIZE].max()  # a page table entry is made when its page is read
    return mapping


def view(mapping: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array that begins `offset` bytes into a mapping."""
    return np.frombuffer(mapping, dtype, _size(shape, "uint8"), offset).reshape(shape)


def locate(array: NDArray[Any]) -> tuple[Segment, int] | None:
    """The segment that an array lies in, and how many bytes into it; None where its memory is not shared."""
    address = _address(array)
    for segment in list(_live.values()):
        if segment.address <= address and address + array.nbytes <= segment.address + segment.size:
            return segment, address - segment.address
    return None


def live_segments() -> frozenset[int]:
    """The numbers of the segments that still hold an array."""
    return frozenset(list(_live))


def _size(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _as_array(mapping: mmap.mmap, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return view(mapping, 0, shape, dtype)


def _private_mapping(size: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


def _advised(mapping: mmap.mmap) -> mmap.mmap:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without transparent huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _anonymous_file(size: int) -> int:
    """A file without a name: in memory where the system has such files, otherwise in the temporary directory."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("convbench", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd
