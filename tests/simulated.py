"""An executor whose calls take as long as a test says, on a machine whose clocks go as far as calls take.

What is measured on it is known beforehand, so that the chain from a call to a report can be asked for the very
numbers, at once, and however busy the real machine is. Outputs are computed, since they are checked.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convbench import machine
from convbench.executors import EXECUTORS
from convbench.executors.serial import SERIAL, Serial
from convbench.kernels.clock import STAGES
from convbench.kernels.tile import Work
from convbench.measure import cell, counters, sweep
from convbench.measure.instruments import host
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.registry import Entry
from convbench.report.write import write_report
from convbench.results.record import Record
from convbench.results.store import Sweep

TICKS_PER_SECOND = 3e9
SMALL = "mb1ic1ih12iw14oc4kh3kw3"  # a problem that takes no time to compute
CALIBRATION = 0.001  # seconds of the fixed piece of work that cells begin with


class Machine:
    """Clocks and counters that go on with what is spent and stand still otherwise.

    Attributes:
        cores: How many the process may use.
        now: The time in seconds.
        cpu_seconds: CPU time of the process so far.
        counters: What the system has counted so far, see `counters.read`.
        share: Of the cores that are given work, how much time they spend on it; the rest goes to other programs.
        rates: By how much each counter grows in a second of work.
        speed: How fast it computes; 1 is as fast as laws say.
        cold: Whether the caches were emptied since the last call.
        evictions: How often they were.
    """

    def __init__(self, cores: int = 8) -> None:
        self.cores = cores
        self.now = self.cpu_seconds = 0.0
        self.counters: dict[str, float] = {
            "compilations": 0,
            "threads": 0,
            "minor_faults": 0,
            "involuntary_switches": 0,
        }
        self.share = self.speed = 1.0
        self.rates: dict[str, float] = {}
        self.cold = False
        self.evictions = 0

    def spend(self, seconds: float, cores: int = 1) -> None:
        """Let a piece of work be done that takes so many seconds of so many cores at full speed."""
        seconds /= self.speed
        self.now += seconds
        self.cpu_seconds += self.share * min(cores, self.cores) * seconds
        for name, rate in self.rates.items():
            self.counters[name] = self.counters.get(name, 0) + rate * seconds

    def evict(self) -> None:
        """Empty the caches."""
        self.cold = True
        self.evictions += 1

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have everything that measures look at this machine's clocks, counters and cores."""
        ours = {
            "perf_counter": lambda: self.now,
            "monotonic": lambda: self.now,
            "process_time": lambda: self.cpu_seconds,
            "read_ticks": lambda: round(self.now * TICKS_PER_SECOND),
        }
        for name, clock in ours.items():
            if hasattr(time, name):
                monkeypatch.setattr(time, name, clock)
            for module in [module for key, module in sys.modules.items() if key.startswith("convbench.measure.")]:
                if name in vars(module):
                    monkeypatch.setattr(module, name, clock)
        pinned: list[int] = []
        monkeypatch.setattr(cell, "pin", lambda cpus, _pids=(): not pinned.__setitem__(slice(None), cpus))
        monkeypatch.setattr(cell, "affinity", lambda _pids=(): list(pinned))
        monkeypatch.setattr(cell, "calibration_kernel", lambda: partial(self.spend, CALIBRATION))
        monkeypatch.setattr(host, "Eviction", lambda _cpus: self.evict)
        monkeypatch.setattr(machine, "allowed_cpus", lambda: list(range(self.cores)))
        monkeypatch.setattr(machine, "usable_cores", lambda: self.cores)
        monkeypatch.setattr(counters, "read", lambda _pids, _cpus: dict(self.counters))


class Simulated(Serial):
    """Computes in the calling thread, and lets the simulated time pass that a law says.

    Attributes:
        machine: Whose clocks go on.
        law: Seconds of a call on so many cores.
        stages: What share of a call each of the work's stages takes; those that are not told take none.
    """

    scales = True

    def __init__(self) -> None:
        self.machine = Machine()
        self.law: Callable[[int], float] = lambda cores: 0.02 / cores
        self.stages: Sequence[float] = ()

    def open(self, work: Work, cores: int) -> SimulatedRunner:
        """Ready to compute, on any number of cores."""
        return SimulatedRunner(self, work, cores)


class SimulatedRunner:
    """See `Simulated`."""

    pids = ()

    def __init__(self, executor: Simulated, work: Work, cores: int) -> None:
        self._compute = SERIAL.open(work, 1)
        self._executor = executor
        self._cores = cores
        self.setup = {"compile": 0.0}
        self.clock = np.zeros((cores, STAGES), np.int64)

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        self._compute(x, out)
        seconds = self._executor.law(self._cores)
        for stage, share in enumerate(self._executor.stages):
            self.clock[:, stage] += round(share * seconds / self._executor.machine.speed * TICKS_PER_SECOND)
        self._executor.machine.spend(seconds, self._cores)
        self._executor.machine.cold = False

    def threads(self) -> int:
        return self._cores

    def close(self) -> None:
        self._compute.close()


SIMULATED = Simulated()


class WorkerHere:
    """What a worker process does, cell by cell in this one, so that it sees the simulated machine."""

    def __init__(self, job: Mapping[str, Any], *_: Any, **__: Any) -> None:
        job = json.loads(json.dumps(job))
        self._laboratory = cell.Laboratory(Spec.from_json(job["spec"]), job["run"], {})
        self._left = list(job["cells"])

    @classmethod
    def peaks(cls, *_: Any, **__: Any) -> dict[str, Any]:
        return {"reason": "a simulated machine has no limits"}

    def next_line(self, _limit: float) -> bytes | None:
        if not self._left:
            return None
        order, name = self._left.pop(0)
        return self._laboratory.measure(order, tuple(name)).to_json().encode()

    def stop(self) -> None:
        self._left.clear()


def install(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """The executor `simulated`, listed for one test as any other, with a machine of its own that sweeps measure on."""
    executor = Simulated()
    entry = Entry("simulated", f"{__name__}:SIMULATED", "calls that take as long as a test says")
    monkeypatch.setattr(sys.modules[__name__], "SIMULATED", executor)
    monkeypatch.setattr(EXECUTORS, "entries", (*EXECUTORS.entries, entry))
    monkeypatch.setitem(EXECUTORS._entry_of, entry.name, entry)
    monkeypatch.setattr(sweep, "WorkerProcess", WorkerHere)
    executor.machine.install(monkeypatch)
    return executor


@dataclasses.dataclass(frozen=True)
class Found:
    """A sweep that was measured."""

    sweep: Sweep

    @property
    def records(self) -> tuple[Record, ...]:
        return self.sweep.records

    def report(self) -> str:
        """Its report, as text."""
        return self._report

    @functools.cached_property
    def _report(self) -> str:
        write_report(self.sweep, self.sweep.directory)
        return (self.sweep.directory / "report.md").read_text()


def measure(directory: Path, **request: object) -> Found:
    """Measure one algorithm on the simulated machine.

    Args:
        directory: Where to.
        request: Arguments for `make_spec`.
    """
    words = {"algorithms": ("naive",), "executors": ("simulated",), "cores": (1,), "runs": 1, **request}
    spec = dataclasses.replace(make_spec([SMALL], **words), timing=Timing(peak_repetitions=0))
    return Found(sweep.run_sweep(spec, directory))
