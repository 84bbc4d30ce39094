"""Ours beside other libraries: one table for each problem and number of cores, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.analysis.limits import Limits
from convbench.analysis.series import CellTimes, Series, ratio
from convbench.plans import LIBRARY
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec, slug

TEXT = (
    "Every candidate was measured in every run, in random order. A library runs in the mode that its own users would "
    "call fastest, with its output checked like ours; all outputs have our layout, but for torch-channels-last. The "
    "ratio is how many times as long it took as the fastest of ours, paired inside runs."
)


def section(material: Material) -> Section:
    """Tables where libraries were measured; nothing otherwise."""
    tables = list(versus_tables(material))
    return Section("Beside other libraries", [TEXT] if tables else [], tables)


def versus_tables(material: Material) -> Iterator[Table]:
    """For each problem and number of cores on which a library was measured."""
    for problem, several in material.by_problem().items():
        host = [series for series in several if not series.on_device]
        for cores in sorted({c for series in several if series.executor == LIBRARY for c in series.cells}):
            yield _table(material, problem, [series for series in host if cores in series.cells], cores)


def _table(material: Material, problem: Problem, several: list[Series], cores: int) -> Table:
    limits = Limits.of(material.sweep.header.get("machine", {}))
    cells = {(series.algorithm, series.executor): series.cells[cores] for series in several}
    ranked = sorted(cells, key=lambda key: cells[key].mean.value)
    ours = next((cells[key] for key in ranked if key[1] != LIBRARY), None)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("seconds", seconds_spec(c.minimum for c in cells.values()))),
        *(Column("ratio", ".2f"), Column("GFLOP/s", ".1f"), Column("of peak", ".0%")),
    ]
    rows = [_row(problem.dtype, key, cells[key], ours, limits) for key in ranked]
    on = f"{cores} core{'s' if cores > 1 else ''}"
    title = material.titled(f"{problem.label} on {on}, the fastest first")
    return Table(slug("versus", problem.label, on), title, columns, rows)


def _row(dtype: str, key: tuple[str, str], cell: CellTimes, ours: CellTimes | None, limits: Limits) -> list[Value]:
    return [
        *key,
        cell.mean,
        None if ours is None else 1.0 if ours is cell else ratio(cell, ours),
        cell.rate / 1e9,
        limits.share_of_peak(dtype, cell.rate, cell.cores) if cell.fit else None,
    ]
