"""Two sweeps cell by cell: is the second faster or slower than the first, and can one tell?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy import stats

from convbench.analysis.series import CellTimes, group
from convbench.analysis.statistics import CONFIDENCE, Estimate
from convbench.results.record import Cell, Record

Verdict = Literal["faster", "slower", "no difference seen", "cannot tell"]

INDIFFERENT: Final = 0.01  # a difference below this is none: two sweeps differ by so much for no reason at all
DRIFT_SHARE: Final = 0.15  # of the variance between runs is shared by a sweep's; found in sweeps of the same code
CLEAR: Final = 0.05  # an interval that reaches further than this to either side says nothing
REQUEST_FACTS: Final = ("cache", "scaling", "kernels", "source", "seed")
MACHINE_FACTS: Final = (
    "cpu",
    "vector",
    "usable_cores",
    "logical_cpus",
    "memory_bytes",
    "gpu",
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
    before, after, drift = _cells(first, order), _cells(second), math.log(slowdown(first, second))
    return [
        Comparison(cell, ratio := _ratio(before[cell], after[cell], drift), verdict(ratio))
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
            if one.get(key) != other.get(key)
        ]
    return lines


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


def _ratio(before: CellTimes, after: CellTimes, drift: float) -> Estimate:
    """Geometric means over runs against each other, and an interval for what the code alone is responsible for.

    Welch's interval on the logarithms of runs ("The generalization of Student's problem", 1947), with two additions for
    what the machine did between the sweeps: `DRIFT_SHARE` of the variance between runs does not average out within a
    sweep, and `drift`, the logarithm of what a fixed piece of work took, may be in a cell's times as a whole, or not.
    """
    one, other = (np.log(list(cell.runs.values())) for cell in (before, after))
    difference, runs = float(other.mean() - one.mean()), min(one.size, other.size)
    if runs < 2:
        return Estimate(math.exp(difference), None, None, runs)
    parts = [times.var(ddof=1) * (1 / times.size + DRIFT_SHARE) for times in (one, other)]
    variance = float(sum(parts))
    half = 0.0
    if variance:
        freedom = variance**2 / sum(part**2 / (times.size - 1) for part, times in zip(parts, (one, other), strict=True))
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    ends = (difference, difference - drift)
    return Estimate(math.exp(difference), math.exp(min(ends) - half), math.exp(max(ends) + half), runs)
