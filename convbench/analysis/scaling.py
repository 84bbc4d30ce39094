"""Scaling laws: what is left of ideal speedup, and why."""

from __future__ import annotations

from collections.abc import Mapping


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
