"""How far rounding errors can take an output, and how far they are expected to.

u is the unit roundoff of a dtype, half of its epsilon; gamma(n) = n u / (1 - n u) bounds what n roundings in a row can
do to a number (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1).

A form may begin its sums with the bias, which then takes part in all of their roundings. The bounds hold with the
largest |bias| added to what they are relative to. The estimates hold for biases that are not much larger than the sums:
beside a far larger one, digits of every product are lost. ReLU has no error and enlarges none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from convbench.problem import Problem

TF32_ROUNDOFF: Final = 2.0**-10  # what a tensor core may cut off a factor; most round, and err by half of that
TF32_ESTIMATE: Final = 2.0**-9  # both factors of every product are rounded


@dataclass(frozen=True)
class Errors:
    """Rounding errors of the outputs of a form of the convolution.

    Attributes:
        bound: For every finite input and finite weights with which nothing on the way overflows or falls below the
            smallest normal number, packed weights and the numbers of a transform included: of any output, over max |x|
            times the largest sum of |weights| of one filter, which is what no output exceeds.
        estimate: Of the largest output error over the largest output, where inputs are independent random numbers of
            mean zero, weights are of like size, and there are some dozens of inputs and of outputs or more; for many
            random problems it was never exceeded. Where a few weights are far larger than the others, or few inputs
            take part, the largest output is an accident and the bound is all that holds.
    """

    bound: float
    estimate: float


def unit_roundoff(dtype: str) -> float:
    """u, the largest relative error of one rounding."""
    return float(np.finfo(dtype).eps) / 2


def gamma(roundings: float, dtype: str) -> float:
    """What so many roundings in a row can do at most; infinity where they are too many for a bound."""
    product = roundings * unit_roundoff(dtype)
    return product / (1 - product) if product < 1 else math.inf


def of_sums(problem: Problem) -> Errors:
    """Of outputs that are sums over all taps in whatever order.

    The bound is Higham's for inner products. Where roundings are independent, errors grow with the root of their number
    (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019).
    """
    estimate = unit_roundoff(problem.dtype) * math.sqrt(9 + 2 * problem.taps)
    return Errors(gamma(problem.taps + 1, problem.dtype), estimate)


def of_sums_in_tf32(problem: Problem) -> Errors:
    """Of such sums on tensor cores, whose additions cut off what float32 cannot hold, rather than round it."""
    return Errors(2.5 * TF32_ROUNDOFF + gamma(2 * (problem.taps + 1), "float32"), TF32_ESTIMATE)
