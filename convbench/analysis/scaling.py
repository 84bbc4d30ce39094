"""Scaling laws: efficiency, serial fractions, and laws fitted to speedups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from convbench.analysis.statistics import Estimate, mean


def efficiency(speedup: float, cores: int) -> float:
    """Speedup per core."""
    return speedup / cores


def serial_fraction(speedup: float, cores: int) -> float:
    """The experimentally determined serial fraction, (1/S - 1/p) / (1 - 1/p).

    Karp and Flatt, "Measuring parallel processor performance", CACM 33(5), 1990. It is negative for a superlinear
    speedup, and grows with `cores` where overhead, not serial work, holds the speedup down.

    Args:
        speedup: Over one core.
        cores: At least 2.
    """
    return (1 / speedup - 1 / cores) / (1 - 1 / cores)


def scaled_serial_fraction(speedup: float, cores: int) -> float:
    """The serial fraction s of Gustafson's law, S(p) = p - s (p - 1), of the time on `cores` cores.

    Gustafson, "Reevaluating Amdahl's law", CACM 31(5), 1988.

    Args:
        speedup: Scaled: work done a second over work that one core did a second on its share.
        cores: At least 2.
    """
    return (cores - speedup) / (cores - 1)


def amdahl_fraction(speedups: Mapping[int, float]) -> float | None:
    """The serial fraction f of Amdahl's law, 1/S(p) = f + (1 - f)/p, that fits best (least squares in 1/S).

    Amdahl, "Validity of the single processor approach to achieving large scale computing capabilities", AFIPS 1967.

    Args:
        speedups: Speedup over one core for each core count; a count of one says nothing and is left out.

    Returns:
        The fraction; None if there is no count above one.
    """
    points = [(1 - 1 / cores, 1 / speedup - 1 / cores) for cores, speedup in speedups.items() if cores > 1]
    if not points:
        return None
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


USL_COUNTS: Final = 6  # core counts needed to fit three parameters with degrees of freedom left


@dataclass(frozen=True)
class Usl:
    """The Universal Scalability Law, S(p) = p / (1 + contention (p - 1) + coherency p (p - 1)), and its intervals.

    Gunther, "Guerrilla Capacity Planning", 2007. `contention` is Amdahl's serial fraction; `coherency` is the
    cost of every pair of cores, which makes the speedup fall again. Neither can be negative, nor are their intervals.
    """

    contention: Estimate
    coherency: Estimate

    @classmethod
    def of(cls, fits: Sequence[tuple[float, float]]) -> Self:
        """Mean over runs of what `usl` found in each, with its interval over runs."""
        contention, coherency = (_not_negative(mean(values)) for values in zip(*fits, strict=True))
        return cls(contention, coherency)


def usl(times: Mapping[int, float]) -> tuple[float, float] | None:
    """Fit the Universal Scalability Law to the times of one run; the time on one core has an error like the others.

    In times the law is linear, T(p) = a/p + b (p - 1)/p + c (p - 1) with contention b/a and coherency c/a, where `a` is
    the time on one core. The fit is least squares of relative deviations, since the deviation of times is proportional
    to them. Parameters may come out negative, so that their mean over runs is not biased.

    Args:
        times: Seconds for each core count.

    Returns:
        Contention and coherency; None with fewer than `USL_COUNTS` counts, or if no such law fits.
    """
    if len(times) < USL_COUNTS:
        return None
    cores, seconds = (np.array(values, float) for values in zip(*sorted(times.items()), strict=True))
    terms = np.stack([1 / cores, (cores - 1) / cores, cores - 1], axis=1)
    expected = seconds
    for _ in range(2):  # relative to the measured times, then to the fitted ones, so that the weights are free of noise
        one, contention, coherency = np.linalg.lstsq(terms / expected[:, None], seconds / expected, rcond=None)[0]
        expected = terms @ (one, contention, coherency)
        if one <= 0 or expected.min() <= 0:
            return None
    return float(contention / one), float(coherency / one)


def _not_negative(estimate: Estimate) -> Estimate:
    """The part of an estimate that is not negative; no interval if there is none, as for superlinear speedups."""
    value = max(0.0, estimate.value)
    if estimate.low is None or estimate.high is None:
        return Estimate(value, None, None, estimate.runs, estimate.lacks)
    if estimate.high < 0:
        return Estimate(value, None, None, estimate.runs, "speedups that are more than ideal do not follow the law")
    return Estimate(value, max(0.0, estimate.low), estimate.high, estimate.runs)
