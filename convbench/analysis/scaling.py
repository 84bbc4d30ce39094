"""Scaling laws: what is left of ideal speedup, and why."""

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


USL_COUNTS: Final = 6  # core counts that it takes to fit three parameters with something to spare


@dataclass(frozen=True)
class Usl:
    """The Universal Scalability Law, S(p) = p / (1 + contention (p - 1) + coherency p (p - 1)), and its intervals.

    Gunther, "Guerrilla Capacity Planning", 2007. `contention` is Amdahl's serial fraction; `coherency` is what every
    pair of cores costs, which makes the speedup fall again. The law lets neither be negative, so no interval is.
    """

    contention: Estimate
    coherency: Estimate

    @classmethod
    def of(cls, fits: Sequence[tuple[float, float]]) -> Self:
        """Mean over runs of what `usl` found in each, with its interval over runs."""
        contention, coherency = (_not_negative(mean(values)) for values in zip(*fits, strict=True))
        return cls(contention, coherency)


def usl(times: Mapping[int, float]) -> tuple[float, float] | None:
    """Fit the Universal Scalability Law to the times of one run, that on one core with the error that it has.

    In times the law is linear, T(p) = a/p + b (p - 1)/p + c (p - 1) with contention b/a and coherency c/a, where `a` is
    the time on one core. It is fitted by least squares of relative deviations, since times vary by a share of
    themselves. Parameters may come out negative, so that their mean over runs is not biased.

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
    for _ in range(2):  # relative to what was measured, then to what was fitted, so that noise is not in the weights
        one, contention, coherency = np.linalg.lstsq(terms / expected[:, None], seconds / expected, rcond=None)[0]
        expected = terms @ (one, contention, coherency)
        if one <= 0 or expected.min() <= 0:
            return None
    return float(contention / one), float(coherency / one)


def _not_negative(estimate: Estimate) -> Estimate:
    """What of an estimate the law allows; no interval if that is nothing, as where speedups are superlinear."""
    value = max(0.0, estimate.value)
    if estimate.low is None or estimate.high is None:
        return Estimate(value, None, None, estimate.runs, estimate.lacks)
    if estimate.high < 0:
        return Estimate(value, None, None, estimate.runs, "speedups that are more than ideal do not follow the law")
    return Estimate(value, max(0.0, estimate.low), estimate.high, estimate.runs)
