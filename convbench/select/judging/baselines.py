"""Ways to choose that need no model: what a selection model has to be better than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convbench.executors import EXECUTORS
from convbench.preference import PREFERENCE
from convbench.problem import Problem
from convbench.select.contenders import candidate_of
from convbench.select.judging.picker import Pick, Picker, in_order
from convbench.select.judging.shape_features import feature_matrix, features
from convbench.select.judging.table import Table, form_of

BEST_SINGLE: Final = "best-single"
ONE_SPLIT: Final = "one-split"
FIXED_ORDER: Final = "fixed-order"
PREFERRED_EXECUTORS: Final = ("threads", "serial")
"""Those that `conv2d` has always computed on, in order; on one core they are the same."""


def baselines(table: Table) -> Mapping[str, Picker]:
    """The baselines of a table, by name.

    - `always-X` for each form: its best executor and number of cores; where it cannot, as `best-single` falls back.
    - `best-single`: the candidate of the least mean regret on the training side. Where it cannot, the next that can, in
      the order of how many problems they can and of their mean regret.
    - `one-split`: of all trees with one threshold on one feature and a candidate on either side, the best on the
      training side.
    - `fixed-order`: the order of preference in `convbench.preference`, on the most cores; for candidates of ours alone.
    """
    found: dict[str, Picker] = {f"always-{form}": partial(always, form) for form in forms(table)}
    found |= {BEST_SINGLE: best_single, ONE_SPLIT: one_split}
    if any(candidate_of(name) is not None for name in table.candidates):
        found[FIXED_ORDER] = fixed_order
    return found


def forms(table: Table) -> tuple[str, ...]:
    """The forms of a table's candidates, in its order."""
    return tuple(dict.fromkeys(map(form_of, table.candidates)))


def fallback(table: Table) -> list[int]:
    """Columns in the order in which they stand in for a candidate that cannot: those that can most often first."""
    unable = (~table.able).sum(axis=0)
    sums = np.nansum(table.regrets, axis=0)
    means = np.divide(sums, table.able.sum(axis=0), out=np.full(len(sums), np.inf), where=table.able.any(axis=0))
    return sorted(range(len(table.candidates)), key=lambda column: (unable[column], means[column], column))


def filled(table: Table) -> NDArray[np.float64]:
    """Regrets, where a candidate that cannot has that of its stand-in."""
    regrets, order = table.regrets, fallback(table)
    if not table.problems:
        return np.zeros_like(regrets)
    stand_in = np.array(order)[table.able[:, order].argmax(axis=1)]
    instead = regrets[np.arange(len(stand_in)), stand_in]
    return np.where(table.able, regrets, instead[:, np.newaxis])


def best_single(table: Table) -> Pick:
    """The candidate of the least mean regret."""
    return in_order(_first(int(filled(table).sum(axis=0).argmin()), fallback(table)))


def always(form: str, table: Table) -> Pick:
    """The best candidates of a form."""
    sums = filled(table).sum(axis=0)
    of_form = [column for column, name in enumerate(table.candidates) if form_of(name) == form]
    order = sorted(of_form, key=lambda column: (sums[column], column))
    return in_order([*order, *(column for column in fallback(table) if column not in order)])


def fixed_order(table: Table) -> Pick:
    """The forms in their order of preference, on the most cores, then whatever can."""
    preferred = PREFERENCE["numba"]

    def place(column: int) -> tuple[int, ...]:
        candidate = candidate_of(table.candidates[column])
        if candidate is None or candidate.algorithm not in preferred:
            return (len(EXECUTORS) + 1, 0, 0, column)
        of_executor = [*PREFERRED_EXECUTORS, *EXECUTORS].index(candidate.executor)
        usual = 0 if candidate.executor in PREFERRED_EXECUTORS else 1 + of_executor
        return (usual, preferred.index(candidate.algorithm), -candidate.cores, of_executor)

    return in_order(sorted(range(len(table.candidates)), key=place))


def one_split(table: Table) -> Pick:
    """The best tree of one threshold; the best single candidate where no threshold is better."""
    regrets, values, order = filled(table), feature_matrix(table.problems), fallback(table)
    total = regrets.sum(axis=0)
    if not len(total) or not len(values):
        return in_order(order)
    least, side = float(total.min()), (0, np.inf, int(total.argmin()), int(total.argmin()))
    for feature in range(values.shape[1]):
        by = values[:, feature].argsort(kind="stable")
        ascending = values[by, feature]
        below = regrets[by].cumsum(axis=0)[:-1]
        above = total - below
        cost = np.where(ascending[1:] > ascending[:-1], below.min(axis=1) + above.min(axis=1), np.inf)
        if len(cost) and cost.min() < least - 1e-12 * len(values):  # rounding is no gain
            cut = int(cost.argmin())
            least = float(cost[cut])
            threshold = (ascending[cut] + ascending[cut + 1]) / 2
            side = (feature, threshold, int(below[cut].argmin()), int(above[cut].argmin()))
    feature, threshold, low, high = side
    at_most, over = in_order(_first(low, order)), in_order(_first(high, order))

    def pick(problem: Problem, able: Sequence[int]) -> int | None:
        return (at_most if features(problem)[feature] <= threshold else over)(problem, able)

    return pick


def _first(column: int, order: Sequence[int]) -> list[int]:
    """A column, then the others in their order."""
    return [column, *(other for other in order if other != column)]
