"""One cell in one run: bind, check, warm up, sample, count."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import threadpoolctl

from convbench import machine
from convbench.arguments import written_size
from convbench.executors import EXECUTORS, gpu_executor
from convbench.executors.cluster import REPLACED
from convbench.executors.threads import start_pool
from convbench.kernels.clock import read_ticks
from convbench.measure import counters, flags
from convbench.measure.affinity import affinity, library_threads, pin, threading_layer
from convbench.measure.instruments import Instrument
from convbench.measure.instruments.cluster import ClusterInstrument
from convbench.measure.instruments.gpu import GpuInstrument
from convbench.measure.instruments.host import HostInstrument
from convbench.measure.instruments.readings import Arrays, Samples, Subject
from convbench.measure.outcome import counted_of, kind, variant
from convbench.measure.peaks import calibration_kernel
from convbench.measure.placement import nodes_of
from convbench.measure.reference import Reference
from convbench.measure.resident import Peak
from convbench.measure.spec import Spec
from convbench.measure.timing import seconds, take_samples, warm_up
from convbench.plans import bind, memory
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.results.record import DRIFT, Cell, Record

LONGEST_REASON: Final = 500  # characters of a line; compilers say more


class Bench:
    """What the cells of one problem share in one process: data, reference, and one pair of arrays for each instrument.

    The output exists once on the host, and every executor there writes to the same one, so that none is helped or
    hindered by where it lies.
    """

    def __init__(self, spec: Spec, descriptor: str) -> None:
        self.problem = Problem.parse(descriptor)
        self.x, self.weights = spec.data(self.problem)
        self.reference = Reference(self.problem, self.x, self.weights, spec.seed)
        self._arrays: dict[Instrument, Arrays] = {}

    def arrays(self, instrument: Instrument) -> Arrays:
        """Input and output, touched, the output filled with NaN."""
        home = instrument.home
        if home not in self._arrays:
            self._arrays[home] = home.arrays(self.problem, self.x)
        x, out = self._arrays[home]
        out.fill(np.nan)
        return x, out


class Laboratory:
    """Measures cells, one after the other, in this process."""

    def __init__(self, spec: Spec, run: int, metadata: Mapping[str, Any]) -> None:
        self._spec = spec
        self._run = run
        self._cpus = machine.allowed_cpus()  # before any cell is pinned to some of them
        self._usable = machine.usable_cores()
        self._metadata = metadata
        shared = any(memory(name) == "shared" for name in spec.executors)
        self._host = HostInstrument("shared" if shared else "private", nodes_of(self._cpus))
        self._gpus: dict[str, GpuInstrument] = {}
        self._cluster = ClusterInstrument(self._host)
        self._bench: Bench | None = None
        self._calibrate = calibration_kernel()
        self._calibration = math.inf  # seconds of the fastest of this run
        self.usable = True
        """False once a GPU has failed so that no cell of this process could use it again."""
        read_ticks()  # compiled now
        start_pool()  # before any peer brings threads of its own

    def measure(self, order: int, cell: Cell) -> Record:
        """Measure a cell; whatever goes wrong is a record too."""
        try:
            outcome: dict[str, Any] = self._skipped(cell) or self._measure(cell)
        except Exception as error:  # noqa: BLE001  # one bad cell must not cost the sweep
            of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # CuPy's
            what = "out of memory" if of_memory else type(error).__name__
            outcome = {"status": "failed", "reason": f"{what}: {' '.join(str(error).split())[:LONGEST_REASON]}"}
            self.usable = self._instrument(cell[2]).usable()
        return self._spec.record(self._run, order, cell, **kind(cell), **outcome)

    def _skipped(self, cell: Cell) -> dict[str, Any]:
        """The outcome of a cell that is not measured here; empty for one that is."""
        candidate, problem = self._spec.candidate(cell), Problem.parse(cell[0])
        if (reason := candidate.unsupported_reason(problem)) is not None:
            return {"status": "skipped", "reason": reason}
        limit = self._spec.memory_limit
        if limit is None or kind(cell)["peer"] or (needed := candidate.memory(problem)) <= limit:
            return {}
        reason = f"needs {written_size(needed)} of memory, more than memory_limit={written_size(limit)}"
        return {"status": "skipped", "reason": reason, "memory": {"needed": needed}}

    def _measure(self, cell: Cell) -> dict[str, Any]:
        candidate, instrument = self._spec.candidate(cell), self._instrument(cell[2])
        cpus = self._cpus[: candidate.threads]
        pin(instrument.room(cpus, self._cpus))
        bench = self._bench_for(cell[0])
        peak = Peak()
        with (
            bind(bench.problem, bench.weights, candidate) as plan,
            threadpoolctl.threadpool_limits(1, "blas"),
        ):
            subject = Subject(plan, bench.arrays(instrument), cpus)
            begin = time.perf_counter()
            subject.call()
            counted = counted_of(plan, peak)
            check = bench.reference.check(plan.result(subject.arrays[1]), plan.precision)
            outcome = {
                "check": check,
                "setup": {**plan.setup, "check": time.perf_counter() - begin},
                "variant": variant(plan),
                **counted,
            }
            if not check["passed"]:
                return {**outcome, **_wrong(check)}
            pinned = pin(cpus, plan.pids)  # once more: by now every pool has its threads
            outcome |= self._sample(subject, instrument, pinned=pinned)
            if outcome["cluster"].get("replaced"):
                outcome["flags"] = (*outcome["flags"], REPLACED)
                outcome["check"] = check = bench.reference.check(plan.result(subject.arrays[1]), plan.precision)
            return {"status": "ok", **outcome, **({} if check["passed"] else _wrong(check))}

    def _sample(self, subject: Subject, instrument: Instrument, *, pinned: bool) -> dict[str, Any]:
        calibration = min(seconds(self._calibrate, 1) for _ in range(3))
        self._calibration = min(calibration, self._calibration)
        if self._spec.cache == "cold":
            subject = dataclasses.replace(subject, evict=instrument.eviction(subject.cpus))
        instrument.wake(subject, self._spec.timing)
        warmups, settled = warm_up(subject.call, self._spec.timing, instrument.seconds)
        samples = Samples(
            *take_samples(
                subject.call,
                self._spec.timing,
                warmups,
                prepare=subject.evict,
                observe=(partial(instrument.before, subject), partial(instrument.after, subject)),
                clock=instrument.seconds,
            )
        )
        stages = instrument.stage_seconds(subject, samples)
        worker = self._read_back(subject, instrument)
        drifted = calibration > DRIFT * self._calibration
        raised = self._flags(subject, instrument, samples, worker, pinned=pinned, settled=settled, drifted=drifted)
        transfers = instrument.transfers(subject)
        return {
            "samples": tuple(samples.seconds),
            "loops": samples.loops,
            "warmups": tuple(warmups),
            "counters": counters.total(samples.counters),
            "sample_counters": tuple(samples.counters),
            "device": tuple(samples.levels) if any(samples.levels) else (),
            "stages": {name: tuple(one[place] for one in stages) for place, name in enumerate(subject.plan.stages)},
            "transfers": transfers,
            "cluster": instrument.cluster(subject, samples),
            "calibration": calibration,
            **raised,
            "worker": worker,
        }

    def _flags(
        self,
        subject: Subject,
        instrument: Instrument,
        samples: Samples,
        worker: Mapping[str, Any],
        *,
        pinned: bool,
        settled: bool,
        drifted: bool,
    ) -> dict[str, Any]:
        """The flags of a cell, and of each of its samples alone."""
        plan, cores = subject.plan, subject.plan.candidate.cores
        busy = min(cores, self._usable)
        counted, levels, times = samples.counters, samples.levels, samples.seconds
        found = {
            "oversubscribed": instrument.oversubscribed(subject, self._usable),
            **flags.not_as_asked(worker, subject.cpus, cores, pinned=pinned),
            "unsettled": not settled,
            "first_sample": len(times) > 1 and times[0] > flags.FIRST_SAMPLE * max(times[1:]),
            plan.precision.name: plan.precision is not EXACT,
            "thread_variables": bool(machine.thread_variables()),
            "drift": drifted,
            **instrument.disturbances(counters.total(counted), levels, busy),
        }
        each = [instrument.disturbances(count, [level], busy) for count, level in zip(counted, levels, strict=True)]
        return {"flags": flags.raised(found), "sample_flags": tuple(map(flags.raised, each))}

    def _instrument(self, executor: str) -> Instrument:
        """What an executor's cells are measured with."""
        if executor in EXECUTORS and EXECUTORS[executor].distributes:
            return self._cluster
        on_gpu = gpu_executor(executor)
        return self._host if on_gpu is None else self._gpus.setdefault(executor, GpuInstrument(on_gpu))

    def _read_back(self, subject: Subject, instrument: Instrument) -> dict[str, Any]:
        """The process that measured; clocks, affinity and thread counts that were in force; where arrays lie."""
        plan = subject.plan
        clocks = machine.clocks(subject.cpus)  # first, while they are as the samples left them
        pools = threadpoolctl.threadpool_info()
        return {
            **({"mhz": clocks} if clocks else {}),
            **({"placement": instrument.placement} if instrument.placement else {}),
            "pid": os.getpid(),
            "pool": list(plan.pids),
            "affinity": affinity(plan.pids),
            "threads": plan.threads(),
            "scratch_bytes": plan.scratch_bytes,
            "threading_layer": threading_layer(),
            "blas_threads": max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=None),
            "openmp_threads": max(
                (pool["num_threads"] for pool in pools if pool["user_api"] == "openmp"), default=None
            ),
            "library_threads": library_threads(pools, plan.candidate.algorithm),
            "metadata": self._metadata,
        }

    def _bench_for(self, descriptor: str) -> Bench:
        if self._bench is None or str(self._bench.problem) != descriptor:
            self._bench = None  # its arrays go before the next ones come
            self._bench = Bench(self._spec, descriptor)
        return self._bench


def _wrong(check: Mapping[str, Any]) -> dict[str, str]:
    error = check["max_relative_error"]
    found = "holds NaN or infinity" if error is None else f"is off by {error:.1e} of the largest"
    return {"status": "failed", "reason": f"the output {found}; {check['tolerance']:.0e} is allowed"}
