"""Eviction of the caches between samples, by reading: dirty lines would be written back while the next call runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from convbench import machine

LEAST: Final = 2**26  # bytes, where the system does not say how large its caches are
IN_A_LINE: Final = 8  # float64 in a cache line: one of them is read


class Eviction:
    """Fills every cache of some CPUs with clean lines of another buffer.

    Args:
        cpus: The CPUs; the calling thread visits each, since each may have caches of its own.
    """

    def __init__(self, cpus: Sequence[int]) -> None:
        largest = max((cache["bytes"] for cache in machine.caches(cpus)), default=0)
        self._cpus = cpus
        # Written once: pages that are only read may all be mapped to one page of zeros, which fills no cache.
        self._buffer = np.ones(max(LEAST, 2 * largest) // np.dtype(np.float64).itemsize)
        self._buffer.flags.writeable = False

    def __call__(self) -> None:
        """Evict; the thread is back on its own CPUs afterwards."""
        if not hasattr(os, "sched_setaffinity"):
            self._read()
            return
        before = os.sched_getaffinity(0)
        try:
            for cpu in self._cpus:
                os.sched_setaffinity(0, {cpu})
                self._read()
        finally:
            os.sched_setaffinity(0, before)

    def _read(self) -> float:
        return float(self._buffer[::IN_A_LINE].sum())
