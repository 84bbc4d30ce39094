"""The summary: every cell in a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from convbench.analysis.fastest import Ranking, rank
from convbench.analysis.limits import Limits
from convbench.analysis.series import Series
from convbench.analysis.statistics import LEAST_RUNS
from convbench.analysis.times import CellTimes
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec
from convbench.report.labels import slug

Key = tuple[str, str, int]  # algorithm, executor and cores
MOST_NAMES: Final = 4  # of tied cells in a sentence; the table has all


def section(material: Material) -> Section:
    """A table for each problem, and a sentence that names its fastest cells."""
    groups = material.by_problem()
    if not groups:
        return Section("In short", ["Nothing was measured; the last section says why."])
    return Section(
        "In short",
        [
            sentence
            for problem, several in groups.items()
            for sentence in _sentences(material.label(problem), several, scaled=material.scaled)
        ],
        [summary_table(material, problem, several) for problem, several in groups.items()],
    )


def summary_table(material: Material, problem: Problem, several: list[Series]) -> Table:
    """One row for each cell: time, rate, percent of peak, speedup over one core of the same executor, flags."""
    machine = material.sweep.header.get("machine", {})
    limits, of_gpu = Limits.of(machine), Limits.of_gpu(machine)
    cells = [cell for series in several for cell in series.cells.values()]
    spec = seconds_spec(cell.minimum for cell in cells)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("cores", "d"), Column("seconds", spec)),
        *(Column("GFLOP/s", ".1f"), Column("of peak", ".0%"), Column("speedup", ".3f"), Column("flags")),
    ]
    rows = [
        _row(series, cell, of_gpu if cell.on_gpu else limits) for series in several for cell in series.cells.values()
    ]
    return Table(
        slug("summary", material.slug(problem)),
        material.titled(f"{material.label(problem)}: average over runs"),
        columns,
        rows,
    )


def _row(series: Series, cell: CellTimes, limits: Limits) -> list[Value]:
    speedup = series.speedup(1, cell.cores) if 1 in series.cells and cell.cores > 1 else None
    flags = ", ".join(f"{flag} x{count}" if count > 1 else flag for flag, count in cell.flags.items())
    share = limits.share_of_peak(cell.products, cell.rate, cell.threads)
    return [series.algorithm, series.executor, cell.cores, cell.mean, cell.rate / 1e9, share, speedup, flags]


def _sentences(label: str, several: list[Series], *, scaled: bool) -> Iterator[str]:
    """The fastest cells: one sentence for each amount of work, since only cells with the same work are compared.

    Oversubscribed cells and bounds are not called the fastest.
    """
    by_work: dict[Problem, dict[Key, CellTimes]] = {}
    for series in several:
        for cores, cell in series.cells.items():
            if not cell.bound:
                by_work.setdefault(Problem.parse(cell.problem), {})[series.algorithm, series.executor, cores] = cell
    for work, cells in by_work.items():
        cores = next(iter(cells.values())).cores
        of = f", the share of {_cores(cores)}" if scaled else ""
        size = f"{_short(work.flops / 1e9)} GFLOP in the direct form, {_short(work.bytes / 1e6)} MB"
        amount = f"{label}{of} ({size} of input, weights and output)"
        fit = {key: cell for key, cell in cells.items() if cell.fit}
        if fit:
            yield f"{amount}: {_verdict(rank(fit), fit)}."
        else:
            yield f"{amount}: nothing was measured on as many cores as it asked for, so nothing is called the fastest."


def _verdict(ranking: Ranking[Key], cells: Mapping[Key, CellTimes]) -> str:
    cell = cells[ranking.reference]
    names = [_name(key, cells[key]) for key in ranking.best]
    speed = f"{cell.mean.value:.4g} s, which is {_short(cell.rate / 1e9)} GFLOP/s"
    if len(names) > 1:
        more = len(names) - MOST_NAMES
        listed = [*names[:MOST_NAMES], *([f"{more} more"] if more > 0 else [])]
        together = f"{', '.join(listed[:-1])} and {listed[-1]}"
        return f"fastest are {together}, which cannot be told apart; the first took {speed}"
    doubt = "" if ranking.known else f"; with fewer than {LEAST_RUNS} runs it cannot be told from the others"
    return f"fastest is {names[0]}, {speed}{doubt}"


def _name(key: Key, cell: CellTimes) -> str:
    algorithm, executor, cores = key
    return f"{algorithm} on {executor}" + ("" if cell.on_gpu else f" with {_cores(cores)}")


def _short(number: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"
