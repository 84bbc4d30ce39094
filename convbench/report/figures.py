"""Figures 10 and 11 of the paper: average time over cores, and ideal and actual speedup over cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure as MatplotlibFigure

from convbench.analysis.series import Series, group
from convbench.analysis.statistics import CONFIDENCE, Estimate
from convbench.integers import ceil_div
from convbench.report.content import Figure, Material, Section
from convbench.report.labels import slug
from convbench.results import paper

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can distinguish; markers do so in black and white.
COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
PAPER_STYLE: Final[dict[str, Any]] = {"color": "#666666", "marker": "x", "linestyle": (0, (1, 1.5))}
IDEAL_STYLE: Final[dict[str, Any]] = {"color": "black", "linestyle": "--", "linewidth": 1}
RC: Final[dict[str, Any]] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "text.parse_math": False,  # names may hold any character
    "svg.hashsalt": "convbench",  # the same data give the same file
}
PANEL_WIDTH: Final = 3.6
PANEL_HEIGHT: Final = 3.1
PANELS_IN_A_ROW: Final = 3
ENTRIES_IN_A_ROW: Final = 5
Line = Callable[["Axes", Series, dict[str, Any]], None]


def section(material: Material) -> Section:
    """Both figures for each problem that was measured on several core counts, with the paper's curve beside ours."""
    figures = [
        figure
        for problem, several in material.by_problem().items()
        if any(len(series.cells) > 1 for series in several)
        for figure in problem_figures(
            material,
            material.label(problem),
            several,
            name=material.slug(problem),
            with_paper=problem == paper.PROBLEM and not material.scaled,
        )
    ]
    return Section("Time and speedup over cores (Figures 10 and 11)", figures=figures)


def problem_figures(
    material: Material, label: str, several: Sequence[Series], *, name: str, with_paper: bool
) -> list[Figure]:
    """Time and speedup, a panel for each algorithm and a line for each executor.

    `label` names the problem, `name` does so in a file name.
    """
    published = group(paper.multicore_experiment().records)[0] if with_paper else None
    bars = (
        f"Dots are runs, bars and bands {CONFIDENCE:.0%} confidence intervals over them; hollow points had fewer cores "
        "than they asked for."
    )
    beside = " The dotted line is the paper's (Java threads, 2.4 GHz Opteron 6136)." if with_paper else ""
    return [
        Figure(
            slug("fig10", name),
            f"Figure 10: {material.titled(f'{label}, average time over cores')}. {bars}{beside}",
            partial(_draw, several, published, _time_line, "average time"),
        ),
        Figure(
            slug("fig11", name),
            f"Figure 11: {material.titled(f'{label}, ideal and actual speedup over cores')}. {bars}{beside}",
            partial(_draw, several, published, _speedup_line, f"{'scaled ' * material.scaled}speedup over one core"),
        ),
    ]


def save(figure: Figure, stem: Any) -> None:
    """Write `stem`.png and `stem`.svg."""
    with _publication_style():
        drawn = figure.draw()
        drawn.savefig(f"{stem}.png", metadata={"Software": None})
        drawn.savefig(f"{stem}.svg", metadata={"Date": None})


def style(number: int) -> dict[str, Any]:
    """Colour and marker of the n-th line of a figure: the first 66 are all different."""
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}


def _draw(several: Sequence[Series], published: Series | None, line: Line, label: str) -> MatplotlibFigure:
    """A panel for each algorithm, on common axes, with one legend."""
    algorithms = list(dict.fromkeys(series.algorithm for series in several))
    executors = list(dict.fromkeys(series.executor for series in several))
    figure, axes_of = panels(algorithms, label, shared=True)
    counts = sorted({cores for series in (*several, *filter(None, [published])) for cores in series.cells})
    for algorithm, axes in axes_of.items():
        if line is _speedup_line:
            axes.plot(counts, counts, label="ideal", **IDEAL_STYLE)
        if published is not None:
            line(axes, published, {**PAPER_STYLE, "label": "paper"})
        for series in several:
            if series.algorithm == algorithm:
                line(axes, series, {**style(executors.index(series.executor)), "label": series.executor})
        _set_axes(axes, counts, binary=line is _speedup_line)
    add_legend(figure)
    return figure


