"""Fitting the model of a machine to measured seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from convbench.nonnegative import least_squares
from convbench.problem import Problem
from convbench.select.contenders import counted
from convbench.select.likeness import Matrix, coordinates, distances
from convbench.select.model import MOST_CORRECTED, Model, Rates, corrected

ROUNDS: Final = 4  # of fitting; each gives less weight to what the last was far off from
FAR_OFF: Final = 0.15  # a relative error with half of the weight
SPEEDS: Final = 3  # times that rates and the machine's speed at each problem are found in turns
MOST_SPEED: Final = 0.5  # log of the machine's speed at a problem over its usual speed, at most
CONTENDING: Final = 3.0  # times the fastest: of slower contenders, little is measured
PERCENTILES: Final = (5, 95)
UNKNOWN: Final = (-0.5, 0.5)  # of the error of a contender that was measured too seldom to tell
TELLING: Final = 8  # problems

Columns = Mapping[str, Sequence[float] | Matrix]
"""For each contender a number for each problem; NaN where there is none."""


def fit(
    problems: Sequence[Problem],
    seconds: Columns,
    packing: Columns | None = None,
    *,
    intervals: bool = True,
    steady: bool = False,
) -> Model:
    """The model of measured seconds.

    A machine's speed changes from minute to minute, with its clock and with its neighbours. All contenders of a problem
    were measured in turns and had the same speed; so a factor that they have in common is taken for the machine's, and
    no rate and no correction is fitted to it.

    Args:
        problems: The measured problems.
        seconds: For each contender its seconds on each problem.
        packing: Likewise the seconds of packing the weights.
        intervals: Whether the model's intervals matter, which take time and memory by the square of the problems.
        steady: Whether the machine's speed does not change, as that of a GPU which keeps its clock.
    """
    measured = {name: times for name, each in seconds.items() if np.isfinite(times := np.array(each, float)).any()}
    work = {name: [counted(problem, name) for problem in problems] for name in measured}
    rates, known, speed = _rates_and_speeds(measured, work, np.zeros(len(problems)), steady=steady)
    points = np.array([coordinates(problem) for problem in problems], float).reshape(len(problems), -1)
    apart = np.array([distances(points, point) for point in points]) if intervals else None
    corrections = {name: np.clip(each - speed, -MOST_CORRECTED, MOST_CORRECTED) for name, each in known.items()}
    found = {
        name: Rates(
            rates[name],
            _of_packing((packing or {}).get(name), work[name]),
            UNKNOWN if apart is None else _error(each, speed, apart),
        )
        for name, each in corrections.items()
    }
    return Model(found, tuple(map(str, problems)), points, corrections)


def _rates_and_speeds(
    measured: Mapping[str, Matrix], work: Mapping[str, Sequence[Mapping[str, float]]], speed: Matrix, *, steady: bool
) -> tuple[dict[str, dict[str, float]], dict[str, Matrix], Matrix]:
    """The rates; log(measured / counted) of each contender on each problem; and the machine's speed at each problem."""
    rates: dict[str, dict[str, float]] = {}
    known: dict[str, Matrix] = {}
    for _ in range(SPEEDS):
        rates = {name: fitted(work[name], times / np.exp(speed)) for name, times in measured.items()}
        known = {name: np.log(times / _of_work(rates[name], work[name])) for name, times in measured.items()}
        if steady:
            break
        speed = _speeds(measured, known)
    return rates, known, speed


def _of_work(rates: Mapping[str, float], work: Sequence[Mapping[str, float]]) -> Matrix:
    """Seconds of the work of each problem."""
    return np.array([sum(rate * counts.get(kind, 0.0) for kind, rate in rates.items()) for counts in work])


def _of_packing(packing: Sequence[float] | Matrix | None, work: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Rates of packing; a sweep that says nothing of it says 0."""
    if packing is None:
        return {}
    seconds = np.array(packing, float)
    return fitted(work, np.where(seconds > 0, seconds, np.nan))


def _speeds(measured: Mapping[str, Matrix], known: Mapping[str, Matrix]) -> Matrix:
    """For each problem the median over its contenders of log(measured / counted); 0 where only one contends."""
    times, logarithms = (np.array(list(columns.values())) for columns in (measured, known))
    if len(times) < 2:
        return np.zeros(times.shape[1:])
    contending = np.where(times <= CONTENDING * np.nanmin(times, axis=0), logarithms, np.nan)
    alone = np.isfinite(contending).sum(axis=0) < 2
    return np.where(alone, 0.0, np.clip(np.nanmedian(contending, axis=0), -MOST_SPEED, MOST_SPEED))


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
        found = least_squares(relative * weights[:, None], weights)
        weights = 1 / (1 + np.square((relative @ found - 1) / FAR_OFF))
    if not found.any():  # nothing but disturbed times
        found = np.median(seconds[measured]) / len(names) * np.ones(len(names))
    return {name: float(each) for name, each in zip(names, found / scale, strict=True) if each > 0}


def surprises(model: Model, seconds: Mapping[str, Mapping[str, float]]) -> list[float]:
    """How far each problem of a model is from what the others let expect of it, see `surprise`.

    Args:
        model: The model.
        seconds: The seconds that it was fitted to, by problem, in its order, and by name.
    """
    found = []
    for place, times in enumerate(seconds.values()):
        apart = distances(model.points, model.points[place])
        off = {
            name: float(known[place] - corrected(known, measured[measured != place], apart))
            for name, known in model.corrections.items()
            if name in times and (measured := model.measured[name]).size >= TELLING
        }
        found.append(surprise(times, off))
    return found


def surprise(seconds: Mapping[str, float], off: Mapping[str, float]) -> float:
    """The largest factor, as its logarithm, by which a contender of a problem is off where the median one is not.

    What all have in common is the machine's speed. Contenders are those that are among the fastest or were expected to
    be; of two, nobody knows which one is off, and the factor is the whole of their difference.

    Args:
        seconds: What was measured, by name.
        off: Logarithms of the measured over the expected seconds, by name, as far as something was expected.

    Returns:
        0 where nothing can be told.
    """
    most = CONTENDING * min(seconds.values(), default=0.0)
    fast = [each for name, each in off.items() if seconds[name] <= most]
    common = float(np.median(fast)) if fast else 0.0
    contending = [each for name, each in off.items() if seconds[name] * np.exp(min(0.0, common - each)) <= most]
    if len(contending) <= 2:
        return max(contending) - min(contending) if contending else 0.0
    common = float(np.median(contending))
    return max(abs(each - common) for each in contending)


def _error(known: Matrix, speed: Matrix, apart: Matrix) -> tuple[float, float]:
    """Percentiles of log(measured / predicted), the machine's speed included; each is predicted from the others."""
    measured = np.flatnonzero(np.isfinite(known))
    if measured.size < TELLING:
        return UNKNOWN
    errors = [
        known[place] + speed[place] - corrected(known, measured[measured != place], apart[place]) for place in measured
    ]
    low, high = np.percentile(errors, PERCENTILES)
    return min(0.0, float(low)), max(0.0, float(high))
