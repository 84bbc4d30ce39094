"""Scaling laws: what is left of ideal speedup, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convbench.analysis.statistics import Estimate, student


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


def amdahl_speedup(fraction: float, cores: float) -> float:
    """The speedup that Amdahl's law gives for a serial fraction."""
    return 1 / (fraction + (1 - fraction) / cores)


USL_COUNTS: Final = 6  # core counts that it takes to fit three parameters with something to spare


@dataclass(frozen=True)
class Usl:
    """The Universal Scalability Law, S(p) = p / (1 + contention (p - 1) + coherency p (p - 1)), and its intervals.

    Gunther, "Guerrilla Capacity Planning", 2007. `contention` is Amdahl's serial fraction; `coherency` is what every
    pair of cores costs, which makes the speedup fall again.
    """

    contention: Estimate
    coherency: Estimate


def usl(speedups: Mapping[int, float]) -> Usl | None:
    """Fit the Universal Scalability Law by least squares; both parameters are kept from being negative.

    Args:
        speedups: Speedup over one core for each core count, that of one among them.

    Returns:
        The parameters with intervals from the fit's covariance; None with fewer than `USL_COUNTS` counts.
    """
    from scipy.optimize import curve_fit

    if len(speedups) < USL_COUNTS:
        return None
    cores, measured = (np.array(values, float) for values in zip(*sorted(speedups.items()), strict=True))

    def law(p: NDArray[np.float64], contention: float, coherency: float) -> NDArray[np.float64]:
        return p / (1 + contention * (p - 1) + coherency * p * (p - 1))

    found, covariance = curve_fit(law, cores, measured, p0=(0.05, 0.001), bounds=(0, np.inf))
    half = student(cores.size - 2) * np.sqrt(np.diag(covariance))
    contention, coherency = (
        Estimate(float(value), max(0.0, float(value - h)), float(value + h), cores.size)
        for value, h in zip(found, half, strict=True)
    )
    return Usl(contention, coherency)
