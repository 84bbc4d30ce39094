"""Records in the shape that tables and figures need: one series for each problem, algorithm and executor."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from convbench.analysis import scaling
from convbench.analysis.statistics import Estimate, geometric_mean, mean, median
from convbench.results.record import Record

OUT_OF_FITS = "oversubscribed"


@dataclass(frozen=True)
class CellTimes:
    """One cell over all runs.

    Attributes:
        cores: Core count.
        runs: Seconds of one call for each run: the mean of the run's samples.
        samples: All samples of all runs, for the minimum and the median alone.
        flags: How many runs raised each flag.
    """

    cores: int
    runs: Mapping[int, float]
    samples: tuple[float, ...]
    flags: Mapping[str, int]

    @property
    def mean(self) -> Estimate:
        """Mean over runs."""
        return mean(list(self.runs.values()))

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
        """Sum over runs, as the paper's table gives it."""
        return sum(self.runs.values())

    @property
    def fit(self) -> bool:
        """Whether scaling laws may be fitted to it."""
        return OUT_OF_FITS not in self.flags


@dataclass(frozen=True)
class Series:
    """One algorithm on one executor over core counts, for one problem."""

    problem: str
    algorithm: str
    executor: str
    cells: Mapping[int, CellTimes]

    @property
    def name(self) -> str:
        """What to call it in a table or legend."""
        return f"{self.algorithm}, {self.executor}"

    @cached_property
    def run_numbers(self) -> list[int]:
        """Every run in which any of its cells was measured."""
        return sorted({run for cell in self.cells.values() for run in cell.runs})

    def ratio_of_means(self, base: int, cores: int) -> float:
        """Average time on `base` cores over average time on `cores`: the speedup as the paper defines it."""
        return self.cells[base].mean.value / self.cells[cores].mean.value

    def speedup(self, base: int, cores: int) -> Estimate | None:
        """Geometric mean over runs of the speedup inside each run; None if no run has both cells."""
        return ratio(self.cells[base], self.cells[cores])

    def efficiency(self, cores: int) -> Estimate | None:
        """Speedup over one core, per core."""
        speedup = self.speedup(1, cores) if 1 in self.cells else None
        return None if speedup is None else _mapped(speedup, lambda value: scaling.efficiency(value, cores))

    def serial_fraction(self, cores: int) -> Estimate | None:
        """Karp and Flatt's serial fraction; its bounds are those of the speedup."""
        speedup = self.speedup(1, cores) if 1 in self.cells and cores > 1 else None
        return None if speedup is None else _mapped(speedup, lambda value: scaling.serial_fraction(value, cores))

    def amdahl(self) -> Estimate | None:
        """Amdahl's serial fraction, fitted in each run over the core counts that are fit for it."""
        counts = [cores for cores, cell in self.cells.items() if cell.fit]
        if 1 not in counts:
            return None
        by_run = {cores: self.speedups_by_run(1, cores) for cores in counts if cores > 1}
        complete = [run for run in self.run_numbers if by_run and all(run in runs for runs in by_run.values())]
        fractions = [scaling.amdahl_fraction({cores: runs[run] for cores, runs in by_run.items()}) for run in complete]
        found = [fraction for fraction in fractions if fraction is not None]
        return mean(found) if found else None

    def usl(self) -> scaling.Usl | None:
        """The Universal Scalability Law fitted to the speedups over the core counts that are fit for it."""
        counts = [cores for cores, cell in self.cells.items() if cell.fit]
        speedups = {cores: self.speedup(1, cores) for cores in counts} if 1 in counts else {}
        return scaling.usl({cores: speedup.value for cores, speedup in speedups.items() if speedup is not None})

    def speedups_by_run(self, base: int, cores: int) -> dict[int, float]:
        """The speedup inside each run that has both cells."""
        return _ratios_by_run(self.cells[base], self.cells[cores])


def ratio(one: CellTimes, other: CellTimes) -> Estimate | None:
    """Geometric mean over runs of one cell's time over another's inside each run; None if no run has both."""
    inside = _ratios_by_run(one, other)
    return geometric_mean(list(inside.values())) if inside else None


def widest_interval(records: Iterable[Record]) -> float:
    """Half of the widest interval of a cell's mean, as a share of the mean; infinite where there is no interval."""
    means = [cell.mean for series in group(records) for cell in series.cells.values()]
    return max(
        (
            math.inf if mean.low is None or mean.high is None else (mean.high - mean.low) / 2 / mean.value
            for mean in means
        ),
        default=0.0,
    )


def group(records: Iterable[Record], order: Sequence[Sequence[str]] = ()) -> list[Series]:
    """The measured records as series, cores ascending.

    Args:
        records: Of one sweep; those that are not ok have no times and are left out.
        order: Problems, algorithms and executors in the order that the series shall have; what is not named there
            comes behind, as it first appears.
    """
    by_key: dict[tuple[str, str, str], dict[int, list[Record]]] = {}
    for record in records:
        if record.status == "ok":
            by_key.setdefault(record.cell[:3], {}).setdefault(record.cores, []).append(record)

    def position(key: tuple[str, str, str]) -> list[int]:
        pairs = zip(key, order, strict=False)
        return [names.index(name) if name in names else len(names) for name, names in pairs]

    return [
        Series(*key, {cores: _cell_times(cores, by_key[key][cores]) for cores in sorted(by_key[key])})
        for key in sorted(by_key, key=position)
    ]


def _ratios_by_run(one: CellTimes, other: CellTimes) -> dict[int, float]:
    return {run: one.runs[run] / other.runs[run] for run in one.runs if run in other.runs}


def _mapped(estimate: Estimate, function: Callable[[float], float]) -> Estimate:
    """An estimate of a monotonic function of what was estimated."""
    if estimate.low is None or estimate.high is None:
        return Estimate(function(estimate.value), None, None, estimate.runs)
    low, high = sorted((function(estimate.low), function(estimate.high)))
    return Estimate(function(estimate.value), low, high, estimate.runs)


def _cell_times(cores: int, records: list[Record]) -> CellTimes:
    flags = Counter(flag for record in records for flag in record.flags)
    return CellTimes(
        cores=cores,
        runs={record.run: statistics.fmean(record.samples) for record in sorted(records, key=lambda r: r.run)},
        samples=tuple(sample for record in records for sample in record.samples),
        flags=dict(flags),
    )
