"""Times over kernel sizes: a figure where problems differ only in that."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from convbench.analysis.fastest import rank
from convbench.report.content import Column, Figure, Material, Section, Table, Value, seconds_spec
from convbench.report.figures import style
from convbench.report.labels import slug

if TYPE_CHECKING:
    from convbench.analysis.series import Series
    from convbench.analysis.times import CellTimes
    from convbench.problem import Problem

LEAST = 3  # sizes of a curve
Curves = dict[str, dict[int, "CellTimes"]]


def section(material: Material) -> Section:
    """A figure and a table for each family of square kernels and each number of cores."""
    tables, figures = [], []
    for family, members in _families(material).items():
        for cores in sorted({c for several in members.values() for series in several for c in series.cells}):
            curves = _curves(members, cores)
            if sum(len(curve) >= LEAST for curve in curves.values()):
                on = f"{cores} core{'s' if cores > 1 else ''}"
                name = slug("kernel-sizes", family, on)
                caption = (
                    f"Time over kernel size: {material.titled(f'{family}, on {on}')}; bars are 95 % confidence "
                    "intervals over runs."
                )
                figures.append(Figure(name, caption, partial(_draw, curves)))
                tables.append(_table(name, material.titled(f"{family}, on {on}: seconds"), curves))
    return Section("Over kernel sizes", tables=tables, figures=figures)


def _families(material: Material) -> dict[str, dict[int, list[Series]]]:
    """Problems with square kernels by what they have in common, and in each the series by kernel size."""
    found: dict[str, dict[int, list[Series]]] = {}
    for problem, several in material.by_problem().items():
        if problem.kernel_height == problem.kernel_width:
            found.setdefault(_family(problem), {})[problem.kernel_width] = several
    return {family: dict(sorted(members.items())) for family, members in found.items() if len(members) >= LEAST}


def _family(problem: Problem) -> str:
    """Everything but the kernel size, in words."""
    shapes = f"{problem.height} x {problem.width}, {problem.channels} -> {problem.out_channels} channels"
    rest = dataclasses.replace(problem, name="", kernel_height=1, kernel_width=1)
    plain = dataclasses.replace(
        rest, batch=1, groups=1, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), dtype="float32"
    )
    return shapes if rest == plain else f"{shapes} ({rest})"


def _curves(members: dict[int, list[Series]], cores: int) -> Curves:
    """For each algorithm, its cell on its fastest executor for each size."""
    found: dict[str, dict[int, list[CellTimes]]] = {}
    for size, several in members.items():
        for series in several:
            cell = series.cells.get(cores)
            if cell is not None and cell.fit and not cell.on_gpu and not cell.bound:
                name = series.algorithm + (" (library)" if cell.peer else "")
                found.setdefault(name, {}).setdefault(size, []).append(cell)
    return {
        name: {size: cells[rank(dict(enumerate(cells))).reference] for size, cells in curve.items()}
        for name, curve in found.items()
    }


def _table(name: str, title: str, curves: Curves) -> Table:
    """Times, and the fastest: several names where they cannot be distinguished."""
    sizes = sorted({size for curve in curves.values() for size in curve})
    spec = seconds_spec(cell.mean.value for curve in curves.values() for cell in curve.values())
    columns = [Column("kernel"), *(Column(algorithm, spec) for algorithm in curves), Column("fastest")]
    rows: list[list[Value]] = []
    for size in sizes:
        cells = {algorithm: curve[size] for algorithm, curve in curves.items() if size in curve}
        times = [cells[algorithm].mean if algorithm in cells else None for algorithm in curves]
        rows.append([f"{size} x {size}", *times, ", ".join(rank(cells).best)])
    return Table(name, title, columns, rows)


def _draw(curves: Curves) -> MatplotlibFigure:
    figure = MatplotlibFigure((6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, (algorithm, curve) in enumerate(curves.items()):
        means = [cell.mean for cell in curve.values()]
        values = [time.value for time in means]
        bounds = [(math.nan, math.nan) if t.low is None or t.high is None else (t.low, t.high) for t in means]
        half = [[t.value - low for t, (low, _) in zip(means, bounds, strict=True)]]
        half += [[high - t.value for t, (_, high) in zip(means, bounds, strict=True)]]
        axes.errorbar(list(curve), values, yerr=half, capsize=2, label=algorithm, **style(number))
    axes.set_yscale("log")
    axes.set_xticks(sorted({size for curve in curves.values() for size in curve}))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(EngFormatter("s"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("kernel rows and columns")
    axes.set_ylabel("average time")
    axes.legend()
    return figure
