"""Pinning a cell to its CPUs, and reading back what is really in force."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def pin(cpus: Iterable[int], pids: Iterable[int] = ()) -> bool:
    """Pin every thread of this process, and of the processes `pids`, to the CPUs; False where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    wanted = set(cpus)
    done = True
    for thread in _threads(pids):
        try:
            os.sched_setaffinity(thread, wanted)
        except ProcessLookupError:  # it has just ended
            continue
        except OSError:
            done = False
    return done


def threading_layer() -> str | None:
    """What Numba's pool of threads stands on; None if no pool has been started."""
    import numba

    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def affinity(pids: Iterable[int] = ()) -> list[int] | None:
    """The CPUs that all those threads may run on, together; None where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cpus: set[int] = set()
    for thread in _threads(pids):
        with contextlib.suppress(OSError):
            cpus |= os.sched_getaffinity(thread)
    return sorted(cpus)


def _threads(pids: Iterable[int]) -> list[int]:
    """Every thread of this process and of others; only their first ones where the system does not list them."""
    threads = []
    for pid in (os.getpid(), *pids):
        try:
            threads += [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            threads.append(pid)
    return threads
