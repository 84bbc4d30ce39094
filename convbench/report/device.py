"""A device beside the cores: how many times as fast as one core it is, with and without moving the data."""

from __future__ import annotations

from collections.abc import Mapping

from convbench.analysis.series import CellTimes, Series
from convbench.analysis.statistics import Estimate, geometric_mean
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec, slug

TEXT = (
    "A sample on a device begins with input and weights in its memory and ends when its last kernel has ended. "
    "Transfers are timed apart, from and to ordinary memory of the host. Speedups are over one core by the same "
    "algorithm, on the executor that is fastest there, and paired inside runs.",
)


def section(material: Material) -> Section:
    """A table for each problem that a device computed; nothing otherwise."""
    tables = [
        device_table(material, problem, several)
        for problem, several in material.by_problem().items()
        if any(cell.on_device for series in several for cell in series.cells.values())
    ]
    return Section("A device beside the cores", TEXT if tables else (), tables)


def device_table(material: Material, problem: Problem, several: list[Series]) -> Table:
    """Rows are algorithms on the device."""
    rows: list[list[Value]] = []
    for series in several:
        for cell in series.cells.values():
            if cell.on_device:
                base = _one_core(several, series.algorithm)
                moved = [sum(times.values()) / len(times) for times in cell.transfers.values()]
                rows.append(
                    [
                        series.algorithm,
                        series.executor,
                        cell.mean,
                        *moved,
                        _speedup(base, cell.runs),
                        _speedup(base, cell.end_to_end()),
                    ]
                )
    spec = seconds_spec(cell.minimum for series in several for cell in series.cells.values() if cell.on_device)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("on the device", spec)),
        *(Column("host to device", ".6f"), Column("device to host", ".6f")),
        *(Column("speedup without transfers", ".2f"), Column("speedup with transfers", ".2f")),
    ]
    return Table(slug("device", problem.label), material.titled(f"{problem.label}: seconds"), columns, rows)


def _one_core(several: list[Series], algorithm: str) -> CellTimes | None:
    """The fastest cell of an algorithm on one core of the host."""
    cells = [
        series.cells[1]
        for series in several
        if series.algorithm == algorithm and 1 in series.cells and not series.cells[1].on_device
    ]
    return min(cells, key=lambda cell: cell.mean.value, default=None)


def _speedup(base: CellTimes | None, runs: Mapping[int, float]) -> Estimate | None:
    if base is None:
        return None
    inside = [base.runs[run] / seconds for run, seconds in runs.items() if run in base.runs]
    return geometric_mean(inside) if inside else None
