"""Means over runs with confidence intervals. A run is the unit: samples within a run are never pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
LEAST_RUNS: Final = 3
"""Runs needed for an interval of a mean: of two it would reach 12.7 standard errors to either side."""
UPPER_QUANTILE: Final = 0.99
"""Quantile of a time's upper bound, instead of 0.975: a few runs seldom show the tail of their distribution."""
WIDEST_FACTOR: Final = 10.0
"""An interval with a bound further from the value than by this factor is not given: it says too little."""
LARGEST_LOGARITHM: Final = 700.0  # of the largest number that a float can hold
MEDIAN_RUNS: Final = 6
FEW: Final = f"a mean or a ratio takes {LEAST_RUNS} runs"
FEW_FOR_A_MEDIAN: Final = f"a median takes {MEDIAN_RUNS}"
FAR_APART: Final = f"runs that differ so much leave the value unknown to a factor of {WIDEST_FACTOR:g}"
SYMMETRIC: Final = 1e-6  # skewness below which none is corrected


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its confidence interval.

    Attributes:
        value: The mean.
        low: Lower bound; None, like `high`, where there are too few runs for an interval, or it is too wide.
        high: Upper bound.
        runs: How many.
        lacks: Why there is no interval, and what is needed for one.
        vast: The bounds of an interval that is too wide; it may still tell on which side of a number the value lies.
    """

    value: float
    low: float | None
    high: float | None
    runs: int
    lacks: str = ""
    vast: tuple[float, float] | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Bounds of the interval, however wide; None where there are too few runs for one."""
        return self.vast if self.low is None or self.high is None else (self.low, self.high)

    @property
    def reach(self) -> float | None:
        """Distance of the further bound from a positive value, as a share of the value; None without interval."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low) / self.value


def student(freedom: float, quantile: float = (1 + CONFIDENCE) / 2) -> float:
    """Half the width of a t interval in standard errors, with so many degrees of freedom."""
    from scipy import special  # importing scipy.stats takes half a second, before every sweep

    return float(special.stdtrit(freedom, quantile))


def mean(values: Sequence[float]) -> Estimate:
    """Arithmetic mean of any numbers with a t interval that is corrected for skewness.

    Student's interval assumes symmetric values; Hall's transformation removes the skewness first (Hall, "On the
    removal of skewness by transformation", J. R. Statist. Soc. B 54, 1992). Of symmetric values it is Student's.
    """
    array = np.asarray(values, float)
    centre = float(array.mean())
    if array.size < LEAST_RUNS:
        return Estimate(centre, None, None, array.size, FEW)
    quantile = student(array.size - 1)
    deviation = float(array.std(ddof=1))
    low, high = (_without_skewness(array, deviation, bound) for bound in (quantile, -quantile))
    return Estimate(centre, centre - deviation * low, centre - deviation * high, array.size)


def mean_time(values: Sequence[float]) -> Estimate:
    """Arithmetic mean of positive times with an interval on logarithms, so that it holds positive times alone.

    Hall's bounds, as in `mean`, are taken relative to the mean and as distances on logarithms (by the delta method the
    logarithm of the mean has the standard error of the mean over the mean). Times have a tail to the right that a few
    runs seldom show: the upper bound is the one for `UPPER_QUANTILE`, and of the skewness of n runs the share (n - 2)/n
    is used. In simulation (tests/test_analysis.py) three, five and ten runs cover the mean 93 to 97 % of
    the time, be they symmetric, log-normal, or a floor with an exponential tail; Student's interval covers 88 to 90 %
    of the last.
    """
    array = np.asarray(values, float)
    centre = float(array.mean())
    if array.size < LEAST_RUNS:
        return Estimate(centre, None, None, array.size, FEW)
    deviation = float(array.std(ddof=1))
    quantiles = (student(array.size - 1), -student(array.size - 1, UPPER_QUANTILE))
    believed = 1 - 2 / array.size
    low, high = (-deviation / centre * _without_skewness(array, deviation, bound, believed) for bound in quantiles)
    logarithm = math.log(centre)
    return exponential(logarithm, (logarithm + low, logarithm + high), centre, array.size)


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values, with the interval of `mean` on their logarithms."""
    logarithm = mean([float(x) for x in np.log(values)])
    value = math.exp(logarithm.value)
    if logarithm.low is None or logarithm.high is None:
        return Estimate(value, None, None, logarithm.runs, FEW)
    return exponential(logarithm.value, (logarithm.low, logarithm.high), value, logarithm.runs)


def median(values: Sequence[float]) -> Estimate:
    """Median with an interval from ranks, which holds for any distribution; it takes six values or more."""
    from scipy import stats

    array = np.asarray(values, float)
    interval: Any = stats.quantile_test(array, p=0.5).confidence_interval(CONFIDENCE)
    known = np.isfinite(interval.low) and np.isfinite(interval.high)
    if not known:
        return Estimate(float(np.median(array)), None, None, array.size, FEW_FOR_A_MEDIAN)
    return Estimate(float(np.median(array)), float(interval.low), float(interval.high), array.size)


def exponential(logarithm: float, bounds: tuple[float, float], value: float, runs: int) -> Estimate:
    """An interval of logarithms as one of the values; `FAR_APART` if a side is wider than `WIDEST_FACTOR`."""
    low, high = (float(np.exp(np.clip(bound, -LARGEST_LOGARITHM, LARGEST_LOGARITHM))) for bound in bounds)
    low, high = min(value, low), max(value, high)
    if max(logarithm - bounds[0], bounds[1] - logarithm) > math.log(WIDEST_FACTOR):
        return Estimate(value, None, None, runs, FAR_APART, (low, high))
    return Estimate(value, low, high, runs)


def _without_skewness(array: NDArray[np.float64], deviation: float, quantile: float, believed: float = 1) -> float:
    """A quantile of the studentised mean, in standard deviations of one value.

    `believed` is the share of the values' skewness that is removed.
    """
    root = np.sqrt(array.size)
    skewness = believed * float(np.mean(((array - array.mean()) / deviation) ** 3)) if deviation else 0.0
    if abs(skewness) < SYMMETRIC:
        return float(quantile / root)
    return float((np.cbrt(1 + skewness * (quantile / root - skewness / (6 * array.size))) - 1) * 3 / skewness)
