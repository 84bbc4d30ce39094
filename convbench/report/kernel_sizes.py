"""Which form is fastest for which size of kernel: a figure where problems differ in nothing but that."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.ticker import LogLocator, NullFormatter

from convbench.peers import LIBRARY
from convbench.report.content import Column, Figure, Material, Section, Table, Value, seconds_spec, slug
from convbench.report.figures import style

if TYPE_CHECKING:
    from convbench.analysis.series import Series
    from convbench.analysis.statistics import Estimate
    from convbench.problem import Problem

LEAST = 3  # sizes; two points are no curve
Curves = dict[str, dict[int, "Estimate"]]


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
    """All but the size of the kernels, in words."""
    shapes = f"{problem.height} x {problem.width}, {problem.channels} -> {problem.out_channels} channels"
    rest = dataclasses.replace(problem, name="", kernel_height=1, kernel_width=1)
    plain = dataclasses.replace(
        rest, batch=1, groups=1, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), dtype="float32"
    )
    return shapes if rest == plain else f"{shapes} ({rest})"


def _curves(members: dict[int, list[Series]], cores: int) -> Curves:
    """For each algorithm, its time on its fastest executor for each size."""
    curves: Curves = {}
    for size, several in members.items():
        for series in several:
            if cores in series.cells and series.cells[cores].fit and not series.cells[cores].on_device:
                name = series.algorithm + (" (library)" if series.executor == LIBRARY else "")
                time = series.cells[cores].mean
                before = curves.setdefault(name, {}).get(size)
                if before is None or time.value < before.value:
                    curves[name][size] = time
    return curves


def _table(name: str, title: str, curves: Curves) -> Table:
    sizes = sorted({size for curve in curves.values() for size in curve})
    spec = seconds_spec(time.value for curve in curves.values() for time in curve.values())
    columns = [Column("kernel"), *(Column(algorithm, spec) for algorithm in curves), Column("fastest")]
    rows: list[list[Value]] = []
    for size in sizes:
        times = {algorithm: curve[size] for algorithm, curve in curves.items() if size in curve}
        fastest = min(times, key=lambda algorithm: times[algorithm].value)
        rows.append([f"{size} x {size}", *(times.get(algorithm) for algorithm in curves), fastest])
    return Table(name, title, columns, rows)


def _draw(curves: Curves) -> MatplotlibFigure:
    figure = MatplotlibFigure((6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, (algorithm, curve) in enumerate(curves.items()):
        values = [time.value for time in curve.values()]
        half = [[v - (t.low or v) for v, t in zip(values, curve.values(), strict=True)]]
        half += [[(t.high or v) - v for v, t in zip(values, curve.values(), strict=True)]]
        axes.errorbar(list(curve), values, yerr=half, capsize=2, label=algorithm, **style(number))
    axes.set_yscale("log")
    axes.set_xticks(sorted({size for curve in curves.values() for size in curve}))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("kernel rows and columns")
    axes.set_ylabel("average time (s)")
    axes.legend()
    return figure
