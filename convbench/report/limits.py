"""What the machine can do at most, and how near to it every algorithm came: a table and a roofline for each dtype."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from convbench.analysis.limits import OPERATIONS, TRAFFIC, Limits, intensity
from convbench.analysis.series import Series
from convbench.problem import Problem
from convbench.report.content import Column, Figure, Material, Section, Table, Value
from convbench.report.figures import style
from convbench.report.labels import slug

TITLES: Final = {
    "multiply_add_float32": "multiply-add, float32",
    "multiply_add_float64": "multiply-add, float64",
    "read": "read",
    "write": "write",
    "stream": "write past the caches",
    "copy": "copy",
    "shared": "read, shared by a block",
}
TEXT = (
    "Measured before the first run, on the executors that the convolutions run on: chains of multiply-adds in "
    "registers (two operations each), and traffic with a buffer larger than the caches: reading it, writing it by "
    "ordinary stores, writing it by stores past the caches, and copying it (a copy counts what it reads and what it "
    "writes). {data} The limit is the best of the repetitions; the share that the median reaches tells how "
    "steady the machine was. Percent of peak counts the direct form's operations, whatever the algorithm: one that "
    "needs fewer products can pass 100 %. The slope of a roof is the fastest of these kinds of traffic, so no mix of "
    "them can pass it."
)
RANDOM: Final = (
    "Registers and buffers held random numbers, as the convolutions' do: zeros are written several times as fast as "
    "anything else by some processors, and random data take some of the clock where power is limited."
)
CONSTANT: Final = (
    "Registers and buffers held zeros or ones: some processors write zeros several times as fast as anything else, so "
    "the limits of writing, and the roof where they are the fastest traffic, may be beyond what is possible for other "
    "numbers. Newer versions measure with random numbers."
)

DEVICE_TEXT = (
    "The card's were measured on the gpu executor by the card's clock: multiply-adds of the ordinary units (not of "
    "those for matrices), traffic with its memory, and reading what the threads of a block share. {data}"
)


def section(material: Material) -> Section:
    """The limits, and a roofline for each dtype that was measured."""
    machine = material.sweep.header.get("machine", {})
    limits, of_device = Limits.of(machine), Limits.of_device(machine)
    device_tables = [device_table(of_device)] if of_device.rates else []
    peaks = machine.get("peaks", {})
    device_text = [DEVICE_TEXT.format(data=_data(peaks.get("device", {})))] if of_device.rates else []
    if reason := device_reason(machine):
        device_text.append(f"Not all of the card's limits could be measured: {reason}.")
    if not limits.rates:
        reason = peaks.get("reason", "")
        text = "Not measured" + (f": {reason}." if reason else " in this sweep.")
        return Section("The machine's limits", [text, *device_text], device_tables)
    by_dtype: dict[str, list[tuple[Problem, list[Series]]]] = {}
    for problem, several in material.by_problem().items():
        by_dtype.setdefault(problem.dtype, []).append((problem, several))
    caption = (
        "direct-form operations a second over operations for each byte of input, weights and output. The roofs are "
        "what was measured on so many cores; hollow marks are one core, full ones the most cores that were free"
    ) + (", half-full ones a device." if of_device.rates else ".")
    figures = [
        Figure(
            slug("roofline", dtype),
            f"{material.titled(f'Roofline, {dtype}')}: {caption}",
            partial(_draw, limits, of_device, dtype, pairs),
        )
        for dtype, pairs in by_dtype.items()
    ]
    text = TEXT.format(data=_data(peaks))
    return Section("The machine's limits", [text, *device_text], [limits_table(limits), *device_tables], figures)


def limits_table(limits: Limits) -> Table:
    """A row for each kind of work: best rate, and the median's share of it, on each number of cores."""
    columns = [Column(""), Column("unit")]
    for cores in limits.rates:
        on = f"{cores} core{'s' if cores > 1 else ''}"
        columns += [Column(on, ".1f"), Column("median", ".0%")]
    rows: list[list[Value]] = []
    for kind in (*OPERATIONS, *TRAFFIC):
        row: list[Value] = [TITLES[kind], "GFLOP/s" if kind in OPERATIONS else "GB/s"]
        for cores in limits.rates:
            best = limits.best(kind, cores)
            row += [None if best is None else best / 1e9, limits.steadiness(kind, cores)]
        rows.append(row)
    return Table("limits", "What the machine can do at most: the best, and the median as a share of it", columns, rows)


