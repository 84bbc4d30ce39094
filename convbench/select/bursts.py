"""Bursts of calls, and whether threads of this process waited for a processor meanwhile."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BURST_SECONDS: Final = 3e-3
BURST_CALLS: Final = 5  # a call that waits for a processor is rarely followed by four more
LONG_BURST: Final = 0.04  # seconds after which a burst of fewer calls ends
MOST_CALLS: Final = 200  # of a burst
WAITED: Final = 0.02  # of a burst's time: the threads that wait for a processor were in each other's way, or in others'
TASKS: Final = Path("/proc/self/task")


@dataclass(frozen=True)
class Burst:
    """Seconds of the fastest call, and whether threads waited for a processor meanwhile."""

    seconds: float
    disturbed: bool


def fastest_of_burst(call: Any) -> Burst:
    """Call a few times."""
    clock = time.perf_counter
    waited = _waited()
    begin = last = clock()
    best = float("inf")
    for number in range(1, MOST_CALLS + 1):
        call()
        now = clock()
        best = min(best, now - last)
        last = now
        if now - begin > (BURST_SECONDS if number >= BURST_CALLS else LONG_BURST):
            break
    return Burst(best, _waited() - waited > WAITED * (last - begin))


def _waited() -> float:
    """Seconds that this process's threads have waited for a processor so far; 0 where the system does not count them.

    The second number of schedstat, see Documentation/scheduler/sched-stats.rst of Linux.
    """
    try:
        tasks = list(TASKS.iterdir())
    except OSError:
        return 0.0
    total = 0
    for task in tasks:
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended since, or no such counter
            total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9
