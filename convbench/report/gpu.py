"""The GPU beside the cores: how many times as fast as one core it is, with and without moving the data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from convbench.analysis.fastest import rank
from convbench.analysis.limits import Limits
from convbench.analysis.series import Series
from convbench.analysis.statistics import Estimate, geometric_mean
from convbench.analysis.times import CellTimes
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec
from convbench.report.labels import slug

TEXT = (
    "A sample on a GPU is timed by its own clock: input and weights lie in its memory when it begins, and it ends "
    "when its last kernel has ended. Transfers are timed apart, by the host's clock, from and to its ordinary memory; "
    "end to end is from having the input there to having the output there. Speedups are over one core by the same "
    "algorithm, on the executor that is fastest there, and paired inside runs. Percent of the GPU's peak counts the "
    "direct form's operations over the multiply-adds in the problem's dtype that the GPU was measured to do.",
)

TRANSFERS = ("host to device", "device to host", "end to end")  # as records call them


def section(material: Material) -> Section:
    """A table for each problem that a GPU computed; nothing otherwise."""
    tables = [
        gpu_table(material, problem, several)
        for problem, several in material.by_problem().items()
        if any(_shown(series) for series in several)
    ]
    return Section("The GPU beside the cores", TEXT if tables else (), tables)


def gpu_table(material: Material, problem: Problem, several: list[Series]) -> Table:
    """Rows are algorithms on the GPU."""
    limits = Limits.of_gpu(material.sweep.header.get("machine", {}))
    rows: list[list[Value]] = []
    for series in several:
        for cell in series.cells.values():
            if _shown(series):
                base = _one_core(several, series.algorithm)
                moved = [
                    statistics.fmean(times.values()) if (times := cell.transfers.get(name)) else None
                    for name in TRANSFERS
                ]
                rows.append(
                    [
                        series.algorithm,
                        series.executor,
                        cell.mean,
                        limits.share_of_peak(cell.products, cell.rate, cell.threads),
                        *moved,
                        _speedup(base, cell.runs),
                        _speedup(base, cell.end_to_end()),
                    ]
                )
    spec = seconds_spec(cell.minimum for series in several if _shown(series) for cell in series.cells.values())
    columns = [
        *(Column("algorithm"), Column("executor"), Column("on the GPU", spec)),
        Column("of the GPU's peak", ".0%"),
        *(Column("host to GPU", ".6f"), Column("GPU to host", ".6f"), Column("end to end", ".6f")),
        *(Column("speedup without transfers", ".2f"), Column("speedup with transfers", ".2f")),
    ]
    return Table(
        slug("gpu", material.slug(problem)), material.titled(f"{material.label(problem)}: seconds"), columns, rows
    )


def _shown(series: Series) -> bool:
    """Whether a GPU computed it: all of it, so that end to end means something."""
    return series.on_gpu and not series.bound


def _one_core(several: list[Series], algorithm: str) -> CellTimes | None:
    """The cell of an algorithm on one core of the host, on the executor that is fastest there."""
    cells = {
        series.executor: series.cells[1]
        for series in several
        if series.algorithm == algorithm and 1 in series.cells and series.cells[1].fit and not series.on_gpu
    }
    return cells[rank(cells).reference] if cells else None


def _speedup(base: CellTimes | None, runs: Mapping[int, float]) -> Estimate | None:
    if base is None:
        return None
    inside = [base.runs[run] / seconds for run, seconds in runs.items() if run in base.runs]
    return geometric_mean(inside) if inside else None
