"""Arrays on page boundaries: private ones, and ones that other processes can map without a copy.

Both ask for huge pages, because touching 462 MB for the first time in pages of 4 KiB takes a second. Shared memory has
no name: it is a file descriptor that is passed to the processes that need it, and the system takes it back when the
last of them is gone, however they end.
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
DESCRIPTORS: Final = 2  # that a segment takes: `mmap` has one of its own
# An object for epoll owns any descriptor, and closes it without a word, where a file's would complain.
_OWNER: Final[Callable[[int], Any]] = select.epoll.fromfd if hasattr(select, "epoll") else io.FileIO


class Segment(mmap.mmap):
    """A stretch of shared memory: what tells it apart, where it is mapped here, and what others map it by.

    When its last array is gone, the interpreter gives back mapping and descriptor without any of Python's code, so that
    no signal handler can come between, and no exception of one is lost in a finalizer.
    """

    number: int
    address: int
    owner: Any

    @property
    def fd(self) -> int:
        """The descriptor."""
        return int(self.owner.fileno())


_segments: dict[int, weakref.ref[Segment]] = {}
_numbers = itertools.count()


def private_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An array of undefined content that starts on a page boundary, in huge pages where the system has them.

    Raises:
        MemoryError: There is none.
    """
    size = _size(shape, dtype)
    if size >= _HUGE_PAGE:
        return _as_array(_advised(_private_mapping(size)), shape, dtype)
    block = np.empty(size + mmap.PAGESIZE, np.uint8)
    begin = -_address(block) % mmap.PAGESIZE
    return block[begin : begin + size].view(dtype).reshape(shape)


def shared_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The same in shared memory; `locate` tells another process where."""
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
    """Arrays of these shapes and dtypes in one stretch of shared memory, each on a page boundary."""
    sizes = [_size(shape, dtype) for shape, dtype in wanted]
    begins = [0, *itertools.accumulate(round_up(size, mmap.PAGESIZE) for size in sizes)]
    block = shared_empty((begins[-1],), "uint8")
    return [
        block[begin : begin + size].view(dtype).reshape(shape)
        for (shape, dtype), size, begin in zip(wanted, sizes, begins, strict=False)
    ]


def shared_copies(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Copies of arrays in one stretch of shared memory, each on a page boundary."""
    copies = shared_together(*((array.shape, array.dtype.name) for array in arrays))
    for copy, array in zip(copies, arrays, strict=True):
        copy[...] = array
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
    for segment in _living():
        if segment.address <= address and address + array.nbytes <= segment.address + len(segment):
            return segment, address - segment.address
    return None


def descriptors_left() -> bool:
    """Whether arrays may still have a segment each: of the files that this process may open, half are for others."""
    try:
        import resource
    except ImportError:  # where there is no such limit
        return True
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most == resource.RLIM_INFINITY or DESCRIPTORS * len(_living()) < most / 2


def live_segments() -> frozenset[int]:
    """The numbers of the segments that still hold an array."""
    return frozenset(segment.number for segment in _living())


def _living() -> list[Segment]:
    """The segments; one whose addresses are being given back is none any more."""
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
    """A file without a name, as an object that owns its descriptor: in memory where the system has such files.

    From the descriptor to its owner no step is Python's, between which a signal handler might raise.
    """
    if not hasattr(os, "memfd_create"):
        return tempfile.TemporaryFile()
    return next(map(_OWNER, map(os.memfd_create, ("convbench",))))
