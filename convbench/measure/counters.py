"""Counters of the system around samples. A counter that the system does not keep is left out, never zero."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
from numba.core import event

from convbench.machine.cgroup import throttled_seconds

_PROC = Path("/proc")
SWITCHES: Final = {
    "involuntary_switches": re.compile(r"^nonvoluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE),
    "voluntary_switches": re.compile(r"^voluntary_ctxt_switches:\s*(\d+)$", re.MULTILINE),
}


class Compilations(event.Listener):  # type: ignore[misc]  # numba's types stop half-way
    """Counts compilations that Numba begins."""

    def __init__(self) -> None:
        self.begun = 0

    def on_start(self, event: event.Event) -> None:  # noqa: ARG002
        """Count it."""
        self.begun += 1

    def on_end(self, event: event.Event) -> None:
        """Do nothing: it was counted when it began."""


class Switches:
    """Sums of the involuntary and voluntary context switches of every thread of some processes.

    The system counts both by thread, and forgets a thread's counts when it ends. So what each count has grown by since
    it was last read is added to a sum that stays.
    """

    def __init__(self) -> None:
        self._sums = dict.fromkeys(SWITCHES, 0)
        self._seen: dict[tuple[int, int, str], int] = {}  # (process, thread, kind): its count when it was last read
        self._lock = threading.Lock()

    def totals(self, pids: Iterable[int]) -> dict[str, int]:
        """The sums so far, over the processes of this and of earlier calls; empty where the system does not count."""
        with self._lock:
            counts = dict(count for pid in pids for count in _counts_of_threads(pid))
            for key, count in counts.items():
                before = self._seen.get(key, 0)
                self._sums[key[2]] += count - before if count >= before else count  # a later thread of the same number
            self._seen = counts
            return dict(self._sums) if counts else {}


def _counts_of_threads(pid: int) -> Iterator[tuple[tuple[int, int, str], int]]:
    """The context switches of each thread of a process, by kind."""
    try:
        entries = sorted((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            thread, text = int(entry.name), (entry / "status").read_text()
            for kind, pattern in SWITCHES.items():
                if match := pattern.search(text):
                    yield (pid, thread, kind), int(match[1])


_switches = Switches()
_compilations = Compilations()
event.register("numba:compile", _compilations)


def read(pids: Sequence[int], cpus: Iterable[int]) -> dict[str, float]:
    """The counters of this process and of the processes `pids`, now.

    Returns:
        compilations: How many Numba has begun in this process.
        threads: Of the processes.
        minor_faults, major_faults: Page faults of the processes, without and with reading from a disk.
        involuntary_switches: How often any thread of the processes was taken off a CPU; it never goes down.
        voluntary_switches: How often any of them gave a CPU up, to wait for something; it never goes down either.
        throttled_seconds: CPU time that control groups' quotas held back.
        steal_seconds: Time of the CPUs that the hypervisor gave to others.
        pressure_seconds: Time in which some task of the system waited for a CPU.
    """
    counters: dict[str, float] = {}
    counters["compilations"] = _compilations.begun
    counters |= _switches.totals((os.getpid(), *pids))
    if (throttled := throttled_seconds()) is not None:
        counters["throttled_seconds"] = throttled
    with contextlib.suppress(OSError, ValueError, IndexError):
        for pid in (os.getpid(), *pids):
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            _add(counters, "minor_faults", int(fields[7]))
            _add(counters, "major_faults", int(fields[9]))
            _add(counters, "threads", int(fields[17]))
    with contextlib.suppress(OSError, ValueError, IndexError):
        names = {f"cpu{cpu}" for cpu in cpus}
        for line in (_PROC / "stat").read_text().splitlines():
            name, *ticks = line.split()
            if name in names:
                _add(counters, "steal_seconds", int(ticks[7]) / os.sysconf("SC_CLK_TCK"))
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = (_PROC / "pressure/cpu").read_text().splitlines()[0]
        counters["pressure_seconds"] = int(line.rpartition("total=")[2]) / 1e6
    return counters


def times(pids: Sequence[int]) -> dict[str, float]:
    """The time, as "elapsed_seconds", and the user and system time of this process and of `pids`, as "cpu_seconds"."""
    counters = {"cpu_seconds": time.process_time()}
    with contextlib.suppress(psutil.Error, OSError):
        for process in map(psutil.Process, pids):
            used = process.cpu_times()
            _add(counters, "cpu_seconds", used.user + used.system)
    return {"elapsed_seconds": time.perf_counter(), **counters}


def since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The increase of each counter from one reading to the next."""
    return {name: after[name] - before[name] for name in before if name in after}


def total(readings: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sum of several increases."""
    counters: dict[str, float] = {}
    for reading in readings:
        for name, amount in reading.items():
            _add(counters, name, amount)
    return counters


def _add(counters: dict[str, float], name: str, amount: float) -> None:
    counters[name] = counters.get(name, 0) + amount
