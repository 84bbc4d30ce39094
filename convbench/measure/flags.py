"""Flags that say why a cell's samples may not be trusted: pure functions of counters and of what was read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from convbench.machine import gpu

FAULTS_IN_A_SAMPLE: Final = 64  # page faults; more, and the sample paid for memory being touched the first time
STOLEN_SHARE: Final = 0.01  # of the time; more, and a neighbour on the host was felt
FIRST_SAMPLE: Final = 1.1  # times as long as any other, and it paid for something that is done once
STARVED_SHARE: Final = 0.2  # of the cores' time that was not spent computing
TICK: Final = 0.02  # seconds by which the system's count of a pool's CPU time may be off
SWITCHES_PER_SECOND: Final = 50  # involuntary; more, and something else wanted the same cores


def raised(flags: Mapping[str, bool]) -> tuple[str, ...]:
    """The names of the flags that are raised."""
    return tuple(flag for flag, is_raised in flags.items() if is_raised)


def not_as_asked(worker: Mapping[str, Any], cpus: Iterable[int], cores: int, *, pinned: bool) -> dict[str, bool]:
    """Whether affinity and thread counts differ from what a cell asked for.

    Args:
        worker: What was read back after the samples, as in `Record.worker`; None is what cannot be read.
        cpus: The CPUs that the cell was pinned to.
        cores: How many it asked for, which may be more.
        pinned: Whether the system took the pinning.
    """
    threads = (worker["threads"], worker["library_threads"])
    return {
        "unpinned": not pinned or worker["affinity"] not in (None, sorted(cpus)),
        "threads_differ": not set(threads) <= {None, cores} or worker["blas_threads"] not in (None, 1),
    }


def disturbances(counted: Mapping[str, float], samples: int, cores: int) -> dict[str, bool]:
    """Flags that counters of so many samples raise; `cores` is how many should have been busy."""
    seconds = counted["elapsed_seconds"]
    faults = counted.get("minor_faults", 0) > FAULTS_IN_A_SAMPLE * samples or counted.get("major_faults", 0) > 0
    return {
        "page_faults": faults,
        "late_setup": counted.get("compilations", 0) > 0 or counted.get("threads", 0) > 0,
        "steal": counted.get("steal_seconds", 0) > STOLEN_SHARE * seconds * max(1, cores),
        "preempted": _by_others(counted) > max(1, SWITCHES_PER_SECOND * seconds * max(1, cores)),
        "throttled": counted.get("throttled_seconds", 0) > STOLEN_SHARE * seconds,
        "starved": counted.get("cpu_seconds", seconds * cores) < (1 - STARVED_SHARE) * seconds * cores - TICK,
    }


def _by_others(counted: Mapping[str, float]) -> float:
    """A lower bound of how often threads of other programs took a CPU from the cell's.

    A thread that takes a CPU from another thread of the same cell has just woken, so it gave one up before. Workers
    that share a CPU with the thread that waits for them, and Python's threads, do so at every call.
    """
    return max(0, counted.get("involuntary_switches", 0) - counted.get("voluntary_switches", 0))


def lowered_clocks(counted: Mapping[str, float], levels: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Flags of a GPU that lowered its clocks while it computed; none where NVML reports nothing of it."""
    reasons = {reason for level in levels for reason in level.get("reasons", ())}
    enough = STOLEN_SHARE * counted["elapsed_seconds"]
    seen = {
        "throttled": bool(reasons & gpu.SLOWED) or counted.get("heat_seconds", 0) > enough,
        "power_capped": bool(reasons & gpu.CAPPED) or counted.get("power_capped_seconds", 0) > enough,
    }
    return {flag: True for flag, is_raised in seen.items() if is_raised}
