"""Two sweeps beside each other, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from convbench.analysis.compare import Comparison
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value


def comparison_table(found: Sequence[Comparison]) -> Table:
    """A row for each cell: time in the second sweep over time in the first, and the verdict on the second."""
    rows: list[list[Value]] = [
        [Problem.parse(one.cell[0]).label, *one.cell[1:], one.ratio.value, one.ratio.low, one.ratio.high, one.verdict]
        for one in found
    ]
    columns = [
        *(Column("problem"), Column("algorithm"), Column("executor"), Column("cores", "d")),
        *(Column("ratio", ".3f"), Column("low", ".3f"), Column("high", ".3f"), Column("second is")),
    ]
    return Table("comparison", "Time in the second over time in the first", columns, rows)
