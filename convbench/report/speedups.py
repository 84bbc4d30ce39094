"""Speedup between core counts: the paper's triangular Table IV for every algorithm and executor."""

from __future__ import annotations

from convbench.analysis.series import Series
from convbench.analysis.statistics import CONFIDENCE
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value
from convbench.report.labels import slug
from convbench.report.times import cores_heading

TEXT = (
    "The first table of each pair divides average times, as the paper does. The second computes the speedup inside "
    "each run, where drift and neighbours hit both core counts alike, and gives the geometric mean over runs with its "
    f"{CONFIDENCE:.0%} confidence interval (Student's t on logarithms, skewness removed).",
)
SCALED = ("The image grows with the cores, so these are Gustafson's scaled speedups: ratios of work done a second.",)


def section(material: Material) -> Section:
    """Two tables for each series that has several core counts."""
    return Section(
        "Speedup between core counts (Table IV)",
        [*TEXT, *(SCALED if material.scaled else ())],
        [
            table
            for problem, several in material.by_problem().items()
            for series in several
            if len(series.cells) > 1
            for table in speedup_tables(material, problem, series)
        ],
    )


def speedup_tables(material: Material, problem: Problem, series: Series) -> tuple[Table, Table]:
    """By averages as in the paper, and paired inside runs; from the row's cores to the column's."""
    counts = list(series.cells)
    columns = [Column("from"), *(Column(f"to {cores_heading(series.cells[c])}", ".3f") for c in counts[1:])]

    def rows(paired: bool) -> list[list[Value]]:  # noqa: FBT001
        entry = series.speedup if paired else series.ratio_of_means
        return [
            [cores_heading(series.cells[base]), *(entry(base, c) if c > base else None for c in counts[1:])]
            for base in counts[:-1]
        ]

    name, title = (
        slug("table4", material.slug(problem), series.algorithm, series.executor),
        f"{material.label(problem)}: {series.name}",
    )
    return (
        Table(name, material.titled(f"{title}, ratio of average times"), columns, rows(paired=False)),
        Table(f"{name}-paired", material.titled(f"{title}, paired inside runs"), columns, rows(paired=True)),
    )
