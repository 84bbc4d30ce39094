"""Two sweeps cell by cell: whether the second is faster or slower than the first, as far as the runs tell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from convbench.analysis.evidence import Evidence, Independent, InTurns, Runs, discoveries
from convbench.analysis.series import STOPPING_RUNS, group
from convbench.analysis.statistics import CONFIDENCE, Estimate, exponential
from convbench.results.record import Cell, Record

Verdict = Literal["faster", "slower", "no difference seen", "cannot tell"]

INDIFFERENT: Final = 0.01  # smaller differences are ignored: two sweeps of the same code differ by so much
FEW_RUNS: Final = "too few runs; add some by --resume and more --runs"
CLEAR: Final = 0.05  # no difference was seen where the interval ends within this share of 1


@dataclass(frozen=True)
class Comparison:
    """One cell in two sweeps.

    Attributes:
        cell: Problem, algorithm, executor, cores.
        ratio: Time in the second over time in the first, and an interval that allows for how many cells are compared.
        verdict: Their meaning for the second sweep.
        evidence: Source of the ratio and its interval.
    """

    cell: Cell
    ratio: Estimate
    verdict: Verdict
    evidence: Evidence


def compare(
    first: Iterable[Record], second: Iterable[Record], order: Sequence[Sequence[str]] = (), *, in_turns: bool = False
) -> list[Comparison]:
    """Compare every cell that both sweeps have measured.

    Of all cells that are called faster or slower, 5 % are expected to be neither (Benjamini and Hochberg, "Controlling
    the false discovery rate", J. R. Statist. Soc. B 57, 1995); if none is, the chance that any is called so is 5 %.
    Intervals go by the same level (Benjamini and Yekutieli, "False discovery rate-adjusted multiple confidence
    intervals for selected parameters", JASA 100, 2005), so that they leave out 1 where a difference was found.

    Args:
        first: Records of a sweep, one of each cell in each run.
        second: Of another one.
        order: As for `group`.
        in_turns: Whether the sweeps were measured in turns: then runs of one number are compared with each other.
    """
    first, second = list(first), list(second)
    before, after = _runs(first, order), _runs(second)
    found: dict[Cell, Evidence] = {}
    speeds = _speeds(first, second)
    for cell in before:
        if cell in after and in_turns:
            common = [run for run in before[cell] if run in after[cell]]
            if common:
                found[cell] = InTurns.of(
                    *([min(runs[cell][run].samples) for run in common] for runs in (before, after))
                )
        elif cell in after:
            times = [_means(runs[cell], speed) for runs, speed in zip((before, after), speeds, strict=True)]
            found[cell] = Independent(*times)
    p_values = [evidence.p_value(0.0) for evidence in found.values()]
    alpha = (1 - CONFIDENCE) * max(1, discoveries(p_values, 1 - CONFIDENCE)) / max(1, len(p_values))
    ratios = {cell: _estimate(evidence, alpha) for cell, evidence in found.items()}
    return [Comparison(cell, ratio, verdict(ratio), found[cell]) for cell, ratio in ratios.items()]


def widest_ratio(first: Sequence[Record], second: Sequence[Record], least_runs: int = STOPPING_RUNS) -> float:
    """The largest reach of an interval of a cell's ratio, as a share of the ratio, in sweeps measured in turns.

    It is infinite where a cell at which neither version has failed has no interval or fewer than `least_runs` runs, see
    `widest_interval`, or where no cell is measured.
    """
    failed = {record.cell for record in (*first, *second) if record.status in ("failed", "timeout")}
    runs: dict[Cell, set[int]] = {}
    for record in first:
        runs.setdefault(record.cell, set()).add(record.run)
    found = [one for one in compare(first, second, in_turns=True) if one.cell not in failed]
    few = any(len(runs[one.cell]) < least_runs for one in found)
    widths = [math.inf if few or one.ratio.reach is None else one.ratio.reach for one in found]
    return max(widths, default=0.0 if failed else math.inf)


def slower_beyond(found: Sequence[Comparison], allowed: float) -> list[Comparison]:
    """The cells that are slower by more than a share, beyond doubt.

    Their intervals lie above 1 + `allowed`. If no cell is slower by more than that, the chance that any is named is at
    most 2.5 %, however many are compared: this is Benjamini and Hochberg's procedure for the one-sided hypothesis that
    a ratio is at most 1 + `allowed`.
    """
    limit = math.log1p(allowed)
    p_values = [one.evidence.p_value(limit) / 2 if one.evidence.value > limit else 1.0 for one in found]
    level = (1 - CONFIDENCE) / 2
    threshold = level * discoveries(p_values, level) / max(1, len(found))
    return [
        one
        for one, p_value in zip(found, p_values, strict=True)
        if p_value <= threshold and one.ratio.bounds is not None and one.ratio.bounds[0] > 1 + allowed
    ]


def slowdown(first: Iterable[Record], second: Iterable[Record]) -> float:
    """Time of the fixed piece of work in the second sweep over the first; 1 if it is not known."""
    before, after = ([record.calibration for record in records if record.calibration] for records in (first, second))
    return statistics.median(after) / statistics.median(before) if before and after else 1.0


def verdict(ratio: Estimate) -> Verdict:
    """The verdict on a ratio of times and its interval.

    There is a difference if the interval leaves out 1 and the ratio is more than `INDIFFERENT` off; otherwise none was
    seen if the interval ends within `CLEAR` of 1. Else one cannot tell.
    """
    if ratio.bounds is None:
        return "cannot tell"
    low, high = ratio.bounds
    if abs(math.log(ratio.value)) > INDIFFERENT and not low < 1 < high:
        return "slower" if ratio.value > 1 else "faster"
    near = low >= 1 - CLEAR and high <= 1 + CLEAR
    return "no difference seen" if near else "cannot tell"


def _estimate(evidence: Evidence, alpha: float) -> Estimate:
    interval, value = evidence.interval(alpha), math.exp(evidence.value)
    if interval is None:
        return Estimate(value, None, None, evidence.runs, FEW_RUNS)
    return exponential(evidence.value, interval, value, evidence.runs)


def _runs(records: Sequence[Record], order: Sequence[Sequence[str]] = ()) -> dict[Cell, dict[int, Record]]:
    """The record of each cell and run, cells in `order`, runs ascending."""
    cells: dict[Cell, dict[int, Record]] = {
        (times.problem, series.algorithm, series.executor, cores): {}
        for series in group(records, order)
        for cores, times in series.cells.items()
    }
    for record in sorted(records, key=lambda record: record.run):
        if record.status == "ok":
            cells[record.cell].setdefault(record.run, record)
    return cells


def _means(runs: dict[int, Record], speed: dict[int, float]) -> Runs:
    """The mean of each run's samples, and the time of the fixed piece of work in that run."""
    return Runs([statistics.fmean(record.samples) for record in runs.values()], [speed.get(run, 1.0) for run in runs])


def _speeds(first: Sequence[Record], second: Sequence[Record]) -> tuple[dict[int, float], dict[int, float]]:
    """For each run of two sweeps, the median time of the fixed piece of work; empty unless all runs have it."""
    found: list[dict[int, float]] = []
    for records in (first, second):
        taken: dict[int, list[float]] = {}
        for record in records:
            if record.status == "ok":
                taken.setdefault(record.run, []).append(record.calibration)
        found.append({run: statistics.median(times) for run, times in taken.items()})
    known = all(all(speed.values()) for speed in found)
    return (found[0], found[1]) if known else ({}, {})
