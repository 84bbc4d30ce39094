"""Emptying the caches between samples."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from convbench import machine

LEAST = 2**26  # bytes, where the system does not tell how large its caches are


class Eviction:
    """Fills every cache of some CPUs with something else.

    Args:
        cpus: The CPUs; the calling thread visits each, since each may have caches of its own.
    """

    def __init__(self, cpus: Sequence[int]) -> None:
        largest = max((cache["bytes"] for cache in machine.caches()), default=0)
        self._cpus = cpus
        self._buffer = np.ones(max(LEAST, 2 * largest) // 8)

    def __call__(self) -> None:
        """Do it; the thread is back on its own CPUs afterwards."""
        if not hasattr(os, "sched_setaffinity"):
            self._touch()
            return
        before = os.sched_getaffinity(0)
        try:
            for cpu in self._cpus:
                os.sched_setaffinity(0, {cpu})
                self._touch()
        finally:
            os.sched_setaffinity(0, before)

    def _touch(self) -> None:
        self._buffer[::8] += 1  # a number in each cache line
