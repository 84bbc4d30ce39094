"""The figure of several nodes: measured, and predicted far beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure as MatplotlibFigure

from convbench.analysis.communication import Prediction
from convbench.analysis.nodes import NodeSeries
from convbench.report.figures import COLORS, PANEL_HEIGHT, PANEL_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CALL, BLOCKS, WHOLE, COMPUTE, IMBALANCE, COMMUNICATION = COLORS
SHOWN: Final = 1e-5
"""The least part of one node's call that a figure shows."""


def draw(series: NodeSeries) -> MatplotlibFigure:
    """Seconds of a call, and its parts, over nodes; where nothing was measured the background is grey."""
    figure = MatplotlibFigure((0.6 + 2.6 * PANEL_WIDTH, 1.2 + 1.3 * PANEL_HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    rows, blocks = series.predicted("rows"), series.predicted("blocks")
    _calls(left, series, rows, blocks)
    _parts(right, series, rows)
    left.set_title("a call")
    right.set_title("parts of a call, cut in one dimension")
    left.set_ylabel("time")
    for axes in (left, right):
        _set_axes(axes, series, [each.nodes for each in rows])
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    left.set_ylim(bottom=min(each.seconds for each in blocks) / 2)
    right.set_ylim(bottom=SHOWN * rows[0].seconds)
    return figure


def _calls(axes: Axes, series: NodeSeries, rows: Sequence[Prediction], blocks: Sequence[Prediction]) -> None:
    """Measured with bars; predicted in one and two dimensions, and end to end; one node's time divided evenly."""
    nodes = [each.nodes for each in rows]
    ideal = [each.compute for each in rows]
    axes.plot(nodes, ideal, color="#888888", linestyle="-", linewidth=0.8, label="one node's, divided evenly")
    for several, color, name in ((rows, CALL, "one dimension"), (blocks, BLOCKS, "blocks")):
        _dashed(axes, nodes, [each.seconds for each in several], color, f"predicted, {name}")
    whole = [each.end_to_end for each in rows]
    _dashed(axes, nodes, whole, WHOLE, "predicted, end to end")
    estimates = [cell.seconds for cell in series.cells.values()]
    values = [estimate.value for estimate in estimates]
    low, high = (
        [0.0 if bound is None else abs(value - bound) for value, bound in zip(values, bounds, strict=True)]
        for bounds in zip(*((estimate.low, estimate.high) for estimate in estimates), strict=True)
    )
    style: dict[str, Any] = {"color": CALL, "marker": "o", "capsize": 2.5, "zorder": 3}
    axes.errorbar(list(series.cells), values, yerr=[low, high], label="measured", **style)
    hollow = [cell for cell in series.cells.values() if not cell.fit]
    places = [cell.nodes for cell in hollow], [cell.seconds.value for cell in hollow]
    axes.plot(*places, "o", color=CALL, markerfacecolor="white", zorder=4)
    ends = {n: cell.end_to_end for n, cell in series.cells.items() if cell.end_to_end is not None}
    if ends:
        axes.plot(*zip(*ends.items(), strict=True), color=WHOLE, marker="s", label="measured, end to end", zorder=3)


def _parts(axes: Axes, series: NodeSeries, rows: Sequence[Prediction]) -> None:
    """Compute, imbalance and communication: dashed as predicted, markers as measured."""
    nodes = [each.nodes for each in rows]
    for name, color, marker in (
        ("compute", COMPUTE, "^"),
        ("imbalance", IMBALANCE, "D"),
        ("communication", COMMUNICATION, "v"),
    ):
        _dashed(axes, nodes, [getattr(each, name) for each in rows], color, f"{name}, predicted")
        found = {n: value for n, cell in series.cells.items() if (value := cell.part(name)) is not None and value > 0}
        if found:
            axes.plot(
                *zip(*found.items(), strict=True), color=color, marker=marker, label=f"{name}, measured", zorder=3
            )


def _dashed(axes: Axes, nodes: Sequence[int], seconds: Sequence[float], color: str, label: str) -> None:
    """A predicted line; what takes no time has no place on a logarithmic axis."""
    shown = [(n, value) for n, value in zip(nodes, seconds, strict=True) if value > 0]
    if shown:
        axes.plot(*zip(*shown, strict=True), color=color, linestyle=(0, (4, 2)), linewidth=1.2, label=label)


def _set_axes(axes: Axes, series: NodeSeries, nodes: Sequence[int]) -> None:
    """Nodes on a log-2 axis, seconds on a log-10 one; grey beyond what was measured."""
    axes.set_xlabel("nodes")
    axes.set_xscale("log", base=2)
    axes.set_xticks(nodes[::2], [str(count) for count in nodes[::2]])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(mpl.ticker.EngFormatter("s"))
    beyond = max(series.cells) * 2**0.5
    axes.axvspan(beyond, nodes[-1] * 2**0.5, color="#f2f2f2", zorder=0, linewidth=0)
    axes.text(beyond * 1.1, 0.97, "predicted", transform=axes.get_xaxis_transform(), va="top", style="italic")
    axes.set_xlim(nodes[0] / 2**0.5, nodes[-1] * 2**0.5)
