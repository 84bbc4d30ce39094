"""Means over runs with confidence intervals. A run is the unit: samples within a run are never pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
SYMMETRIC: Final = 1e-6  # skewness below which there is nothing to correct


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its confidence interval; `low` and `high` are None where there are too few runs for one."""

    value: float
    low: float | None
    high: float | None
    runs: int


def student(freedom: float) -> float:
    """How far a t interval reaches, in standard errors, with so many degrees of freedom."""
    from scipy import special  # all of scipy.stats would take half a second, before every sweep

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def mean(values: Sequence[float]) -> Estimate:
    """Arithmetic mean with a t interval that is corrected for skewness.

    Times have a long tail to the right; Student's interval, which takes them to be symmetric, then covers the mean too
    rarely (90 instead of 95 % for ten exponential ones). Hall's transformation removes the skewness first (Hall, "On
    the removal of skewness by transformation", J. R. Statist. Soc. B 54, 1992); of symmetric values it is Student's.
    """
    array = np.asarray(values, float)
    centre = float(array.mean())
    if array.size < 2:
        return Estimate(centre, None, None, array.size)
    quantile = student(array.size - 1)
    deviation = float(array.std(ddof=1))
    low, high = (_without_skewness(array, deviation, bound) for bound in (quantile, -quantile))
    return Estimate(centre, centre - deviation * low, centre - deviation * high, array.size)


def median(values: Sequence[float]) -> Estimate:
    """Median with an interval from ranks, which asks nothing of the distribution; it takes six values or more."""
    from scipy import stats

    array = np.asarray(values, float)
    interval: Any = stats.quantile_test(array, p=0.5).confidence_interval(CONFIDENCE)
    known = np.isfinite(interval.low) and np.isfinite(interval.high)
    low, high = (float(interval.low), float(interval.high)) if known else (None, None)
    return Estimate(float(np.median(array)), low, high, array.size)


def _without_skewness(array: NDArray[np.float64], deviation: float, quantile: float) -> float:
    """Where the studentised mean has a quantile, in standard deviations of one value."""
    root = np.sqrt(array.size)
    skewness = float(np.mean((array - array.mean()) ** 3)) / deviation**3 if deviation else 0.0
    if abs(skewness) < SYMMETRIC:
        return float(quantile / root)
    return float((np.cbrt(1 + skewness * (quantile / root - skewness / (6 * array.size))) - 1) * 3 / skewness)


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values, with the interval of `mean` on their logarithms."""
    logarithm = mean([float(x) for x in np.log(values)])
    low, high = (None if bound is None else float(np.exp(bound)) for bound in (logarithm.low, logarithm.high))
    return Estimate(float(np.exp(logarithm.value)), low, high, logarithm.runs)
