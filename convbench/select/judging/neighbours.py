"""A model that looks up the nearest measured problems.

Shapes are compared by the logarithms of their features. What a candidate is expected to take, as a ratio to the fastest
one, is the geometric mean of that ratio over the nearest problems that it was measured on; nearer ones weigh more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from convbench.problem import Problem
from convbench.select.judging.picker import Pick
from convbench.select.judging.shape_features import FEATURES, feature_matrix, features
from convbench.select.judging.table import Table

WEIGHTS: Final[Mapping[str, float]] = {
    "channels of a filter": 1.0,
    "filters of a group": 1.0,
    "groups": 1.0,
    "kernel rows": 2.0,
    "kernel columns": 2.0,
    "stride": 0.5,
    "dilation": 0.5,
    "batch": 1.0,
    "output pixels": 1.0,
    "output columns": 1.0,
}
"""How far a factor of two in a feature takes problems apart; the other features follow from these."""
NEAREST: Final = 3
NEAR: Final = 0.1
"""Distance below which it does not matter how near a problem is."""
REACH: Final = 50
"""How many problems are looked at first; where they do not tell of every candidate, all are."""


def neighbours(table: Table, nearest: int = NEAREST) -> Pick:
    """Learn from a table: at most `nearest` problems tell of each candidate."""
    weights = np.array([WEIGHTS.get(name, 0.0) for name in FEATURES])
    places = np.log2(feature_matrix(table.problems)) * weights
    logarithms, able_there = np.log1p(table.regrets), table.able
    enough = np.minimum(able_there.sum(axis=0), nearest)

    def pick(problem: Problem, able: Sequence[int]) -> int | None:
        distances = np.abs(places - np.log2(features(problem)) * weights).sum(axis=1)
        order = distances.argsort(kind="stable")
        reach = order[:REACH]
        if (able_there[reach].sum(axis=0) < enough).any():
            reach = order
        known = able_there[reach]
        told = known & (known.cumsum(axis=0) <= nearest)
        shares = told / (distances[reach] + NEAR)[:, np.newaxis]
        sums = (shares * np.where(told, logarithms[reach], 0.0)).sum(axis=0)
        total = shares.sum(axis=0)
        expected = np.divide(sums, total, out=np.full(len(total), np.inf), where=total > 0)
        return min(able, key=expected.__getitem__)

    return pick
