"""One cell in one run: bind, check, warm up, sample, count."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from convbench import machine
from convbench.executors import EXECUTORS, GpuExecutor, gpu_executor
from convbench.executors.memory import private_empty, shared_empty
from convbench.executors.threads import start_pool
from convbench.kernels.clock import read_ticks
from convbench.machine import gpu
from convbench.measure import counters, flags
from convbench.measure.affinity import affinity, library_threads, pin, threading_layer
from convbench.measure.caches import Eviction
from convbench.measure.peaks import calibration_kernel
from convbench.measure.placement import Nodes, nodes_of, place, placement
from convbench.measure.reference import Reference
from convbench.measure.spec import Spec
from convbench.measure.timing import seconds, take_samples, wake, warm_up
from convbench.plans import PeerPlan, Plan, bind, memory
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.results.record import DRIFT, Cell, Record

LONGEST_REASON: Final = 500  # characters of a line; compilers say more
TRANSFERS: Final = 5  # in each direction


@dataclass(frozen=True)
class Reading:
    """What is read right before and right after a sample.

    Attributes:
        counters: What the system counts, see `counters.read`.
        seconds: The time.
        ticks: The same on the processor's clock.
        stage_ticks: What of it a worker spent in each stage.
        levels: What a device told after the sample, see `gpu.Nvml.levels`.
    """

    counters: dict[str, float]
    seconds: float
    ticks: int
    stage_ticks: NDArray[np.float64]
    levels: dict[str, Any] = field(default_factory=dict)


class Bench:
    """What the cells of one problem share in one process: data, reference, and one pair of arrays.

    The output exists once, and every executor of the sweep writes to the same one, so that none is helped or hindered
    by where it lies: in shared memory if any of them needs that, and on several nodes of memory as `place` says. Only a
    device has arrays of its own.
    """

    def __init__(self, spec: Spec, descriptor: str, nodes: Nodes) -> None:
        self._nodes = nodes
        self.problem = Problem.parse(descriptor)
        self.x, self.weights = spec.data(self.problem)
        self.reference = Reference(self.problem, self.x, self.weights, spec.seed)
        self._common = "shared" if any(memory(name) == "shared" for name in spec.executors) else "private"
        self._arrays: dict[str, tuple[Any, Any]] = {}

    def arrays(self, plan: Plan | PeerPlan) -> tuple[Any, Any]:
        """Input and output, touched, the output filled with NaN."""
        executor = plan.candidate.executor
        kind = "gpu" if gpu_executor(executor) else self._common
        if kind not in self._arrays:
            empty = {"shared": shared_empty, "private": private_empty}.get(kind) or EXECUTORS[executor].empty
            shapes = (self.problem.input_shape, self.problem.output_shape)
            x, out = (empty(shape, self.problem.dtype) for shape in shapes)
            if kind == "gpu":
                EXECUTORS[executor].upload(self.x, x)
            else:
                place(x, self._nodes)
                place(out, self._nodes)
                x[:] = self.x
            self._arrays[kind] = (x, out)
        x, out = self._arrays[kind]
        out.fill(np.nan)
        return x, out


class Laboratory:
    """Measures cells, one after the other, in this process."""

    def __init__(self, spec: Spec, run: int, metadata: Mapping[str, Any]) -> None:
        self._spec = spec
        self._run = run
        self._cpus = machine.allowed_cpus()  # before any cell is pinned to some of them
        self._nodes = nodes_of(self._cpus)
        self._placement = placement(self._nodes)
        self._usable = machine.usable_cores()
        self._metadata = metadata
        self._bench: Bench | None = None
        self._calibrate = calibration_kernel()
        self._calibration = math.inf  # seconds of the fastest of this run
        self.usable = True
        """False once a device has failed so that no cell of this process could use it again."""
        read_ticks()  # compiled now
        start_pool()  # before any peer brings threads of its own

    def measure(self, order: int, cell: Cell) -> Record:
        """Measure a cell; whatever goes wrong is a record too."""
        try:
            unsupported_reason = self._spec.candidate(cell).unsupported_reason(Problem.parse(cell[0]))
            outcome: dict[str, Any] = (
                {"status": "skipped", "reason": unsupported_reason} if unsupported_reason else self._measure(cell)
            )
        except Exception as error:  # noqa: BLE001  # one bad cell must not cost the sweep
            of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # CuPy's
            kind = "out of memory" if of_memory else type(error).__name__
            outcome = {"status": "failed", "reason": f"{kind}: {' '.join(str(error).split())[:LONGEST_REASON]}"}
            on_device = gpu_executor(cell[2])
            self.usable = on_device is None or on_device.usable()
        return self._spec.record(self._run, order, cell, **outcome)

    def _measure(self, cell: Cell) -> dict[str, Any]:
        cpus = self._cpus[: cell[3]]
        pin(cpus)
        bench = self._bench_for(cell[0])
        with (
            bind(bench.problem, bench.weights, self._spec.candidate(cell)) as plan,
            threadpoolctl.threadpool_limits(1, "blas"),
        ):
            x, out = bench.arrays(plan)
            begin = time.perf_counter()
            plan(x, out)
            check = bench.reference.check(plan.result(out), plan.precision)
            setup = {**plan.setup, "check": time.perf_counter() - begin}
            if not check["passed"]:
                return {"status": "failed", "reason": _wrong(check), "check": check, "setup": setup}
            pinned = pin(cpus, plan.pids)  # once more: by now every pool has its threads
            return {
                "status": "ok",
                "check": check,
                "setup": setup,
                **self._sample(plan, x, out, cpus, pinned=pinned),
            }

    def _sample(
        self, plan: Plan | PeerPlan, x: NDArray[Any], out: NDArray[Any], cpus: list[int], *, pinned: bool
    ) -> dict[str, Any]:
        calibration = min(seconds(self._calibrate, 1) for _ in range(3))
        self._calibration = min(calibration, self._calibration)
        call = partial(plan, x, out)
        on_device = gpu_executor(plan.candidate.executor)
        clock = on_device.seconds if on_device else seconds
        evict = (on_device.evict() if on_device else Eviction(cpus)) if self._spec.cache == "cold" else None
        told_by = gpu.nvml() if on_device else None
        if told_by is not None:
            told_by.levels()  # once before it counts: what it loads is there then
        if on_device:
            wake(call, self._spec.timing, clock)
        warmups, settled = warm_up(call, self._spec.timing, clock)
        samples, loops, observed = take_samples(
            call,
            self._spec.timing,
            warmups,
            prepare=evict,
            observe=(partial(_before, plan, cpus, told_by), partial(_after, plan, cpus, told_by)),
            clock=clock,
        )
        counted = [counters.since(before.counters, after.counters) for before, after in observed]
        if on_device:
            if evict is not None:
                evict()
            shares = plan.stage_shares(x, out)
            inside = [[share * sample for share in shares] for sample in samples]
        else:
            inside = [_stage_seconds(before, after, loops) for before, after in observed]
        worker = self._read_back(plan, cpus)
        cores = plan.candidate.cores
        busy = min(cores, self._usable)
        watched = 0 if on_device else busy  # while a device computes, the host has nothing to do but wait
        told = [after.levels for _, after in observed]
        each = [
            flags.disturbances(count, 1, watched) | flags.lowered_clocks(count, [levels])
            for count, levels in zip(counted, told, strict=True)
        ]
        known = {
            "oversubscribed": cores > self._usable,
            **flags.not_as_asked(worker, cpus, cores, pinned=pinned),
            "unsettled": not settled,
            "first_sample": len(samples) > 1 and samples[0] > flags.FIRST_SAMPLE * max(samples[1:]),
            plan.precision.name: plan.precision is not EXACT,
            "thread_variables": bool(machine.thread_variables()),
            "drift": calibration > DRIFT * self._calibration,
            **(
                flags.disturbances(counters.total(counted), len(samples), watched)
                | flags.lowered_clocks(counters.total(counted), told)
            ),
        }
        return {
            "samples": tuple(samples),
            "loops": loops,
            "warmups": tuple(warmups),
            "counters": counters.total(counted),
            "sample_counters": tuple(counted),
            "device": tuple(told) if any(told) else (),
            "stages": {name: tuple(seconds[place] for seconds in inside) for place, name in enumerate(plan.stages)},
            "transfers": _transfers(on_device, call, x, out) if on_device else {},
            "calibration": calibration,
            "flags": flags.raised(known),
            "sample_flags": tuple(flags.raised(one) for one in each),
            "worker": worker,
        }

    def _read_back(self, plan: Plan | PeerPlan, cpus: list[int]) -> dict[str, Any]:
        """The process that measured; clocks, affinity and thread counts that were in force; where arrays lie."""
        clocks = machine.clocks(cpus)  # first, while they are as the samples left them
        pools = threadpoolctl.threadpool_info()
        return {
            **({"mhz": clocks} if clocks else {}),
            **({"placement": self._placement} if self._placement and not gpu_executor(plan.candidate.executor) else {}),
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
            self._bench = Bench(self._spec, descriptor, self._nodes)
        return self._bench


def _before(plan: Plan | PeerPlan, cpus: list[int], told_by: gpu.Nvml | None) -> Reading:
    """What is slow to read first, so that the time between the readings is the sample's."""
    counted = counters.read(plan.pids, cpus) | (told_by.counts() if told_by else {})
    used = counters.times(plan.pids)
    return Reading({**counted, **used}, time.perf_counter(), read_ticks(), plan.stage_ticks())


