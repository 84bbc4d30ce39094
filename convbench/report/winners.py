"""The picture of where which form wins: a mark for each problem, by its shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from convbench.algorithms import ALGORITHMS
from convbench.problem import Problem
from convbench.report.figures import ENTRIES_IN_A_ROW, panels, style
from convbench.select.judging.baselines import forms
from convbench.select.judging.report_card import CLOSE
from convbench.select.judging.table import Table, form_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as MatplotlibFigure

STEP: Final = 3.4
"""Distance of marks that have the same place, in points."""
POINTS_IN_AN_INCH: Final = 72
FEW_DECADES: Final = 1.3
"""Length of an axis below which it has ticks at 2 and 5, too."""
LEAST_MARGIN: Final = 1.3
"""Factor by which an axis goes beyond its marks."""
GOLDEN_ANGLE: Final = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class Panel:
    """A kind of problems, and what their horizontal axis shows."""

    title: str
    holds: Callable[[Problem], bool]
    label: str
    value: Callable[[Problem], int]


def _window(problem: Problem) -> tuple[int, int]:
    return problem.kernel_height, problem.kernel_width


def _depthwise(problem: Problem) -> bool:
    return problem.groups == problem.channels > 1


PANELS: Final = (
    Panel("1 x 1", lambda p: _window(p) == (1, 1) and not _depthwise(p), "channels of a filter", lambda p: p.taps),
    Panel("3 x 3", lambda p: _window(p) == (3, 3) and not _depthwise(p), "products of an output", lambda p: p.taps),
    Panel("depthwise", _depthwise, "channels", lambda p: p.channels),
    Panel("other kernels", lambda _: True, "products of an output", lambda p: p.taps),
)
"""A problem is in the first panel that holds it."""


@dataclass(frozen=True)
class Mark:
    """A problem in the picture: its panel and place, the form that wins, and whether another one is close."""

    panel: Panel
    x: float
    y: float
    form: str
    is_close: bool


def marks(table: Table) -> Iterator[Mark]:
    """A mark for each problem that several forms can compute."""
    form_names = np.array([form_of(name) for name in table.candidates])
    for problem, seconds in zip(table.problems, table.seconds, strict=True):
        best = {
            form: float(np.nanmin(seconds[form_names == form]))
            for form in forms(table)
            if np.isfinite(seconds[form_names == form]).any()
        }
        if len(best) < 2:
            continue
        winner, other = sorted(best, key=best.__getitem__)[:2]
        panel = next(panel for panel in PANELS if panel.holds(problem))
        pixels = problem.batch * problem.output_height * problem.output_width
        yield Mark(panel, panel.value(problem), pixels, winner, best[other] <= best[winner] * (1 + CLOSE))


def draw(table: Table) -> MatplotlibFigure:
    """A panel for each kind of problems that the table has."""
    every = list(marks(table))
    shown = [panel for panel in PANELS if any(mark.panel is panel for mark in every)]
    figure, axes_of = panels([panel.title for panel in shown], "output pixels", shared=False)
    looks = _looks(forms(table))
    for panel in shown:
        _draw_panel(axes_of[panel.title], panel, [mark for mark in every if mark.panel is panel], looks)
    winning = {mark.form for mark in every}
    entries = [Line2D([], [], linestyle="", label=form, **look) for form, look in looks.items() if form in winning]
    if any(mark.is_close for mark in every):
        hollow: dict[str, Any] = {"marker": "o", "color": "#666666", "markerfacecolor": "white"}
        entries.append(Line2D([], [], linestyle="", label=f"hollow: another within {CLOSE:.0%}", **hollow))
    figure.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), ENTRIES_IN_A_ROW))
    return figure


def _looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each form: those of ours have the same in every picture."""
    ordered = [*ALGORITHMS, *(name for name in names if name not in ALGORITHMS)]
    return {name: style(number) for number, name in enumerate(ordered) if name in names}


def _draw_panel(axes: Axes, panel: Panel, every: Sequence[Mark], looks: dict[str, dict[str, Any]]) -> None:
    axes.set_xlabel(panel.label)
    _set_axis(axes.xaxis, axes.set_xscale, axes.set_xlim, [mark.x for mark in every])
    _set_axis(axes.yaxis, axes.set_yscale, axes.set_ylim, [mark.y for mark in every])
    taken: dict[tuple[float, float], int] = {}
    for mark in every:
        place, look = (mark.x, mark.y), looks[mark.form]
        taken[place] = taken.get(place, -1) + 1
        beside = axes.transData + _beside(axes, taken[place])
        fill = "white" if mark.is_close else look["color"]
        axes.plot(*place, ls="", ms=4.5, markerfacecolor=fill, markeredgewidth=0.9, transform=beside, **look)


def _set_axis(axis: Axis, scale: Callable[[str], None], limit: Callable[..., Any], values: Sequence[float]) -> None:
    """A logarithmic axis for some values; how far it goes does not depend on marks that lie beside their place."""
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.06, LEAST_MARGIN)
    scale("log")
    limit(low / margin, high * margin)
    few = math.log10(high / low * margin**2) < FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter("{x:,.0f}")


def _beside(axes: Axes, number: int) -> ScaledTranslation:
    """Where the n-th mark of a place lies: on a spiral around it, from 0 in the middle."""
    far, angle = STEP / POINTS_IN_AN_INCH * math.sqrt(number), GOLDEN_ANGLE * number
    figure: Any = axes.figure
    return ScaledTranslation(far * math.cos(angle), far * math.sin(angle), figure.dpi_scale_trans)
