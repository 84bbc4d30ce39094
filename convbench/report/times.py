"""Execution times run by run, with totals and averages: the paper's Table III for every algorithm and executor."""

from __future__ import annotations

from collections.abc import Callable

from convbench.analysis.series import Series
from convbench.analysis.statistics import CONFIDENCE, LEAST_RUNS, MEDIAN_RUNS, Estimate
from convbench.analysis.times import CellTimes
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec
from convbench.report.labels import slug

TEXT = (
    "Each time is the mean of one run's samples, in seconds for the whole convolution. A run is a fresh process that "
    "measures every cell once, in random order; runs, not samples, are the unit of all statistics. "
    f"Brackets hold {CONFIDENCE:.0%} confidence intervals over runs: of the average by Student's t on logarithms with "
    f"skewness removed (Hall 1992), from {LEAST_RUNS} runs up; of the median from ranks, from {MEDIAN_RUNS} runs up. "
    "With fewer there are none.",
)


def section(material: Material) -> Section:
    """A table for each series."""
    return Section(
        "Execution times (Table III)",
        TEXT,
        [
            times_table(material, problem, series)
            for problem, several in material.by_problem().items()
            for series in several
        ],
    )


def times_table(material: Material, problem: Problem, series: Series) -> Table:
    """Rows are runs, then their summaries; columns are core counts."""
    cells = list(series.cells.values())
    spec = seconds_spec(cell.minimum for cell in cells)
    summaries: list[tuple[str, Callable[[CellTimes], Estimate | float]]] = [
        ("total", lambda cell: cell.total),
        ("average", lambda cell: cell.mean),
        ("median", lambda cell: cell.median),
        ("fastest sample", lambda cell: cell.minimum),
    ]
    rows: list[list[Value]] = [
        [f"run {run + 1}", *(cell.runs.get(run) for cell in cells)] for run in series.run_numbers
    ]
    rows += [[name, *(summary(cell) for cell in cells)] for name, summary in summaries]
    return Table(
        name=slug("table3", material.slug(problem), series.algorithm, series.executor),
        title=material.titled(f"{material.label(problem)}: {series.name}, seconds"),
        columns=[Column(""), *(Column(cores_heading(cell), spec) for cell in cells)],
        rows=rows,
        summary_rows=len(summaries),
    )


def cores_heading(cell: CellTimes) -> str:
    """A column's heading for a core count, marked if oversubscribed."""
    heading = f"{cell.cores} core{'s' if cell.cores > 1 else ''}"
    return heading if cell.fit else f"{heading} (oversubscribed)"
