"""Minimal filtering: m adjacent outputs of a filter with r taps from m + r - 1 products instead of m r.

    outputs = output ((weights g) * (input d))

where the three matrices follow from m + r - 2 points and infinity (Toom, 1963; Cook, 1966; Winograd, "Arithmetic
complexity of computations", 1980; for convolution layers Lavin and Gray, "Fast algorithms for convolutional neural
networks", 2016). They are computed in exact rational arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final

Matrix = tuple[tuple[Fraction, ...], ...]

_PAIRS: Final = "0 1 -1 2 -2 1/2 -1/2"
_POINTS: Final = {4: "0 3/4 -3/4 8/5", 5: "0 2/3 -2/3 3/2 -3/2", 6: "0 1 -1 5/3 -5/3 1/3"}
POINTS: Final = tuple(
    tuple(map(Fraction, _POINTS.get(count, _PAIRS).split()[:count])) for count in range(len(_PAIRS.split()) + 1)
)
"""The points of an algorithm by their number: of those with small numerators and denominators, those of least `growth`.

Pairs of opposite sign halve the work; a fourth pair would cost two decimal digits. Four outputs of three taps lose half
as many bits with 2/3 and 3/2 as with 1 and 2 (a growth of 2.7 instead of 5.6; in two dimensions, of both squared).
"""

LARGEST: Final = len(POINTS)
"""Number of products of the largest tile, m + r - 1."""


@dataclass(frozen=True)
class ToomCook:
    """The matrices for m outputs and r taps, and their effect on rounding errors.

    Attributes:
        output: m x n, n = m + r - 1.
        weights: n x r.
        input: n x n.
        growth: Ratio of an output's rounding error to that of one product, for random data: the square root of
            sum_p output[i,p]^2 |weights[p]|^2 |input[p]|^2 / r, for the worst output i. The growth in two dimensions is
            the product of those of the two axes.
        amplification: Maximum ratio of the intermediate sums of an output to its own sum of |weights| max |input|: the
            largest sum_p |output[i,p] weights[p,r]| sum_q |input[p,q]|. In two dimensions, likewise the product.
    """

    output: Matrix
    weights: Matrix
    input: Matrix
    growth: float
    amplification: float


@cache
def toom_cook(outputs: int, taps: int) -> ToomCook:
    """The algorithm for given numbers of outputs and taps.

    Args:
        outputs: m, at least 1.
        taps: r, at least 1; m + r - 1 may be at most `LARGEST`.
    """
    products = outputs + taps - 1
    points = POINTS[products - 1]
    output = tuple((*(point**power for point in points), Fraction(power == outputs - 1)) for power in range(outputs))
    weights, rows = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = math.prod((point - other for other in others), start=Fraction(1))
        weights.append(tuple(point**power / scale for power in range(taps)))
        rows.append((*_polynomial(others), Fraction(0)))
    weights.append((*(Fraction(0) for _ in range(taps - 1)), Fraction(1)))
    rows.append(_polynomial(points))
    return ToomCook(
        output, tuple(weights), tuple(rows), _growth(output, weights, rows, taps), _amplification(output, weights, rows)
    )


def _polynomial(roots: tuple[Fraction, ...] | list[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root) over all roots, the constant term first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return tuple(coefficients)


def _growth(output: Matrix, weights: list[tuple[Fraction, ...]], rows: list[tuple[Fraction, ...]], taps: int) -> float:
    sizes = [
        float(sum(w * w for w in weight) * sum(d * d for d in row)) for weight, row in zip(weights, rows, strict=True)
    ]
    return max(
        math.sqrt(sum(float(a) ** 2 * size for a, size in zip(row, sizes, strict=True)) / taps) for row in output
    )


def _amplification(output: Matrix, weights: list[tuple[Fraction, ...]], rows: list[tuple[Fraction, ...]]) -> float:
    sizes = [sum(map(abs, row)) for row in rows]
    return float(
        max(
            sum(abs(a * weight[tap]) * size for a, weight, size in zip(row, weights, sizes, strict=True))
            for row in output
            for tap in range(len(weights[0]))
        )
    )
