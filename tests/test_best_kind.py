"""The kind of model that suits a table best: as good as the best of its kinds, about, whoever's table it is."""

from __future__ import annotations

import numpy as np
import pytest

from convbench.problem import Problem
from convbench.select.judging.best_kind import KINDS, best_kind
from convbench.select.judging.report_card import report_card
from convbench.select.judging.table import Table

SHAPES = [
    Problem.parse(f"mb1ic{channels}ih{size}oc{filters}kh{taps}ph{taps // 2}")
    for channels in (8, 24, 64, 160)
    for size in (7, 14, 28)
    for filters in (16, 64)
    for taps in (1, 3)
]


def table(seconds, names=("DIRECT", "UNROLL")) -> Table:
    times = np.array([seconds(problem) for problem in SHAPES])
    return Table(tuple(SHAPES), names, times)


RULES = {
    "a threshold": lambda problem: (1.0, 3.0) if problem.channels < 50 else (3.0, 1.0),
    "work": lambda problem: (problem.flops * 2e-11, 1e-5 + problem.flops * 1e-11),
    "one that always wins": lambda problem: (problem.flops * 1e-11, problem.flops * 2e-11),
    "ties": lambda problem: (problem.flops * 1e-11, problem.flops * 1e-11),
    "one that often cannot": lambda problem: (1.0, 0.5 if problem.kernel_height == 3 else np.nan),
}


@pytest.mark.parametrize("rule", RULES)
def test_it_is_about_as_good_as_the_best_of_its_kinds(rule):
    card = report_card(table(RULES[rule]), "layer", pickers={"best": best_kind, **KINDS})
    regrets = {name: marks.card.mean_regret for name, marks in card.models.items()}
    assert regrets["best"] <= min(regrets.values()) + 0.05


def test_the_order_of_rows_does_not_matter():
    whole = table(RULES["a threshold"])
    backwards = whole.rows(range(len(SHAPES))[::-1])
    one, other = best_kind(whole), best_kind(backwards)
    for problem in SHAPES:
        assert one(problem, [0, 1]) == other(problem, [0, 1])


def test_tables_that_are_too_small_to_hold_out_from():
    for rows in (1, 2, 3, 5):
        pick = best_kind(table(RULES["work"]).rows(range(rows)))
        assert pick(SHAPES[-1], [0, 1]) in (0, 1, None)
