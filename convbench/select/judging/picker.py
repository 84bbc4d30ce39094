"""What chooses: from measured times, a function that picks a candidate for a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from convbench.problem import Problem
from convbench.registry import Entry
from convbench.registry import Table as Registry
from convbench.select.judging.table import Table

Pick = Callable[[Problem, Sequence[int]], int | None]
"""Picks a candidate for a problem: one of the columns given, those of candidates that can compute the problem, in
ascending order and at least one. None if it has no answer."""

Picker = Callable[[Table], Pick]
"""Learns from a table. It is deterministic, and does not depend on the order of the rows."""

_HERE: Final = "convbench.select.judging"
MODELS: Final[Registry[Picker]] = Registry(
    "selection model",
    [
        Entry("best-kind", f"{_HERE}.best_kind:best_kind", "the kind of model that suits the table best"),
        Entry(
            "counted-work",
            f"{_HERE}.counted_work:counted_work",
            "counted work, corrected by neighbours",
        ),
        Entry("work-alone", f"{_HERE}.counted_work:counted_work_alone", "counted work without correction"),
        Entry("neighbours", f"{_HERE}.neighbours:neighbours", "the nearest measured problems, by shape"),
    ],
)
"""Models that the report card judges; the first is the one that it is about."""


def models() -> Mapping[str, Picker]:
    """Every model by name."""
    return {name: MODELS[name] for name in MODELS}


def in_order(order: Sequence[int]) -> Pick:
    """Picks the first column of an order of all columns that can."""
    rank = {column: place for place, column in enumerate(order)}

    def pick(_problem: Problem, able: Sequence[int]) -> int:
        return min(able, key=rank.__getitem__)

    return pick
