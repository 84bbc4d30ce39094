"""The model of `convbench choose` as the report card judges it: learned from a table, asked for a pick."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from convbench.problem import Problem
from convbench.select.fitting import fit
from convbench.select.judging.picker import Pick
from convbench.select.judging.table import Table
from convbench.select.model import Model


def counted_work(table: Table) -> Pick:
    """Seconds for counted work, corrected by the nearest measured problems."""
    return _pick(table, _fit(table))


def counted_work_alone(table: Table) -> Pick:
    """The same without any correction."""
    model = _fit(table)
    return _pick(table, dataclasses.replace(model, corrections=dict.fromkeys(model.rates, np.zeros(len(table.shapes)))))


def _fit(table: Table) -> Model:
    columns = {name: table.seconds[:, place] for place, name in enumerate(table.candidates)}
    return fit(table.shapes, columns, intervals=False)  # a pick needs none


def _pick(table: Table, model: Model) -> Pick:
    def pick(problem: Problem, able: Sequence[int]) -> int | None:
        estimates = model.predict(problem, [table.candidates[column] for column in able])
        return min(
            (column for column in able if table.candidates[column] in estimates),
            key=lambda column: estimates[table.candidates[column]].seconds,
            default=None,
        )

    return pick
