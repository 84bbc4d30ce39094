"""Bounds and estimates of the rounding errors of outputs.

u is the unit roundoff of a dtype, half of its epsilon; gamma(n) = n u / (1 - n u) bounds the relative error of n
consecutive roundings (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1).

A form may begin its sums with the bias, which then takes part in all of their roundings. The bounds hold with the
largest |bias| added to what they are relative to. The estimates hold for biases that are not much larger than the sums:
beside a far larger one, digits of every product are lost. ReLU has no error and enlarges none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from convbench.problem import Problem

TF32_ROUNDOFF: Final = 2.0**-10  # error of a tensor core that truncates a factor; most round, with half that error
TF32_ESTIMATE: Final = 2.0**-9  # both factors of every product are rounded


@dataclass(frozen=True)
class Errors:
    """Rounding errors of the outputs of a form of the convolution.

    Attributes:
        bound: Upper bound of the error of any output, divided by max |x| times the largest sum of |weights| of one
            filter, which no output exceeds. It holds for all finite inputs and weights for which no intermediate
            result, packed weights and transforms included, overflows or falls below the smallest normal number.
        estimate: Estimate of the largest error of an output, divided by the largest output, for inputs that are
            independent random numbers of mean zero, weights of similar magnitude, and at least a few dozen inputs and
            outputs; it was not exceeded in many random problems. Where a few weights are far larger than the others, or
            an output depends on few inputs, the largest output varies widely and only the bound holds.
    """

    bound: float
    estimate: float


@cache
def unit_roundoff(dtype: str) -> float:
    """u, the largest relative error of one rounding."""
    return float(np.finfo(dtype).eps) / 2


def gamma(roundings: float, dtype: str) -> float:
    """Bound of the relative error of consecutive roundings; infinity where they are too many for a bound."""
    product = roundings * unit_roundoff(dtype)
    return product / (1 - product) if product < 1 else math.inf


def of_sums(problem: Problem) -> Errors:
    """Errors of outputs that are sums over all taps in any order.

    The bound is Higham's for inner products. If roundings are independent, errors grow with the square root of their
    number (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019).
    """
    estimate = unit_roundoff(problem.dtype) * math.sqrt(9 + 2 * problem.taps)
    return Errors(gamma(problem.taps + 1, problem.dtype), estimate)


def of_sums_in_tf32(problem: Problem) -> Errors:
    """Errors of such sums on tensor cores, whose additions truncate to float32 instead of rounding."""
    return Errors(2.5 * TF32_ROUNDOFF + gamma(2 * (problem.taps + 1), "float32"), TF32_ESTIMATE)
