"""Evidence that runs give for a ratio of two times: an estimate, an interval, and p-values of other ratios.

All ratios are natural logarithms here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from convbench.analysis.statistics import LEAST_RUNS

DRIFT_SHARE: Final = 0.1  # of the variance between runs is common to a sweep; found in sweeps of the same code
FASTER_SHARE: Final = 1 / 3  # of a version's runs are used: the others may have been disturbed
NEIGHBOURS: Final = 3  # runs before and after one that show how fast the machine was then
ROUNDS: Final = 3  # of selecting the faster runs
ALL_EXCHANGES: Final = 12  # runs up to which all exchanges of the versions are tried
SOME_EXCHANGES: Final = 2 ** (ALL_EXCHANGES - 1)  # random exchanges beyond that
NEAREST: Final = 0.01  # distance from the estimate at which the search for an interval's end begins, ...
FURTHEST: Final = 64.0  # ... and at which it is given up
HALVINGS: Final = 10  # of the range that is left to search


class Evidence(Protocol):
    """Evidence for a ratio."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def runs(self) -> int:
        """Runs of the version that has fewer."""

    def p_value(self, ratio: float) -> float:
        """The two-sided p-value: the probability of such runs, or more extreme ones, if `ratio` is the true one."""

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """The ratios whose p-value is above `alpha`; None where the runs are too few for any to be below."""


@dataclass(frozen=True)
class Runs:
    """Seconds of a cell in each run of a sweep, and seconds of the fixed piece of work in the same run."""

    times: Sequence[float]
    speeds: Sequence[float]


class Independent:
    """Evidence of sweeps that were measured one after the other.

    Two tests have to agree: Welch's on the logarithms of runs ("The generalization of Student's problem", 1947), and
    the same of times in units of the fixed piece of work, with `DRIFT_SHARE` of the variance between runs assumed to be
    common to all runs of a sweep, so that it does not average out.
    """

    def __init__(self, first: Runs, second: Runs) -> None:
        times = [np.log(runs.times) for runs in (first, second)]
        units = [np.log(runs.speeds) for runs in (first, second)]
        self.runs = min(len(first.times), len(second.times))
        self.value = float(times[1].mean() - times[0].mean())
        self._tests: list[tuple[float, float, float]] = []  # difference, standard error, degrees of freedom
        if self.runs >= LEAST_RUNS:
            self._tests = [
                _welch(times[0], times[1], 0.0),
                _welch(times[0] - units[0], times[1] - units[1], DRIFT_SHARE),
            ]

    def p_value(self, ratio: float) -> float:
        """The larger one of the two tests' p-values; 1 where there are too few runs."""
        return max((_p_of_t(difference - ratio, *rest) for difference, *rest in self._tests), default=1.0)

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """The union of the two tests' intervals."""
        if not self._tests:
            return None
        from scipy import special

        halves = [(centre, special.stdtrit(freedom, 1 - alpha / 2) * error) for centre, error, freedom in self._tests]
        return min(float(centre - half) for centre, half in halves), max(
            float(centre + half) for centre, half in halves
        )


