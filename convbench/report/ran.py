"""What ran in each cell: the variant that an algorithm chose for a problem."""

from __future__ import annotations

from collections.abc import Mapping

from convbench.analysis.series import Series
from convbench.problem import Problem
from convbench.report.content import Column, Material, Table, Value
from convbench.results.record import Fact


def ran_table(material: Material) -> Table:
    """A row for each series, more where its cells differ in what ran; series of sweeps of before have none."""
    rows: dict[tuple[str, ...], None] = {}
    for series in material.series:
        label = material.label(Problem.parse(series.problem))
        for variant in (variant for cell in series.cells.values() for variant in cell.variants):
            rows[label, series.algorithm, series.executor, _kind(series), _written(variant)] = None
    columns = [Column(title) for title in ("problem", "algorithm", "executor", "is", "variant")]
    values: list[list[Value]] = [list(row) for row in rows]
    return Table("ran", "What ran", columns, values)


def _kind(series: Series) -> str:
    if series.bound:
        return "a library's, a bound"
    return "a library's" if series.peer else "ours"


def _written(variant: Mapping[str, Fact]) -> str:
    """Such as "backend numba, precision exact, tile 6x6"."""
    return ", ".join(f"{name} {fact}" for name, fact in variant.items())
