"""Every cell in a line: the table to read first."""

from __future__ import annotations

from convbench.analysis.limits import Limits
from convbench.analysis.series import CellTimes, Series
from convbench.peers import is_bound
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec, slug


def section(material: Material) -> Section:
    """A table for each problem, and a sentence that names its fastest cell."""
    groups = material.by_problem()
    if not groups:
        return Section("In short", ["Nothing was measured; the last section says why."])
    return Section(
        "In short",
        [_sentence(problem, several) for problem, several in groups.items() if _whole(several)],
        [summary_table(material, problem, several) for problem, several in groups.items()],
    )


def summary_table(material: Material, problem: Problem, several: list[Series]) -> Table:
    """One row for each cell: time, rate, percent of peak, speedup over one core of the same executor, flags."""
    machine = material.sweep.header.get("machine", {})
    limits, of_device = Limits.of(machine), Limits.of_device(machine)
    cells = [cell for series in several for cell in series.cells.values()]
    spec = seconds_spec(cell.minimum for cell in cells)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("cores", "d"), Column("seconds", spec)),
        *(Column("GFLOP/s", ".1f"), Column("of peak", ".0%"), Column("speedup", ".3f"), Column("flags")),
    ]
    rows = [
        _row(series, cell, of_device if cell.on_device else limits)
        for series in several
        for cell in series.cells.values()
    ]
    return Table(slug("summary", problem.label), material.titled(f"{problem.label}: average over runs"), columns, rows)


def _row(series: Series, cell: CellTimes, limits: Limits) -> list[Value]:
    speedup = series.speedup(1, cell.cores) if 1 in series.cells and cell.cores > 1 else None
    flags = ", ".join(f"{flag} x{count}" if count > 1 else flag for flag, count in cell.flags.items())
    share = limits.share_of_peak(cell.products, cell.rate, cell.cores)
    return [series.algorithm, series.executor, cell.cores, cell.mean, cell.rate / 1e9, share, speedup, flags]


def _whole(several: list[Series]) -> list[Series]:
    """Those that compute the convolution, and not only a part of it."""
    return [series for series in several if not is_bound(series.algorithm)]


def _sentence(problem: Problem, several: list[Series]) -> str:
    fastest, cell = min(
        ((series, cell) for series in _whole(several) for cell in series.cells.values()),
        key=lambda pair: 1 / pair[1].rate,
    )
    of = Problem.parse(cell.problem)
    where = "" if cell.on_device else f" with {cell.cores} core{'s' if cell.cores > 1 else ''}"
    return (
        f"{problem.label} ({of.flops / 1e9:.1f} GFLOP in the direct form, {of.bytes / 1e6:.0f} MB of input, weights "
        f"and output): fastest is {fastest.algorithm} on {fastest.executor}{where}, "
        f"{cell.mean.value:.4g} s, which is {cell.rate / 1e9:.0f} GFLOP/s."
    )