def panels(names: Sequence[str], label: str, *, shared: bool) -> tuple[MatplotlibFigure, dict[str, Axes]]:
    """A figure with a panel for each name; `label` is the vertical axis's, `shared` whether the axes are common."""
    columns = 2 if len(names) == 4 else min(len(names), PANELS_IN_A_ROW)
    rows = ceil_div(len(names), columns)
    figure = MatplotlibFigure((0.6 + PANEL_WIDTH * columns, 0.4 + PANEL_HEIGHT * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False)
    for number, (name, axes) in enumerate(zip_longest(names, grid.flat)):
        if name is None:
            axes.set_visible(False)
            continue
        axes.set_title(name)
        if shared:
            axes.tick_params(labelbottom=number + columns >= len(names))  # the lowest of its column
    for axes in grid[:, 0]:
        axes.set_ylabel(label)
    return figure, dict(zip(names, grid.flat, strict=False))


def add_legend(figure: MatplotlibFigure, names: Sequence[str] = ()) -> None:
    """One legend for all panels, below them; in the order of `names`, if given."""
    handles = {
        text: handle for axes in figure.axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    ordered = {name: handles[name] for name in names or handles if name in handles}
    columns = min(len(handles), ENTRIES_IN_A_ROW)
    if ordered:  # matplotlib leaves out what begins with an underscore
        figure.legend(ordered.values(), ordered.keys(), loc="outside lower center", ncols=columns)


def _set_axes(axes: Axes, counts: Sequence[int], *, binary: bool) -> None:
    """Core counts on a log-2 axis; times with ticks at 1, 2, 5, speedups at powers of two."""
    axes.set_xlabel("cores")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_yscale("log", base=2 if binary else 10)
    axes.yaxis.set_major_locator(mpl.ticker.LogLocator(2) if binary else mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}" if binary else mpl.ticker.EngFormatter("s"))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    if binary:
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def _time_line(axes: Axes, series: Series, style: dict[str, Any]) -> None:
    runs = {cores: list(cell.runs.values()) for cores, cell in series.cells.items()}
    _line(axes, series, {cores: cell.mean for cores, cell in series.cells.items()}, runs, style)


def _speedup_line(axes: Axes, series: Series, style: dict[str, Any]) -> None:
    if 1 not in series.cells or len(series.cells) < 2:
        return
    speedups = {cores: series.speedup(1, cores) for cores in series.cells}
    runs = {cores: list(series.speedups_by_run(1, cores).values()) for cores in series.cells}
    _line(axes, series, {cores: s for cores, s in speedups.items() if s is not None}, runs, style)


def _line(
    axes: Axes,
    series: Series,
    estimates: dict[int, Estimate],
    runs: dict[int, list[float]],
    style: dict[str, Any],
) -> None:
    """Every run as a faint dot; the means with bars and a band, hollow where oversubscribed."""
    color, cores = style["color"], list(estimates)
    means = [estimate.value for estimate in estimates.values()]
    low, high = (
        [math.nan if bound is None else bound for bound in bounds]  # not drawn
        for bounds in zip(*((e.low, e.high) for e in estimates.values()), strict=True)
    )
    axes.fill_between(cores, low, high, color=color, alpha=0.12, linewidth=0)
    errors = [
        [m - b for m, b in zip(means, low, strict=True)],
        [b - m for m, b in zip(means, high, strict=True)],
    ]
    axes.errorbar(cores, means, yerr=errors, fmt="none", ecolor=color, capsize=2.5, elinewidth=1)
    for count in cores:
        axes.plot([count] * len(runs[count]), runs[count], ".", color=color, alpha=0.5, markersize=5, mew=0)
    axes.plot(cores, means, **style)
    hollow = [count for count in cores if not series.cells[count].fit]
    axes.plot(hollow, [estimates[c].value for c in hollow], style["marker"], color=color, markerfacecolor="white")


@contextmanager
def _publication_style() -> Iterator[None]:
    with mpl.rc_context(RC):  # type: ignore[arg-type]  # the stubs list every key; ours are among them
        yield