def _after(plan: Plan | PeerPlan, cpus: list[int], told_by: gpu.Nvml | None) -> Reading:
    """The same in the opposite order, and what a device tells while it is still as the sample left it."""
    seconds, ticks, stages = time.perf_counter(), read_ticks(), plan.stage_ticks()
    used = counters.times(plan.pids)
    counted, levels = (told_by.counts(), told_by.levels()) if told_by else ({}, {})
    return Reading({**counters.read(plan.pids, cpus), **counted, **used}, seconds, ticks, stages, levels)


def _stage_seconds(before: Reading, after: Reading, loops: int) -> list[float]:
    """Seconds of one call that a worker spent in each stage; zeros where the processor has no clock to read."""
    ticks = after.ticks - before.ticks
    tick = (after.seconds - before.seconds) / ticks if ticks else 0.0
    return [float(spent) for spent in (after.stage_ticks - before.stage_ticks) * tick / loops]


def _transfers(executor: GpuExecutor, compute: Callable[[], object], x: Any, out: Any) -> dict[str, tuple[float, ...]]:
    """Seconds to bring the input to the device, the output back to memory that is there already, and of all of it."""
    source, target = executor.download(x), executor.download(out)
    upload, download = partial(executor.upload, source, x), partial(executor.download, out, target)

    def end_to_end() -> None:
        upload()
        compute()
        download()

    calls: dict[str, Callable[[], object]] = {
        "host to device": upload,
        "device to host": download,
        "end to end": end_to_end,
    }
    for call in calls.values():
        call()
    return {name: tuple(seconds(call, 1) for _ in range(TRANSFERS)) for name, call in calls.items()}


def _wrong(check: Mapping[str, Any]) -> str:
    error = check["max_relative_error"]
    found = "holds NaN or infinity" if error is None else f"is off by {error:.1e} of the largest"
    return f"the output {found}; {check['tolerance']:.0e} is allowed"
