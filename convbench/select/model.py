"""The model of a machine: seconds for each kind of counted work, corrected by the nearest measured problems.

    seconds = sum over kinds of (count * seconds of one) * exp(correction)

The counts are known beforehand: forms count their own multiply-adds, loads, bytes and transforms, see
`Algorithm.cost`. The seconds of one are fitted to measurements, see `fitting`. The correction is the mean of
log(measured / counted) of the measured problems that are most alike, weighted by likeness; far from everything measured
it vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convbench.problem import Problem
from convbench.select.contenders import candidate_of, counted
from convbench.select.likeness import Matrix, coordinates, distances

NEIGHBOURS: Final = 8  # measured problems that correct a prediction
NEAR: Final = 1.0  # distance at which a neighbour counts for a quarter of one at the place itself
PRIOR: Final = 0.05  # weight of no correction; a neighbour at distance d has 1 / (d + NEAR) ** 2
MOST_CORRECTED: Final = math.log(4)  # a problem whose time is further off was disturbed, and corrects no further


class Estimate(NamedTuple):
    """Seconds of a call, and the interval in which 90 % of such calls are expected."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True)
class Rates:
    """What is known of one contender.

    Attributes:
        seconds: Seconds of one of each kind of work.
        packing: Seconds of one of each kind of work in packing the weights.
        error: The 5th and the 95th percentile of log(measured / predicted), each problem predicted from the others.
    """

    seconds: Mapping[str, float]
    packing: Mapping[str, float]
    error: tuple[float, float]

    def of(self, counts: Mapping[str, float]) -> float:
        """Seconds of so much work."""
        return sum(each * counts.get(count, 0.0) for count, each in self.seconds.items())

    def of_packing(self, counts: Mapping[str, float]) -> float:
        """Seconds of packing."""
        return sum(each * counts.get(count, 0.0) for count, each in self.packing.items())


@dataclass(frozen=True)
class Model:
    """What is known of a machine.

    Attributes:
        rates: By the name of the contender.
        problems: Descriptors of the measured problems.
        points: Coordinates of the measured problems, shape (problems, coordinates).
        corrections: For each contender log(measured / counted) of each of them; NaN where it was not measured.
    """

    rates: Mapping[str, Rates]
    problems: tuple[str, ...]
    points: Matrix
    corrections: Mapping[str, Matrix]

    @cached_property
    def measured(self) -> Mapping[str, NDArray[np.intp]]:
        """Indices of the problems that each contender was measured on."""
        return {name: np.flatnonzero(np.isfinite(known)) for name, known in self.corrections.items()}

    def predict(self, problem: Problem, names: Iterable[str]) -> dict[str, Estimate]:
        """Estimates of contenders; those that the model does not know are left out."""
        apart = self._apart(problem)
        estimates = {name: self._estimate(problem, name, apart) for name in names}
        return {name: estimate for name, estimate in estimates.items() if estimate is not None}

    def _estimate(self, problem: Problem, name: str, apart: Matrix) -> Estimate | None:
        like = self.like(name)
        if like is None:
            return None
        rates = self.rates[like]
        work = rates.of(counted(problem, name))
        if work <= 0:  # of kinds that no measured problem had
            return None
        seconds = work * math.exp(corrected(self.corrections[like], self.measured[like], apart))
        low, high = rates.error
        return Estimate(seconds, seconds * math.exp(low), seconds * math.exp(high))

    def _apart(self, problem: Problem) -> Matrix:
        """Distances of the measured problems."""
        return distances(self.points, coordinates(problem)) if len(self.points) else np.zeros(0)

    def without(self, problem: Problem) -> Model:
        """The model as if a problem had not been measured, but for the rates."""
        left = [place for place, descriptor in enumerate(self.problems) if descriptor != str(problem)]
        corrections = {name: known[left] for name, known in self.corrections.items()}
        return replace(
            self, problems=tuple(self.problems[n] for n in left), points=self.points[left], corrections=corrections
        )

    def like(self, name: str) -> str | None:
        """The contender whose rates apply: itself, or the same form and executor on the nearest count of cores."""
        if name in self.rates or (wanted := candidate_of(name)) is None:
            return name if name in self.rates else None
        same = {
            known: candidate.cores
            for known in self.rates
            if (candidate := candidate_of(known)) is not None
            and (candidate.algorithm, candidate.executor) == (wanted.algorithm, wanted.executor)
        }
        return min(same, key=lambda known: abs(math.log(same[known] / wanted.cores)), default=None)

    def packing(self, problem: Problem, name: str) -> float:
        """Seconds that packing the weights is expected to take; 0 if unknown."""
        like = self.like(name)
        return 0.0 if like is None else self.rates[like].of_packing(counted(problem, name))


def corrected(known: Matrix, measured: NDArray[np.intp], apart: Matrix) -> float:
    """The weighted mean of the corrections `known` of the nearest problems among `measured`."""
    if not measured.size:
        return 0.0
    near = measured
    if measured.size > NEIGHBOURS:
        near = measured[np.argpartition(apart[measured], NEIGHBOURS - 1)[:NEIGHBOURS]]
    weights = 1 / np.square(apart[near] + NEAR)
    return float(weights @ known[near] / (weights.sum() + PRIOR))
