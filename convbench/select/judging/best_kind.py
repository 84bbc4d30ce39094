"""The kind of model that suits a table best, found on the table alone.

A machine that was tuned has hundreds of problems of our own forms, and counted work is best for them, see
docs/selection.md. A small table, or one of somebody else's candidates, whose work nobody can count beforehand, may suit
another kind; a few of its rows are held out in turn to find out which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from convbench.select.contenders import candidate_of
from convbench.select.judging.baselines import best_single, one_split
from convbench.select.judging.counted_work import counted_work, counted_work_alone
from convbench.select.judging.neighbours import neighbours
from convbench.select.judging.picker import Pick, Picker
from convbench.select.judging.table import Table

KINDS: Final[Mapping[str, Picker]] = {
    "counted work": counted_work,
    "counted work alone": counted_work_alone,
    "neighbours": neighbours,
    "one split": one_split,
    "best single": best_single,
}
"""Kinds, the first of several equally good ones first."""
ENOUGH: Final = 200  # problems of our own candidates, for which it need not be found out
PARTS: Final = 4
LARGE: Final = 1.0  # regrets count as at most this, so that one wild time does not decide


def best_kind(table: Table) -> Pick:
    """The pick of the kind whose mean regret is least on held-out rows of the table."""
    ours = any(candidate_of(name) is not None for name in table.candidates)
    shapes = sorted(set(table.shapes), key=str)
    if (ours and len(shapes) >= ENOUGH) or len(shapes) < PARTS:
        return counted_work(table)
    part = {shape: number % PARTS for number, shape in enumerate(shapes)}
    of_row = np.array([part[shape] for shape in table.shapes])
    regrets = {name: _regret(table, of_row, kind) for name, kind in KINDS.items()}
    return KINDS[min(KINDS, key=regrets.__getitem__)](table)


def _regret(table: Table, of_row: np.ndarray, kind: Picker) -> float:
    """The sum of regrets over all rows, each picked for without its part."""
    total = 0.0
    for number in range(PARTS):
        pick = kind(table.rows(np.flatnonzero(of_row != number)))
        for row in np.flatnonzero(of_row == number):
            able = np.flatnonzero(table.able[row]).tolist()
            picked = pick(table.problems[row], able)
            total += min(LARGE, float(table.regrets[row, able[0] if picked is None else picked]))
    return total
