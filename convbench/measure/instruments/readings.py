"""What is measured, what is read right before and right after a sample, and what becomes of the readings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.executors.cluster import Times
from convbench.kernels.clock import read_ticks
from convbench.measure import counters
from convbench.plans import DistributedPlan, PeerPlan, Plan

Arrays = tuple[Any, Any]
"""Input and output, 4-D."""


@dataclass(frozen=True)
class Reading:
    """What is read right before and right after a sample.

    Attributes:
        counters: What the system counts, see `counters.read`.
        seconds: The time on the host's clock.
        ticks: The time on the processor's clock.
        stage_ticks: Ticks that a worker has spent in each stage so far.
        levels: A GPU's clocks, temperature and power after the sample, see `gpu.Nvml.levels`.
        workers: After a sample on a cluster, the times of its calls by worker, see `executors.cluster.Times`.
    """

    counters: dict[str, float]
    seconds: float
    ticks: int
    stage_ticks: NDArray[np.float64]
    levels: dict[str, Any] = field(default_factory=dict)
    workers: Times = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """What is measured: a plan with its arrays, on the CPUs that the process is pinned to.

    Attributes:
        plan: What is called.
        arrays: What it is called with.
        cpus: The cell's.
        evict: Empties the caches before a sample; None where they stay as the call before left them.
    """

    plan: Plan | PeerPlan | DistributedPlan
    arrays: Arrays
    cpus: Sequence[int]
    evict: Callable[[], object] | None = None

    @property
    def call(self) -> Callable[[], object]:
        """What is timed."""
        return self.plan.timed(*self.arrays)


@dataclass(frozen=True)
class Samples:
    """What `timing.take_samples` returns, together.

    Attributes:
        seconds: Of one call, for each sample.
        loops: How many calls each sample is the mean of.
        observed: The readings before and after each sample.
    """

    seconds: list[float]
    loops: int
    observed: list[tuple[Reading, Reading]]

    @property
    def counters(self) -> list[dict[str, float]]:
        """What was counted during each sample."""
        return [counters.since(before.counters, after.counters) for before, after in self.observed]

    @property
    def levels(self) -> list[dict[str, Any]]:
        """A GPU's levels after each sample; empty ones for the host."""
        return [after.levels for _, after in self.observed]


def read_before(subject: Subject, also: Callable[[], dict[str, float]] = dict) -> Reading:
    """Read counters and clocks right before a sample: the slowest first, so that the time between is the sample's.

    Args:
        subject: What is about to be sampled.
        also: Reads further counters.
    """
    plan = subject.plan
    counted = counters.read(plan.pids, subject.cpus) | also()
    used = counters.times(plan.pids)
    return Reading({**counted, **used}, time.perf_counter(), read_ticks(), plan.stage_ticks())


def read_after(
    subject: Subject, also: Callable[[], tuple[dict[str, float], dict[str, Any]]] = lambda: ({}, {})
) -> Reading:
    """Read clocks and counters right after a sample: the slowest last.

    Args:
        subject: What was sampled.
        also: Reads further counters, and levels.
    """
    plan = subject.plan
    seconds, ticks, stages = time.perf_counter(), read_ticks(), plan.stage_ticks()
    used = counters.times(plan.pids)
    counted, levels = also()
    return Reading({**counters.read(plan.pids, subject.cpus), **counted, **used}, seconds, ticks, stages, levels)
