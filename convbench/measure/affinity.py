"""Pinning of a cell to its CPUs, and the affinity and threads that are in force afterwards."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convbench.peers import PEERS


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
    """The threading layer of Numba's pool; None if no pool has been started."""
    import numba

    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def library_threads(pools: Iterable[Mapping[str, Any]], algorithm: str) -> int | None:
    """The number of threads in the OpenMP pool that a measured library brought.

    Other pools say nothing of what computes: Numba tells OpenMP for each call how many threads to take, and pools of
    libraries that are not measured are idle.

    Args:
        pools: As threadpoolctl lists them.
        algorithm: Name of the library as a peer.

    Returns:
        The number; None where the algorithm is ours, or the library has no such pool.
    """
    if algorithm not in PEERS:
        return None
    package = algorithm.partition("-")[0]
    counts = [
        int(pool["num_threads"])
        for pool in pools
        if pool["user_api"] == "openmp" and any(_is_of(package, part) for part in Path(pool["filepath"]).parts[:-1])
    ]
    return max(counts, default=None)


def _is_of(package: str, folder: str) -> bool:
    """Whether a folder belongs to a package, as "torch", "torch.libs" and "opencv_python_headless.libs" are."""
    return re.split(r"[._-]", folder)[0].lower() == package


def affinity(pids: Iterable[int] = ()) -> list[int] | None:
    """The union of the CPUs that those threads may run on; None where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cpus: set[int] = set()
    for thread in _threads(pids):
        with contextlib.suppress(OSError):
            cpus |= os.sched_getaffinity(thread)
    return sorted(cpus)


def _threads(pids: Iterable[int]) -> list[int]:
    """Every thread of this process and of others; only main threads where the system does not list them."""
    threads = []
    for pid in (os.getpid(), *pids):
        try:
            threads += [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            threads.append(pid)
    return threads
