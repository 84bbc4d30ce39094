"""Fitting the model of a machine to measured seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from scipy.optimize import nnls

from convbench.problem import Problem
from convbench.select.contenders import counted
from convbench.select.likeness import Matrix, coordinates, distances
from convbench.select.model import MOST_CORRECTED, Model, Rates, corrected

ROUNDS: Final = 4  # of fitting; each gives less weight to what the last was far off from
FAR_OFF: Final = 0.15  # a relative error with half of the weight
PERCENTILES: Final = (5, 95)
UNKNOWN: Final = (-0.5, 0.5)  # of the error of a contender that was measured too seldom to tell
TELLING: Final = 8  # problems


def fit(
    problems: Sequence[Problem],
    seconds: Mapping[str, Sequence[float] | Matrix],
    packing: Mapping[str, Sequence[float] | Matrix] | None = None,
) -> Model:
    """The model of measured seconds.

    Args:
        problems: The measured problems.
        seconds: For each contender its seconds on each problem; NaN where it cannot, or was not measured.
        packing: Likewise the seconds of packing the weights.
    """
    points = np.array([coordinates(problem) for problem in problems], float).reshape(len(problems), -1)
    apart = np.array([distances(points, point) for point in points])
    rates, corrections = {}, {}
    for name, times in seconds.items():
        measured = np.array(times, float)
        if not np.isfinite(measured).any():
            continue
        work = [counted(problem, name) for problem in problems]
        each = fitted(work, measured)
        of_counts = np.array([sum(rate * counts.get(count, 0.0) for count, rate in each.items()) for counts in work])
        known = np.clip(np.log(measured / of_counts), -MOST_CORRECTED, MOST_CORRECTED)
        of_packing = np.array((packing or {}).get(name, ()), float)
        rates[name] = Rates(each, fitted(work, of_packing) if of_packing.size else {}, _error(known, apart))
        corrections[name] = known
    return Model(rates, tuple(map(str, problems)), points, corrections)


def fitted(work: Sequence[Mapping[str, float]], seconds: Matrix) -> dict[str, float]:
    """Seconds of one of each kind of work: none negative, the relative errors small, a few far off ignored.

    Non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", 1974), with the weights of a Cauchy
    distribution in repeated rounds (Holland and Welsch, "Robust regression using iteratively reweighted
    least-squares", 1977).

    Args:
        work: The counts of each problem.
        seconds: Measured seconds; NaN where there are none.
    """
    measured = np.flatnonzero(np.isfinite(seconds)).tolist()
    if not measured:
        return {}
    names = sorted({name for place in measured for name, count in work[place].items() if count})
    counts = np.array([[work[place].get(name, 0.0) for name in names] for place in measured])
    scale = counts.max(axis=0)
    relative = counts / scale / seconds[measured][:, None]
    weights = np.ones(len(measured))
    for _ in range(ROUNDS):
        found, _rest = nnls(relative * weights[:, None], weights)
        weights = 1 / (1 + np.square((relative @ found - 1) / FAR_OFF))
    if not found.any():  # nothing but disturbed times
        found = np.median(seconds[measured]) / len(names) * np.ones(len(names))
    return {name: float(each) for name, each in zip(names, found / scale, strict=True) if each > 0}


def _error(known: Matrix, apart: Matrix) -> tuple[float, float]:
    """Percentiles of log(measured / predicted), where each problem is predicted from the others."""
    measured = np.flatnonzero(np.isfinite(known))
    if measured.size < TELLING:
        return UNKNOWN
    errors = [known[place] - corrected(known, measured[measured != place], apart[place]) for place in measured]
    low, high = np.percentile(errors, PERCENTILES)
    return min(0.0, float(low)), max(0.0, float(high))