@dataclass(frozen=True)
class InTurns:
    """Evidence of versions that were measured in turns, by exchanging the two times of runs.

    If both take the same time, any exchange in any of the runs is as likely as the observation, whatever the host did
    (Fisher's randomisation test, "The design of experiments", 1935). The statistic is the difference between the means
    of the logarithms of each version's faster runs: disturbances make runs slower, so the faster runs were disturbed
    least. How fast a run is, is relative to the fastest of both versions in the runs around it, since a machine becomes
    faster and slower for minutes; exchanges do not change that.

    Attributes:
        times: Logarithms of seconds, a row for each version and a column for each run.
    """

    times: NDArray[np.float64]

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> Self:
        """From seconds of each run, in the same order of runs; at least one run."""
        return cls(np.log([first, second]))

    @property
    def runs(self) -> int:
        """Runs that both have."""
        return int(self.times.shape[1])

    @cached_property
    def value(self) -> float:
        """Difference of the means of the faster runs; which are faster depends on it, so it is iterated."""
        found = float(np.median(self.times[1] - self.times[0]))
        for _ in range(ROUNDS):
            first, second = self._levelled(found)
            found += float(_of_faster_runs(second) - _of_faster_runs(first))
        return found

    def p_value(self, ratio: float) -> float:
        """The share of exchanges with at least as large a difference, once the second is divided by `ratio`."""
        exchanged = _exchanges(self.runs)
        first, second = self._levelled(ratio)
        differences = _of_faster_runs(np.where(exchanged, first, second))
        differences -= _of_faster_runs(np.where(exchanged, second, first))
        seen = abs(differences[0])  # no exchange
        return float(np.mean(abs(differences) >= seen - 1e-12 * (1 + seen)))

    def _levelled(self, ratio: float) -> NDArray[np.float64]:
        """Times with the second divided by `ratio`, all relative to the fastest of the runs around them."""
        times = self.times - [[0.0], [ratio]]
        fastest = times.min(axis=0)
        around = [fastest[max(0, run - NEIGHBOURS) : run + NEIGHBOURS + 1].min() for run in range(self.runs)]
        return np.asarray(times - around)

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """Every ratio that is not rejected; bisection finds the ends."""
        ends = [self._end(alpha, side) for side in (-1, 1)]
        return None if any(map(math.isnan, ends)) else (ends[0], ends[1])

    def _end(self, alpha: float, side: int) -> float:
        near, far = 0.0, NEAREST
        while self.p_value(self.value + side * far) > alpha:
            near, far = far, 2 * far
            if far > FURTHEST:
                return math.nan
        if side * self.value < 0 and self.p_value(0.0) <= alpha:  # the interval leaves out 1 if the test does
            near, far = (near if near < abs(self.value) else 0.0), min(far, abs(self.value))
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            near, far = (near, middle) if self.p_value(self.value + side * middle) <= alpha else (middle, far)
        return self.value + side * far


def discoveries(p_values: Sequence[float], level: float) -> int:
    """How many of several hypotheses to reject so that a share of `level` of these is expected to be true.

    Those with the k smallest p-values are rejected, for the largest k whose k-th p-value is at most `level` * k / n.
    """
    ranked = enumerate(sorted(p_values), 1)
    return max((rank for rank, p_value in ranked if p_value <= level * rank / len(p_values)), default=0)


def _of_faster_runs(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the smallest `FASTER_SHARE` of the last axis, rounded up."""
    count = math.ceil(FASTER_SHARE * times.shape[-1] - 1e-9)
    return np.asarray(np.partition(times, count - 1, axis=-1)[..., :count].mean(axis=-1))


@cache
def _exchanges(runs: int) -> NDArray[np.bool_]:
    """Runs in which the versions are exchanged, a row for each exchange; none in the first row.

    The first run is never exchanged: exchanging all the others in its place only changes the sign of the difference.
    """
    if runs <= ALL_EXCHANGES:
        return np.array([(False, *rest) for rest in itertools.product((False, True), repeat=runs - 1)])
    some = np.random.default_rng(0).random((SOME_EXCHANGES, runs)) < 0.5
    some[0] = some[:, 0] = False
    return some


def _welch(one: NDArray[np.float64], other: NDArray[np.float64], shared: float) -> tuple[float, float, float]:
    """Difference of means, its standard error and degrees of freedom; `shared` of the variance does not average out."""
    parts = [float(times.var(ddof=1)) * (1 / times.size + shared) for times in (one, other)]
    variance = sum(parts)
    degrees = [times.size - 1 for times in (one, other)]
    below = sum(part**2 / degree for part, degree in zip(parts, degrees, strict=True))
    freedom = variance**2 / below if below else float(sum(degrees))
    return float(other.mean() - one.mean()), math.sqrt(variance), freedom


def _p_of_t(difference: float, error: float, freedom: float) -> float:
    from scipy import special

    if not error:
        return float(not difference)
    return float(2 * special.stdtr(freedom, -abs(difference) / error))