def device_table(limits: Limits) -> Table:
    """A row for each kind of work that a card was measured with."""
    rows: list[list[Value]] = []
    for kind in limits.rates[1]:
        best = limits.best(kind, 1)
        unit = "GFLOP/s" if kind in OPERATIONS else "GB/s"
        rows.append([TITLES.get(kind, kind), unit, None if best is None else best / 1e9, limits.steadiness(kind, 1)])
    columns = [Column(""), Column("unit"), Column("best", ".1f"), Column("median", ".0%")]
    title = "What the card can do at most: the best, and the median as a share of it"
    return Table("device-limits", title, columns, rows)


def device_reason(machine: Mapping[str, Any]) -> str:
    """Why some of a card's limits were not measured; empty where there is nothing to say."""
    return str(machine.get("peaks", {}).get("device", {}).get("reason", ""))


def _data(peaks: Mapping[str, Any]) -> str:
    """What the limits were measured on: sweeps that do not say so had the same number everywhere."""
    return RANDOM if peaks.get("data") == "random" else CONSTANT


def _draw(limits: Limits, of_device: Limits, dtype: str, pairs: list[tuple[Problem, list[Series]]]) -> MatplotlibFigure:
    figure = MatplotlibFigure((7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    places = [intensity(problem) for problem, _ in pairs]
    reach = np.geomspace(min(0.25, *places) / 2, max(1024, *places) * 2, 200)
    ends = sorted({min(limits.rates), max(limits.rates)})
    for cores, line in zip(ends, ("--", "-") if len(ends) > 1 else ("-",), strict=True):
        roof = [limits.roof(x, dtype, cores) or np.nan for x in reach]
        axes.plot(
            reach,
            np.array(roof) / 1e9,
            line,
            color="black",
            linewidth=1,
            label=f"roof, {cores} core{'s' if cores > 1 else ''}",
        )
    if of_device.rates:
        roof = [of_device.roof(x, dtype, 1) or np.nan for x in reach]
        axes.plot(reach, np.array(roof) / 1e9, ":", color="black", linewidth=1, label="roof, device")
    algorithms = list(dict.fromkeys(series.algorithm for _, several in pairs for series in several))
    for number, algorithm in enumerate(algorithms):
        marks: dict[str, Any] = {**style(number), "linestyle": "none"}
        for cores, fill in zip(ends, ("none", "full") if len(ends) > 1 else ("full",), strict=True):
            points = [
                (intensity(problem), fastest / 1e9)
                for problem, several in pairs
                if (fastest := _fastest(several, algorithm, cores)) is not None
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True), fillstyle=fill, **marks, label=algorithm if fill == "full" else None
                )
        points = [
            (intensity(problem), fastest / 1e9)
            for problem, several in pairs
            if of_device.rates and (fastest := _fastest(several, algorithm, 1, on_device=True)) is not None
        ]
        if points:
            named = algorithm in axes.get_legend_handles_labels()[1]
            axes.plot(*zip(*points, strict=True), fillstyle="left", **marks, label=None if named else algorithm)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("operations for each byte (FLOP/B)")
    axes.set_ylabel("GFLOP/s")
    figure.legend(loc="outside right center")
    return figure


def _fastest(several: list[Series], algorithm: str, cores: int, *, on_device: bool = False) -> float | None:
    """The highest rate of an algorithm on so many cores, or on a device, whatever the executor."""
    rates = [
        series.cells[cores].rate
        for series in several
        if series.algorithm == algorithm
        and cores in series.cells
        and series.cells[cores].fit
        and series.cells[cores].on_device == on_device
    ]
    return max(rates, default=None)
