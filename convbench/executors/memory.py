"""Page-aligned arrays in private memory, and in shared memory that other processes can map without a copy.

Both request huge pages, because the first access to 462 MB in pages of 4 KiB takes a second. Shared memory is
anonymous: its file descriptor is passed to the processes that need it, and the system frees it when the last of them
has ended, normally or not.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import mmap
import os
import select
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.integers import round_up

_HUGE_PAGE: Final = 2 * 2**20
DESCRIPTORS: Final = 2  # file descriptors of a segment; `mmap` duplicates the one it is given
# An epoll object can own any descriptor and closes it silently; a file object would emit a ResourceWarning.
_OWNER: Final[Callable[[int], Any]] = select.epoll.fromfd if hasattr(select, "epoll") else io.FileIO


class Segment(mmap.mmap):
    """A segment of shared memory: its number, its address in this process, and its file descriptor.

    When its last array is deallocated, the interpreter releases mapping and descriptor without running Python code, so
    that no signal handler can run in between and no exception of one is lost in a finalizer.
    """

    number: int
    address: int
    owner: Any

    @property
    def fd(self) -> int:
        """The file descriptor."""
        return int(self.owner.fileno())


_segments: dict[int, weakref.ref[Segment]] = {}
_numbers = itertools.count()


def private_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Allocate a page-aligned array of undefined content, in huge pages where the system has them.

    Raises:
        MemoryError: Out of memory.
    """
    size = _size(shape, dtype)
    if size >= _HUGE_PAGE:
        return _as_array(_advised(_private_mapping(size)), shape, dtype)
    block = np.empty(size + mmap.PAGESIZE, np.uint8)
    return np.ndarray(shape, dtype, block, -_address(block) % mmap.PAGESIZE)


def shared_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Allocate a page-aligned array in shared memory; `locate` returns its place for another process."""
    size = max(_size(shape, dtype), mmap.PAGESIZE)
    owner = _anonymous_file()
    os.ftruncate(owner.fileno(), size)
    segment = Segment(owner.fileno(), size)
    segment.owner, segment.number = owner, next(_numbers)
    array = _as_array(_advised(segment), shape, dtype)
    segment.address = _address(array)
    for number, known in list(_segments.items()):
        if known() is None:
            _segments.pop(number, None)
    _segments[segment.number] = weakref.ref(segment)
    return array


def shared_together(*wanted: tuple[tuple[int, ...], str]) -> list[NDArray[Any]]:
    """Allocate arrays of given shapes and dtypes in one shared segment, each page-aligned."""
    sizes = [_size(shape, dtype) for shape, dtype in wanted]
    begins = [0, *itertools.accumulate(round_up(size, mmap.PAGESIZE) for size in sizes)]
    block = shared_empty((begins[-1],), "uint8")
    return [
        block[begin : begin + size].view(dtype).reshape(shape)
        for (shape, dtype), size, begin in zip(wanted, sizes, begins, strict=False)
    ]


def shared_copies(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Copy arrays into one shared segment, each page-aligned."""
    copies = shared_together(*((array.shape, array.dtype.name) for array in arrays))
    for copy, array in zip(copies, arrays, strict=True):
        copy[...] = array
    return copies


def map_shared(fd: int) -> mmap.mmap:
    """Map a segment of another process, including its page table entries, so that no call incurs page faults later.

    The descriptor may be closed afterwards.
    """
    mapping = _advised(mmap.mmap(fd, os.fstat(fd).st_size))
    np.frombuffer(mapping, np.uint8)[:: mmap.PAGESIZE].max()  # reading a page creates its page table entry
    return mapping


def view(mapping: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array at `offset` bytes in a mapping."""
    return np.frombuffer(mapping, dtype, _size(shape, "uint8"), offset).reshape(shape)


def locate(array: NDArray[Any]) -> tuple[Segment, int] | None:
    """The segment that contains an array, and the offset in bytes; None where its memory is not shared."""
    address = _address(array)
    for segment in _mapped_segments():
        if segment.address <= address and address + array.nbytes <= segment.address + len(segment):
            return segment, address - segment.address
    return None


def descriptors_left() -> bool:
    """Whether another segment may be allocated: segments use at most half of the files that this process may open."""
    try:
        import resource
    except ImportError:  # a system without such a limit
        return True
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or DESCRIPTORS * len(_mapped_segments()) < most / 2


def live_segments() -> frozenset[int]:
    """Numbers of the segments that still contain an array."""
    return frozenset(segment.number for segment in _mapped_segments())


def _mapped_segments() -> list[Segment]:
    """Segments that are still mapped; one that is being deallocated does not count."""
    return [segment for known in list(_segments.values()) if (segment := known()) is not None]


def _size(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _as_array(mapping: mmap.mmap, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return view(mapping, 0, shape, dtype)


def _private_mapping(size: int) -> mmap.mmap:
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    try:
        return mmap.mmap(-1, size, **flags)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes cannot be had ({error})") from None


def _advised(mapping: mmap.mmap) -> mmap.mmap:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without transparent huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _anonymous_file() -> Any:
    """An anonymous file, in memory where the system has such files; returns the object that owns its descriptor.

    The owner takes the descriptor without running Python code in between, in which a signal handler might raise.
    """
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile()
    return next(map(_OWNER, map(os.memfd_create, ("convbench",))))
