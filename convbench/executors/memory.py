"""Page-aligned arrays in private memory, and in shared memory that other processes can map without a copy.

Both are in huge pages where the system allows it, because the first access to 462 MB in pages of 4 KiB takes a second,
and filling it later a third longer than in huge ones. Shared memory is anonymous: its file descriptor is passed to the
processes that need it, and the system frees it when the last of them has ended, normally or not.

Most systems give huge pages to private memory on request, and none to shared memory. Since Linux 6.1 a process may
collapse pages into huge ones all the same (`into_huge_pages`). A mapping has these as such only where its address and
its offset into the file agree modulo the size of a huge page. So the file of a large array begins with a hole, and each
process chooses where in the hole its own mapping begins, see `_mapped`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import mmap
import os
import select
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from convbench.integers import round_up

_HUGE_PAGE: Final = 2 * 2**20
_COLLAPSE: Final = 25  # MADV_COLLAPSE of Linux; Python's mmap has no name for it
_PIECE: Final = 16 * _HUGE_PAGE  # bytes that are collapsed at a time
_TRIES: Final = 4  # mappings of a segment until one is where its pages may be huge
DESCRIPTORS: Final = 2  # file descriptors of a segment; `mmap` duplicates the one it is given
# An epoll object can own any descriptor and closes it silently; a file object would emit a ResourceWarning.
_OWNER: Final[Callable[[int], Any]] = select.epoll.fromfd if hasattr(select, "epoll") else io.FileIO


class Segment(mmap.mmap):
    """A segment of shared memory.

    When its last array is deallocated, the interpreter releases mapping and descriptor without running Python code, so
    that no signal handler can run in between and no exception of one is lost in a finalizer.

    Attributes:
        number: Identifies it in this process.
        address: Address of its data in this process.
        begin: Position of the data in the mapping, in bytes.
        nbytes: Bytes of data.
        owner: Owns the file descriptor.
        collapsed: Whether `into_huge_pages` has had it.
    """

    number: int
    address: int
    begin: int
    nbytes: int
    owner: Any
    collapsed: bool = False

    @property
    def fd(self) -> int:
        """The file descriptor."""
        return int(self.owner.fileno())


_segments: dict[int, weakref.ref[Segment]] = {}
_numbers = itertools.count()
M = TypeVar("M", bound=mmap.mmap)


def private_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Allocate a page-aligned array of undefined content, in huge pages where the system has them.

    Raises:
        MemoryError: Out of memory.
    """
    size = _size(shape, dtype)
    if size >= _HUGE_PAGE:
        return view(_advised(_private_mapping(size)), 0, shape, dtype)
    block = np.empty(size + mmap.PAGESIZE, np.uint8)
    return np.ndarray(shape, dtype, block, -_address(block) % mmap.PAGESIZE)


def shared_empty(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Allocate a page-aligned array in shared memory; `locate` returns its place for another process."""
    size = max(_size(shape, dtype), mmap.PAGESIZE)
    owner = _anonymous_file()
    os.ftruncate(owner.fileno(), size + 2 * _hole(size))
    segment, begin = _mapped(Segment, owner.fileno(), size)
    segment.owner, segment.number, segment.begin, segment.nbytes = owner, next(_numbers), begin, size
    array = view(_advised(segment), begin, shape, dtype)
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


def into_huge_pages(segment: Segment) -> None:
    """Collapse the pages of a segment into huge ones, once; their content and their node stay.

    Where the system does not (another than Linux, before 6.1, denied, or out of free huge pages) nothing happens. Pages
    that were not touched before are now.
    """
    whole = segment.nbytes // _HUGE_PAGE * _HUGE_PAGE
    if segment.collapsed or not whole or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        for begin in range(segment.begin, segment.begin + whole, _PIECE):  # other threads, and signals, in between
            piece = min(_PIECE, segment.begin + whole - begin)
            view(segment, begin, (piece,), "uint8")[::_HUGE_PAGE].max()  # where there is no page, none is collapsed
            segment.madvise(_COLLAPSE, begin, piece)
    segment.collapsed = True


def map_shared(fd: int) -> memoryview:
    """Map the data of another process's segment, with page table entries, so that no call incurs page faults later.

    The descriptor may be closed afterwards.
    """
    size = os.fstat(fd).st_size
    if size > 2 * _HUGE_PAGE:
        size -= 2 * _HUGE_PAGE
    mapping, begin = _mapped(mmap.mmap, fd, size)
    data = memoryview(_advised(mapping))[begin : begin + size]
    np.frombuffer(data, np.uint8)[:: mmap.PAGESIZE].max()  # reading a page creates its page table entry
    return data


def view(mapping: mmap.mmap | memoryview, offset: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array at `offset` bytes in a mapping."""
    return np.frombuffer(mapping, dtype, _size(shape, "uint8"), offset).reshape(shape)


def locate(array: NDArray[Any]) -> tuple[Segment, int] | None:
    """The segment that contains an array, and the offset in bytes; None where its memory is not shared."""
    address = _address(array)
    for segment in _mapped_segments():
        if segment.address <= address and address + array.nbytes <= segment.address + segment.nbytes:
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


def _hole(size: int) -> int:
    """Bytes of the hole before the data of a segment of `size` bytes, and as many are behind it."""
    return _HUGE_PAGE if size >= _HUGE_PAGE else 0


def _mapped(kind: type[M], fd: int, size: int) -> tuple[M, int]:
    """Map the file of a segment of `size` bytes; returns the mapping, and where in it the data begin.

    Large data begin at a multiple of the size of a huge page in memory, as they do in the file: a mapping from the
    middle of the hole on, as the address of another one of the same length suggests, which the system mostly repeats.
    """
    hole = _hole(size)
    mapping, offset = kind(fd, size + hole), 0
    for _ in range(_TRIES if hole else 0):
        wanted = _address(view(mapping, 0, (1,), "uint8")) % hole
        if offset == wanted:
            break
        del mapping  # so that the next one has its place
        mapping, offset = kind(fd, size + hole, offset=wanted), wanted
    return mapping, hole - offset


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
