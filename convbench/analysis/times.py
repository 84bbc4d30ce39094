"""The times of one cell over all runs, and the ratio of two cells' times inside runs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from convbench.analysis.statistics import Estimate, geometric_mean, mean_time, median
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.results.record import Fact, Record

OUT_OF_FITS: Final = "oversubscribed"
TO_WORKERS: Final = "distribution"  # as records call the transfer of an input to workers on a cluster
WAITING: Final = "waiting"
"""The part of a call's time outside all stages: starting, claiming units, waiting for the last worker."""


@dataclass(frozen=True)
class CellTimes:
    """One cell over all runs.

    Attributes:
        problem: Descriptor of the problem.
        cores: Core count; of workers on a cluster, their number.
        runs: Seconds of one call for each run: the mean of the run's samples.
        samples: All samples of all runs, for the minimum and the median alone.
        flags: How many runs raised each flag.
        stages: For each stage of the algorithm and each run, seconds of a call that a worker spent in it.
        setup: For each step of set-up and each run, its seconds.
        transfers: For each direction between the host's memory and a GPU's, or workers' on a cluster, and each run, its
            seconds.
        peer: Whether another library computed it.
        bound: Whether only a part of the convolution was timed.
        variants: What ran, see `Record.variant`: one, unless runs differ; none in sweeps of before.
        memory: What was needed, and the most that any run's process held, see `Record.memory`.
        work: What a call does, counted, see `Record.work`.
        threads_per_worker: How many each worker on a cluster computes on.
    """

    problem: str
    cores: int
    runs: Mapping[int, float]
    samples: tuple[float, ...]
    flags: Mapping[str, int]
    stages: Mapping[str, Mapping[int, float]]
    setup: Mapping[str, Mapping[int, float]]
    transfers: Mapping[str, Mapping[int, float]]
    peer: bool = False
    bound: bool = False
    variants: Sequence[Mapping[str, Fact]] = ()
    memory: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    threads_per_worker: int = 1

    @classmethod
    def of(cls, cores: int, records: Iterable[Record]) -> Self:
        """From the records of one cell that are ok; at least one, and at most one of each run."""
        records = sorted(records, key=lambda record: record.run)
        stages: dict[str, dict[int, float]] = {}
        setup: dict[str, dict[int, float]] = {}
        transfers: dict[str, dict[int, float]] = {}
        for record in records:
            for name, times in ((name, times) for name, times in record.stages.items() if times):
                stages.setdefault(name, {})[record.run] = statistics.fmean(times)
            for name, times in ((name, times) for name, times in record.transfers.items() if times):
                transfers.setdefault(name, {})[record.run] = statistics.fmean(times)
            for step, seconds in record.setup.items():
                setup.setdefault(step, {})[record.run] = seconds
        return cls(
            problem=records[0].problem,
            cores=cores,
            runs={record.run: statistics.fmean(record.samples) for record in records},
            samples=tuple(sample for record in records for sample in record.samples),
            flags=dict(Counter(flag for record in records for flag in record.flags)),
            stages=stages,
            setup=setup,
            transfers=transfers,
            peer=any(record.peer for record in records),
            bound=any(record.bound for record in records),
            variants=_distinct(record.variant for record in records),
            memory={
                name: max(record.memory.get(name, 0.0) for record in records)
                for name in dict.fromkeys(name for record in records for name in record.memory)
            },
            work=records[-1].work,
            threads_per_worker=records[-1].cluster.get("threads_per_worker", 1),
        )

    @property
    def threads(self) -> int:
        """How many compute, each on a core of its own; what limits are looked up by."""
        return self.cores * self.threads_per_worker

    @property
    def mean(self) -> Estimate:
        """Mean over runs."""
        return mean_time(list(self.runs.values()))

    @property
    def median(self) -> Estimate:
        """Median of the runs."""
        return median(list(self.runs.values()))

    @property
    def minimum(self) -> float:
        """The fastest sample of all."""
        return min(self.samples)

    @property
    def total(self) -> float:
        """Sum over runs, as in the paper's table."""
        return sum(self.runs.values())

    def step(self, name: str) -> float | None:
        """Seconds of a step of set-up: mean over runs; None if there was no such step."""
        return statistics.fmean(self.setup[name].values()) if name in self.setup else None

    @property
    def flops(self) -> int:
        """Operations of the direct form."""
        return Problem.parse(self.problem).flops

    @property
    def rate(self) -> float:
        """The direct form's operations a second, by the mean over runs."""
        return self.flops / self.mean.value

    @property
    def precision(self) -> str:
        """The name of the precision of its products: of several, one that is not exact.

        Records of before said no other than TF32, by a flag.
        """
        said = [str(variant["precision"]) for variant in self.variants if "precision" in variant]
        names = said or [name for name in self.flags if name == TF32.name]
        return next((name for name in names if name != EXACT.name), EXACT.name)

    @property
    def products(self) -> str:
        """The type of its products: the problem's dtype, or the precision that rounds them, such as "tf32"."""
        return Problem.parse(self.problem).dtype if self.precision == EXACT.name else self.precision

    def stage(self, name: str) -> float | None:
        """Seconds that a worker spent in a stage, or `WAITING` outside of all of them: mean over runs.

        None if no run has it.
        """
        if name != WAITING:
            return statistics.fmean(self.stages[name].values()) if name in self.stages else None
        complete = [run for run in self.runs if all(run in stage for stage in self.stages.values())]
        outside = [self.runs[run] - sum(stage[run] for stage in self.stages.values()) for run in complete]
        return statistics.fmean(outside) if outside else None

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computed it, with memory of its own."""
        return is_of_gpu(self.transfers)

    def end_to_end(self) -> dict[int, float]:
        """Seconds of each run from having the input on the host to having the output there."""
        return dict(self.transfers.get("end to end", {}))

    @property
    def fit(self) -> bool:
        """Whether it may enter fits of scaling laws: it was not oversubscribed."""
        return OUT_OF_FITS not in self.flags


def is_of_gpu(transfers: Mapping[str, object]) -> bool:
    """Whether what was moved, by direction, went to a GPU's memory, and not to workers on a cluster."""
    return bool(transfers) and TO_WORKERS not in transfers


def ratio(one: CellTimes, other: CellTimes) -> Estimate | None:
    """Geometric mean over runs of one cell's time over another's inside each run; None if no run has both."""
    inside = ratios_by_run(one, other)
    return geometric_mean(list(inside.values())) if inside else None


def ratios_by_run(one: CellTimes, other: CellTimes) -> dict[int, float]:
    """One cell's time over another's inside each run that has both."""
    return {run: one.runs[run] / other.runs[run] for run in one.runs if run in other.runs}


def _distinct(variants: Iterable[Mapping[str, Fact]]) -> list[Mapping[str, Fact]]:
    """Those that are not empty, each once."""
    found: list[Mapping[str, Fact]] = []
    for variant in variants:
        if variant and variant not in found:
            found.append(variant)
    return found
