"""Efficiency, serial fraction, and fits of Amdahl's and the Universal Scalability Law, beyond the paper's tables."""

from __future__ import annotations

from convbench.analysis.scaling import USL_COUNTS
from convbench.report.content import Column, Material, Section, Table, Value
from convbench.report.times import cores_heading

TEXT = (
    "Efficiency is speedup per core. The serial fraction is Karp and Flatt's, (1/S - 1/p) / (1 - 1/p): where it grows "
    "with the cores, overhead and not serial work holds the speedup down; where it is negative, the speedup is more "
    "than ideal. Amdahl's fraction is one number fitted to all core counts. Oversubscribed counts are left out of the "
    f"fit and stand here for completeness. From {USL_COUNTS} core counts up, the Universal Scalability Law is fitted "
    "too: contention is its serial fraction, coherency what every pair of cores costs.",
)
SCALED = (
    "Every core gets one share of the image's rows, so that the image grows with the cores. Scaled speedup is work "
    "done a second over what one core does a second on its share, efficiency is that per core, and the serial fraction "
    "s is Gustafson's, S = p - s (p - 1): a share of the time on p cores.",
)


def section(material: Material) -> Section:
    """One table for all series that have several core counts."""
    rows: list[list[Value]] = []
    for problem, several in material.by_problem().items():
        for series in several:
            amdahl = series.amdahl()
            for cores, cell in series.cells.items():
                if cores > 1 and 1 in series.cells:
                    start: list[Value] = [
                        material.label(problem),
                        series.algorithm,
                        series.executor,
                        cores_heading(cell),
                    ]
                    speedup, efficiency = series.speedup(1, cores), series.efficiency(cores)
                    rows.append([*start, speedup, efficiency, series.serial_fraction(cores), amdahl])
                    amdahl = None  # only in the first row of a series
    titles = ("scaled speedup" if material.scaled else "speedup", "efficiency", "serial fraction", "Amdahl's fraction")
    columns = [
        *(Column(title) for title in ("problem", "algorithm", "executor", "on")),
        *(Column(title, ".3f") for title in titles),
    ]
    if material.scaled:  # Amdahl's law assumes a fixed amount of work
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    if not rows:
        return Section("What holds the speedup down", ["No algorithm was measured on several core counts."])
    title = material.titled("Speedup over one core, paired inside runs, and what follows from it")
    tables = [Table("scaling", title, columns, rows), *_usl_tables(material)]
    return Section("What holds the speedup down", SCALED if material.scaled else TEXT, tables)


def _usl_tables(material: Material) -> list[Table]:
    """The Universal Scalability Law's parameters, for series with enough core counts."""
    rows: list[list[Value]] = [
        [material.label(problem), series.algorithm, series.executor, law.contention, law.coherency]
        for problem, several in material.by_problem().items()
        for series in several
        if (law := series.usl()) is not None
    ]
    columns = [
        *(Column("problem"), Column("algorithm"), Column("executor")),
        *(Column("contention", ".4f"), Column("coherency", ".6f")),
    ]
    return [Table("usl", material.titled("The Universal Scalability Law, fitted"), columns, rows)] if rows else []
