"""Records grouped for tables and figures: one series for each problem, algorithm and executor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from convbench.analysis import scaling
from convbench.analysis.statistics import LEAST_RUNS, Estimate, geometric_mean, mean
from convbench.analysis.times import CellTimes, ratios_by_run
from convbench.results.record import Cell, Record

STOPPING_RUNS: Final = 15
"""The least number of runs after which a sweep may stop because its intervals are tight, see `widest_interval`."""


@dataclass(frozen=True)
class Series:
    """One algorithm on one executor over core counts, for one problem, which may grow with the cores."""

    problem: str
    algorithm: str
    executor: str
    cells: Mapping[int, CellTimes]

    @property
    def name(self) -> str:
        """Its name in a table or legend."""
        return f"{self.algorithm}, {self.executor}"

    @cached_property
    def run_numbers(self) -> list[int]:
        """Every run in which any of its cells was measured."""
        return sorted({run for cell in self.cells.values() for run in cell.runs})

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computed it, with memory of its own."""
        return any(cell.on_gpu for cell in self.cells.values())

    @property
    def peer(self) -> bool:
        """Whether another library computed it."""
        return any(cell.peer for cell in self.cells.values())

    @property
    def bound(self) -> bool:
        """Whether only a part of the convolution was timed."""
        return any(cell.bound for cell in self.cells.values())

    @property
    def scaled(self) -> bool:
        """Whether the problem grows with the cores (weak scaling); speedups are scaled ones then."""
        return any(cell.problem != self.problem for cell in self.cells.values())

    def ratio_of_means(self, base: int, cores: int) -> float:
        """Average time on `base` cores over average time on `cores`, for the same work: the paper's speedup."""
        return self.growth(base, cores) * self.cells[base].mean.value / self.cells[cores].mean.value

    def speedup(self, base: int, cores: int) -> Estimate | None:
        """Geometric mean over runs of the speedup inside each run; None if no run has both cells.

        Where the problem grows with the cores, it is Gustafson's scaled speedup: work done a second over work done a
        second.
        """
        inside = self.speedups_by_run(base, cores)
        return geometric_mean(list(inside.values())) if inside else None

    def efficiency(self, cores: int) -> Estimate | None:
        """Speedup over one core, per core."""
        speedup = self.speedup(1, cores) if 1 in self.cells else None
        return None if speedup is None else _mapped(speedup, lambda value: scaling.efficiency(value, cores))

    def serial_fraction(self, cores: int) -> Estimate | None:
        """Karp and Flatt's serial fraction, or Gustafson's where the problem grows; its bounds are the speedup's."""
        speedup = self.speedup(1, cores) if 1 in self.cells and cores > 1 else None
        law = scaling.scaled_serial_fraction if self.scaled else scaling.serial_fraction
        return None if speedup is None else _mapped(speedup, lambda value: law(value, cores))

    def amdahl(self) -> Estimate | None:
        """Amdahl's serial fraction, fitted in each run over the core counts that are fit for it."""
        counts = [cores for cores, cell in self.cells.items() if cell.fit]
        if 1 not in counts or self.scaled:
            return None
        by_run = {cores: self.speedups_by_run(1, cores) for cores in counts if cores > 1}
        complete = [run for run in self.run_numbers if by_run and all(run in runs for runs in by_run.values())]
        fractions = [scaling.amdahl_fraction({cores: runs[run] for cores, runs in by_run.items()}) for run in complete]
        found = [fraction for fraction in fractions if fraction is not None]
        return mean(found) if found else None

    def usl(self) -> scaling.Usl | None:
        """The Universal Scalability Law, fitted in each run over the core counts that are fit for it."""
        cells = {cores: cell for cores, cell in self.cells.items() if cell.fit}
        if 1 not in cells or self.scaled:
            return None
        complete = [run for run in self.run_numbers if all(run in cell.runs for cell in cells.values())]
        fits = [scaling.usl({cores: cell.runs[run] for cores, cell in cells.items()}) for run in complete]
        found = [fit for fit in fits if fit is not None]
        return scaling.Usl.of(found) if found else None

    def speedups_by_run(self, base: int, cores: int) -> dict[int, float]:
        """The speedup inside each run that has both cells."""
        growth = self.growth(base, cores)
        return {run: growth * times for run, times in ratios_by_run(self.cells[base], self.cells[cores]).items()}

    def growth(self, base: int, cores: int) -> float:
        """Work on `cores` over work on `base` cores."""
        one, other = self.cells[base], self.cells[cores]
        return 1.0 if one.problem == other.problem else other.flops / one.flops


def widest_interval(records: Sequence[Record], least_runs: int = STOPPING_RUNS) -> float:
    """The largest reach of an interval of a cell's mean, as a share of the mean; infinite where there is no interval.

    A sweep that adds runs until this is small enough checks it after every run, and so stops where chance has made an
    interval tight: stopped at the first tight interval from three runs up, as few as 88 % of intervals hold the mean.
    Stopped after `STOPPING_RUNS` runs or more it is 94 % or more in simulation, for symmetric times, log-normal ones,
    and a floor with an exponential tail, for one cell and for twenty.

    A cell that has failed, and so has too few runs for an interval, is ignored: more runs need not mend it.

    Args:
        records: Of one sweep.
        least_runs: Runs in which every cell must have been tried; with fewer the result is infinite.
    """
    tried: dict[Cell, set[int]] = {}
    for record in records:
        if record.status != "skipped":
            tried.setdefault(record.cell, set()).add(record.run)
    failed = {record.cell for record in records if record.status in ("failed", "timeout")}
    widths = [math.inf] if any(len(runs) < least_runs for runs in tried.values()) else []
    for series in group(records):
        for cores, cell in series.cells.items():
            reach = cell.mean.reach
            if reach is not None:
                widths.append(reach)
            elif len(cell.runs) >= LEAST_RUNS or (cell.problem, series.algorithm, series.executor, cores) not in failed:
                widths.append(math.inf)
    return max(widths, default=0.0)


def group(records: Iterable[Record], order: Sequence[Sequence[str]] = ()) -> list[Series]:
    """The measured records as series, cores ascending.

    Args:
        records: Of one sweep; those that are not ok have no times and are left out.
        order: Problems, algorithms and executors in the order of the series; those not named come last, in the order
            of the records.
    """
    by_key: dict[tuple[str, str, str], dict[int, list[Record]]] = {}
    for record in records:
        if record.status == "ok":
            key = (record.base or record.problem, record.algorithm, record.executor)
            by_key.setdefault(key, {}).setdefault(record.cores, []).append(record)

    def position(key: tuple[str, str, str]) -> list[int]:
        pairs = zip(key, order, strict=False)
        return [names.index(name) if name in names else len(names) for name, names in pairs]

    return [
        Series(*key, {cores: CellTimes.of(cores, by_key[key][cores]) for cores in sorted(by_key[key])})
        for key in sorted(by_key, key=position)
    ]


def _mapped(estimate: Estimate, function: Callable[[float], float]) -> Estimate:
    """The estimate of a monotonic function of an estimated value."""
    if estimate.low is None or estimate.high is None:
        return Estimate(function(estimate.value), None, None, estimate.runs, estimate.lacks)
    low, high = sorted((function(estimate.low), function(estimate.high)))
    return Estimate(function(estimate.value), low, high, estimate.runs)
