"""Means over runs with confidence intervals. A run is the unit: samples within a run are never pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over runs and its confidence interval; `low` and `high` are None where one run is too few for one."""

    value: float
    low: float | None
    high: float | None
    runs: int


def mean(values: Sequence[float]) -> Estimate:
    """Arithmetic mean with a Student t interval."""
    array = np.asarray(values, float)
    centre = float(array.mean())
    if array.size < 2:
        return Estimate(centre, None, None, array.size)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size))
    return Estimate(centre, centre - half, centre + half, array.size)


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values, with a t interval on their logarithms."""
    logarithm = mean([float(x) for x in np.log(values)])
    low, high = (None if bound is None else float(np.exp(bound)) for bound in (logarithm.low, logarithm.high))
    return Estimate(float(np.exp(logarithm.value)), low, high, logarithm.runs)
