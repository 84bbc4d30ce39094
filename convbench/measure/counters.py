"""What the system counts while samples are taken. A counter that it does not keep is left out, never zero."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from numba.core import event

from convbench.cgroup import throttled_seconds

_PROC = Path("/proc")


class Compilations(event.Listener):  # type: ignore[misc]  # numba's types stop half-way
    """Counts what Numba begins to compile."""

    def __init__(self) -> None:
        self.begun = 0

    def on_start(self, event: event.Event) -> None:  # noqa: ARG002
        """One more."""
        self.begun += 1

    def on_end(self, event: event.Event) -> None:
        """It was counted when it began."""


_compilations = Compilations()
event.register("numba:compile", _compilations)


def read(pids: Sequence[int], cpus: Iterable[int]) -> dict[str, float]:
    """The counters of this process and of the processes `pids`, now.

    Returns:
        compilations: How many Numba has begun in this process.
        threads: Of the processes.
        minor_faults, major_faults: Page faults of the processes, without and with reading from a disk.
        involuntary_switches: How often the processes were taken off a CPU.
        throttled_seconds: CPU time that control groups' quotas held back.
        steal_seconds: Time of the CPUs that the hypervisor gave to others.
        pressure_seconds: Time in which some task of the system waited for a CPU.
    """
    counters: dict[str, float] = {}
    counters["compilations"] = _compilations.begun
    with contextlib.suppress(psutil.Error, OSError):
        for process in (psutil.Process(), *map(psutil.Process, pids)):
            _add(counters, "involuntary_switches", process.num_ctx_switches().involuntary)
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
    """How far each counter went from one reading to the next."""
    return {name: after[name] - before[name] for name in before if name in after}


def total(readings: Iterable[dict[str, float]]) -> dict[str, float]:
    """The sum of several stretches."""
    counters: dict[str, float] = {}
    for reading in readings:
        for name, amount in reading.items():
            _add(counters, name, amount)
    return counters


def _add(counters: dict[str, float], name: str, amount: float) -> None:
    counters[name] = counters.get(name, 0) + amount
