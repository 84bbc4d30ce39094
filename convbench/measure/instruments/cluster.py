"""Workers on a cluster as they are measured: by the clock of the process that leads them, and each by its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from convbench.measure import flags
from convbench.measure.instruments.host import HostInstrument
from convbench.measure.instruments.readings import Arrays, Reading, Samples, Subject, read_after, read_before
from convbench.measure.spec import Timing
from convbench.measure.timing import seconds
from convbench.plans import DistributedPlan

TRANSFERS: Final = 3  # of each kind


class ClusterInstrument:
    """Measures what workers on a cluster compute.

    Args:
        host: The instrument of the process that distributes and gathers, whose arrays are used.
    """

    placement = None

    def __init__(self, host: HostInstrument) -> None:
        self.home = host

    def room(self, cpus: Sequence[int], allowed: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """All: what is started then serves cells on more CPUs, too."""
        return allowed

    def arrays(self, problem: Any, x: Any) -> Arrays:
        """Those of the host."""
        return self.home.arrays(problem, x)

    def eviction(self, cpus: Sequence[int]) -> Callable[[], object]:
        """Read a large buffer on each of the CPUs, which evicts the caches of workers on this machine."""
        return self.home.eviction(cpus)

    def wake(self, subject: Subject, timing: Timing) -> None:
        """As on the host."""
        self.home.wake(subject, timing)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """By the clock of the process that leads."""
        return seconds(call, loops)

    def before(self, subject: Subject) -> Reading:
        """What the system counts for this process and the workers that it started; the workers are awake then."""
        plan = _plan(subject)
        plan.drain()
        reading = read_before(subject)
        plan.ready()
        return reading

    def after(self, subject: Subject) -> Reading:
        """The same, and what the workers' own clocks say of the calls."""
        reading = read_after(subject)
        return dataclasses.replace(reading, workers=_plan(subject).drain())

    def stage_seconds(self, subject: Subject, samples: Samples) -> list[list[float]]:  # noqa: ARG002
        """Workers' stages are not measured."""
        return [[] for _ in samples.seconds]

    def transfers(self, subject: Subject) -> dict[str, tuple[float, ...]]:
        """Seconds of distributing the input, of gathering the output, and of a whole call."""
        plan, (x, out) = _plan(subject), subject.arrays
        calls: dict[str, Callable[[], object]] = {
            "distribution": partial(plan.distribute, x),
            "gathering": partial(plan.gather, out),
            "end to end": partial(plan, x, out),
        }
        plan.compute()
        return {name: tuple(seconds(call, 1) for _ in range(TRANSFERS)) for name, call in calls.items()}

    def cluster(self, subject: Subject, samples: Samples) -> dict[str, Any]:
        """The cut, what it moves, and each worker's seconds in each sample."""
        plan = _plan(subject)
        times = [_mean(after.workers) for _, after in samples.observed]
        return {
            **plan.facts(),
            "compute_seconds": [[compute for compute, _ in workers] for workers in times],
            "communication_seconds": [[communication for _, communication in workers] for workers in times],
            "replaced": len(plan.events),
        }

    def oversubscribed(self, subject: Subject, usable: int) -> bool:  # noqa: ARG002  # of this process
        """Whether a machine has fewer CPUs for the workers than threads of theirs."""
        return _plan(subject).oversubscribed

    def disturbances(
        self,
        counted: Mapping[str, float],
        levels: Sequence[Mapping[str, Any]],
        cores: int,  # noqa: ARG002  # workers wait for one another, here or on other machines
    ) -> dict[str, bool]:
        """What the system counted; whether workers were starved, their own times tell."""
        return flags.disturbances(counted, len(levels), 0)

    def usable(self) -> bool:
        """The next cell gets workers of its own, or says why not."""
        return True


def _plan(subject: Subject) -> DistributedPlan:
    return cast(DistributedPlan, subject.plan)


def _mean(calls: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Of each worker, the mean over the calls of a sample."""
    return [
        (sum(compute for compute, _ in own) / len(own), sum(waited for _, waited in own) / len(own))
        for own in zip(*calls, strict=True)
    ]
