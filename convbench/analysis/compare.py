"""Two sweeps cell by cell: is the second faster or slower than the first, and can one tell?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from convbench.analysis.card import facts
from convbench.analysis.series import CellTimes, group
from convbench.analysis.statistics import Estimate, student
from convbench.results.record import Cell, Record

Speeds = Mapping[int, float]  # seconds of the fixed piece of work for each run
Verdict = Literal["faster", "slower", "no difference seen", "cannot tell"]

INDIFFERENT: Final = 0.01  # a difference below this is none: two sweeps differ by so much for no reason at all
DRIFT_SHARE: Final = 0.1  # of the variance between runs is shared by a sweep's; found in sweeps of the same code
CLEAR: Final = 0.05  # an interval that reaches further than this to either side says nothing
REQUEST_FACTS: Final = ("cache", "scaling", "allow_tf32", "kernels", "source", "seed")
MACHINE_FACTS: Final = (
    "cpu",
    "vector",
    "usable_cores",
    "logical_cpus",
    "memory_bytes",
    "system",
    "python",
    "blas",
)


@dataclass(frozen=True)
class Comparison:
    """One cell in two sweeps.

    Attributes:
        cell: Problem, algorithm, executor, cores.
        ratio: Time in the second over time in the first: geometric means over runs, and an interval.
        verdict: What that says of the second.
    """

    cell: Cell
    ratio: Estimate
    verdict: Verdict


def compare(first: Iterable[Record], second: Iterable[Record], order: Sequence[Sequence[str]] = ()) -> list[Comparison]:
    """Every cell that both sweeps have measured; `order` as for `group`."""
    first, second = list(first), list(second)
    before, after, speeds = _cells(first, order), _cells(second), _speeds(first, second)
    return [
        Comparison(cell, ratio := _ratio(before[cell], after[cell], speeds), verdict(ratio))
        for cell in before
        if cell in after
    ]


def slowdown(first: Iterable[Record], second: Iterable[Record]) -> float:
    """How many times as long a fixed piece of work took in the second sweep as in the first; 1 if it is not known."""
    before, after = ([record.calibration for record in records if record.calibration] for records in (first, second))
    return statistics.median(after) / statistics.median(before) if before and after else 1.0


def verdict(ratio: Estimate) -> Verdict:
    """What a ratio of times and its interval say.

    It is a difference if the interval leaves out 1 and the ratio is beyond `INDIFFERENT`; none was seen if the interval
    ends within `CLEAR` of 1 otherwise. Else one cannot tell.
    """
    if ratio.low is None or ratio.high is None:
        return "cannot tell"
    if abs(math.log(ratio.value)) > INDIFFERENT and not ratio.low <= 1 <= ratio.high:
        return "slower" if ratio.value > 1 else "faster"
    near = ratio.low >= 1 - CLEAR and ratio.high <= 1 + CLEAR
    return "no difference seen" if near else "cannot tell"


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two sweeps' machines, versions and manner of measuring, a line each."""
    lines = []
    for what, keys in (("machine", MACHINE_FACTS), ("versions", None), ("spec", REQUEST_FACTS)):
        one, other = first.get(what, {}), second.get(what, {})
        lines += [
            f"{key}: {_brief(one.get(key))} -> {_brief(other.get(key))}"
            for key in keys or sorted({*one, *other})
            if (one.get(key) or None) != (other.get(key) or None)  # older sweeps lack what was off then
        ]
    cards = [facts(header.get("machine", {})) for header in (first, second)]
    return lines + _cards_differ(*cards)


def _cards_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The same for GPUs; two that both have a name are compared in what both sweeps knew of them."""
    keys = sorted({*first} & {*second}) or ["name"]
    if first.get("name") != second.get("name"):
        keys = ["name"]
    return [
        f"gpu {key}: {_brief(first.get(key))} -> {_brief(second.get(key))}"
        for key in keys
        if first.get(key) != second.get(key)
    ]


def _brief(value: object) -> str:
    if isinstance(value, Mapping) and "sha256" in value:
        return f"{value['path'].rpartition('/')[2]} ({value['sha256'][:8]})"
    if isinstance(value, Mapping):
        return " ".join(map(str, value.values()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_brief(item) for item in value)
    return "none" if value is None else str(value)


def _cells(records: Iterable[Record], order: Sequence[Sequence[str]] = ()) -> dict[Cell, CellTimes]:
    return {
        (times.problem, series.algorithm, series.executor, cores): times
        for series in group(records, order)
        for cores, times in series.cells.items()
    }


def _ratio(before: CellTimes, after: CellTimes, speeds: tuple[Speeds, Speeds]) -> Estimate:
    """Geometric means over runs against each other, and an interval for what the code alone is responsible for.

    It has in it both Welch's interval on the logarithms of runs ("The generalization of Student's problem", 1947), and
    the same of times in units of the fixed piece of work, with `DRIFT_SHARE` of the variance between runs taken to be
    common to all runs of a sweep, so that it does not average out.
    """
    one, other = (np.log(list(cell.runs.values())) for cell in (before, after))
    value, runs = math.exp(float(other.mean() - one.mean())), min(one.size, other.size)
    if runs < 2:
        return Estimate(value, None, None, runs)
    units = [
        np.log([speed.get(run, 1.0) for run in cell.runs]) for cell, speed in zip((before, after), speeds, strict=True)
    ]
    intervals = [
        _interval(one, other, 0.0),
        _interval(one - units[0], other - units[1], DRIFT_SHARE),
    ]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return Estimate(value, math.exp(low), math.exp(high), runs)


def _interval(one: NDArray[np.float64], other: NDArray[np.float64], shared: float) -> tuple[float, float]:
    """Welch's, for the difference of means; `shared` of the variance does not average out."""
    difference = float(other.mean() - one.mean())
    parts = [float(times.var(ddof=1)) * (1 / times.size + shared) for times in (one, other)]
    if not (variance := sum(parts)):
        return difference, difference
    degrees = [times.size - 1 for times in (one, other)]
    freedom = variance**2 / sum(part**2 / degree for part, degree in zip(parts, degrees, strict=True))
    half = student(freedom) * math.sqrt(variance)
    return difference - half, difference + half


def _speeds(first: Sequence[Record], second: Sequence[Record]) -> tuple[Speeds, Speeds]:
    """For each run of two sweeps, the median time of the fixed piece of work; nothing if it is not known of all."""
    found: list[dict[int, float]] = []
    for records in (first, second):
        taken: dict[int, list[float]] = {}
        for record in records:
            if record.status == "ok":
                taken.setdefault(record.run, []).append(record.calibration)
        found.append({run: statistics.median(times) for run, times in taken.items()})
    known = all(all(speed.values()) for speed in found)
    return (found[0], found[1]) if known else ({}, {})
