"""Two sweeps beside each other, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from convbench.analysis.compare import Comparison
from convbench.problem import Problem
from convbench.report.content import Column, Material, Table, Value


def comparison_table(material: Material, found: Sequence[Comparison]) -> Table:
    """A row for each cell: time in the second sweep over time in the first, and the verdict on the second.

    Args:
        material: The first sweep.
        found: At least one comparison.
    """
    labels = [Problem.parse(one.cell[0]).label for one in found]
    several = len(set(labels)) > 1
    rows: list[list[Value]] = [
        [*([label] if several else []), *one.cell[1:], one.ratio.value, one.ratio.low, one.ratio.high, one.verdict]
        for label, one in zip(labels, found, strict=True)
    ]
    columns = [
        *([Column("problem")] if several else []),
        *(Column("algorithm"), Column("executor"), Column("cores", "d")),
        *(Column("ratio", ".3f"), Column("low", ".3f"), Column("high", ".3f"), Column("second is")),
    ]
    of = "" if several else f"{labels[0]}: "
    return Table("comparison", material.titled(f"{of}time in the second over time in the first"), columns, rows)
