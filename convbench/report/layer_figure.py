"""The figure of a network: where its time goes, layer by layer and stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from convbench.analysis.layers import LayerTimes, NetworkTimes
from convbench.analysis.limits import Limits
from convbench.analysis.own_limit import of_cell
from convbench.analysis.times import WAITING, CellTimes
from convbench.problem import Problem
from convbench.report.figures import ENTRIES_IN_A_ROW
from convbench.report.stages import STAGE_COLORS, WAITING_COLOR

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_LAYERS: Final = 40
"""Bars of a figure: of more layers, those that take the most time."""
BAR_INCHES: Final = 0.21
REST: Final = "all stages"
"""The stage of a cell that tells none."""


def draw(network: NetworkTimes, labels: Mapping[Problem, str], limits: Limits) -> MatplotlibFigure:
    """A horizontal bar for each layer, in the order of the network, stacked by the stages of its best candidate."""
    layers = _longest(network.computed)
    stages = {layer.problem: _seconds_of_stages(layer) for layer in layers}
    colors = _colors(list(dict.fromkeys(name for parts in stages.values() for name in parts)))
    figure = MatplotlibFigure((7.4, 1.4 + BAR_INCHES * len(layers)), layout="constrained")
    axes = figure.subplots()
    for place, layer in enumerate(layers):
        left = 0.0
        for name, seconds in stages[layer.problem].items():
            axes.barh(place, seconds, 0.8, left, color=colors[name])
            left += seconds
        _add_marks(axes, place, layer, limits)
    axes.set_yticks(range(len(layers)), [_label(layer, labels) for layer in layers], fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.set_xlabel("time in the network")
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    marks = [Line2D([], [], linestyle="", marker="|", markersize=10, mew=1.6, color="black", label="own limit")]
    marks += [
        Line2D(
            [],
            [],
            linestyle="",
            marker="D",
            markersize=4,
            color="black",
            markerfacecolor="white",
            label="fastest library",
        )
    ]
    known = [any(line.get_marker() == mark.get_marker() for line in axes.lines) for mark in marks]
    entries: list[Artist] = [Patch(color=color, label=name) for name, color in colors.items()]
    entries += [mark for mark, shown in zip(marks, known, strict=True) if shown]
    figure.legend(handles=entries, loc="outside lower center", ncols=min(len(entries), ENTRIES_IN_A_ROW))
    return figure


def _longest(layers: Sequence[LayerTimes]) -> list[LayerTimes]:
    """The layers that take the most time in the network, in its order."""
    longest = sorted(layers, key=_seconds, reverse=True)[:MOST_LAYERS]
    chosen = {layer.problem for layer in longest}
    return [layer for layer in layers if layer.problem in chosen]


def _seconds(layer: LayerTimes) -> float:
    return 0.0 if layer.ours is None else layer.count * layer.ours.cell.mean.value


def _seconds_of_stages(layer: LayerTimes) -> dict[str, float]:
    """Seconds in the network of each stage of the best candidate; together they are its time."""
    assert layer.ours is not None  # noqa: S101  # of the layers that were computed
    cell: CellTimes = layer.ours.cell
    parts = {name: max(0.0, cell.stage(name) or 0.0) for name in (*cell.stages, WAITING)} if cell.stages else {}
    whole = sum(parts.values())
    if not whole:
        return {REST: _seconds(layer)}
    return {name: _seconds(layer) * part / whole for name, part in parts.items()}


def _colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each stage; waiting is grey, and comes last."""
    stages = [name for name in names if name != WAITING]
    found = {name: STAGE_COLORS[number % len(STAGE_COLORS)] for number, name in enumerate(stages)}
    return {**found, **({WAITING: WAITING_COLOR} if WAITING in names else {})}


def _add_marks(axes: Axes, place: int, layer: LayerTimes, limits: Limits) -> None:
    """What the best candidate's own limit allows, and the time of the fastest library."""
    limit = None if layer.ours is None else of_cell(layer.ours.cell, limits)
    if limit is not None:
        axes.plot([layer.count * limit.seconds], [place], "|", color="black", markersize=10, mew=1.6)
    if layer.theirs is not None:
        seconds = layer.count * layer.theirs.cell.mean.value
        axes.plot([seconds], [place], "D", color="black", markersize=4, markerfacecolor="white", mew=0.9)


def _label(layer: LayerTimes, labels: Mapping[Problem, str]) -> str:
    """The layer, how often the network has it, and the form that is fastest."""
    times = f" x{layer.count}" if layer.count > 1 else ""
    return f"{labels[layer.problem]}{times}, {layer.ours.key[0]}" if layer.ours is not None else labels[layer.problem]
