"""Streams of CUDA's: which queue a stream is, and whether a graph is captured from it."""

from __future__ import annotations

import threading
from typing import Any, Final

from convbench.errors import RequestError, first_line

LEGACY: Final = (0, 1)  # pointers of the default stream that all threads share, which nobody can capture
PER_THREAD: Final = 2  # the pointer of every thread's own default stream

Queue = tuple[int, int]


def queue_of(stream: Any) -> Queue:
    """What tells a stream from all others: its pointer, and the thread's ID where each thread has a stream with it."""
    pointer = stream.ptr
    return (pointer, threading.get_ident() if pointer == PER_THREAD else 0)


def is_captured(stream: Any) -> bool:
    """Whether calls on a stream become part of a graph, and run whenever it is launched.

    Raises:
        RequestError: The capture failed, and has yet to be ended.
    """
    if stream.ptr in LEGACY:
        return False
    try:
        return bool(stream.is_capturing())
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # CuPy's CUDARuntimeError: the GPU is lost
            raise
        raise RequestError(f"the capture of a graph failed on this stream ({first_line(error)}); end it") from error
