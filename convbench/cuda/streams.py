"""Streams of CUDA's: which queue a stream is, and whether a graph is captured from it."""

from __future__ import annotations

import threading
from typing import Any, Final

LEGACY: Final = (0, 1)  # pointers of the default stream that all threads share, which nobody can capture
PER_THREAD: Final = 2  # the pointer of every thread's own default stream

Queue = tuple[int, int]


def queue_of(stream: Any) -> Queue:
    """What tells a stream from all others: its pointer, and the thread's ID where each thread has a stream with it."""
    pointer = stream.ptr
    return (pointer, threading.get_ident() if pointer == PER_THREAD else 0)


def is_captured(stream: Any) -> bool:
    """Whether calls on a stream become part of a graph, and run whenever it is launched."""
    return stream.ptr not in LEGACY and bool(stream.is_capturing())
