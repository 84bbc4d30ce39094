"""The machine's limits, and how close every algorithm came: a table, and a roofline for each dtype."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure
from numpy.typing import NDArray

from convbench.analysis.limits import OPERATIONS, TRAFFIC, Limits, intensity
from convbench.analysis.series import Series
from convbench.problem import Problem
from convbench.report.content import Column, Figure, Material, Section, Table, Value
from convbench.report.figures import style
from convbench.report.labels import slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pairs = list[tuple[Problem, list[Series]]]

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

GPU_TEXT = (
    "The GPU's were measured on the gpu executor by the GPU's clock: multiply-adds of the ordinary units (not of "
    "those for matrices), traffic with its memory, and reading what the threads of a block share. {data}"
)


def section(material: Material) -> Section:
    """The limits, and a roofline for each dtype that was measured."""
    machine = material.sweep.header.get("machine", {})
    limits, of_gpu = Limits.of(machine), Limits.of_gpu(machine)
    gpu_tables = [gpu_table(of_gpu)] if of_gpu.rates else []
    peaks = machine.get("peaks", {})
    gpu_text = [GPU_TEXT.format(data=_data(peaks.get("device", {})))] if of_gpu.rates else []
    if reason := gpu_reason(machine):
        gpu_text.append(f"Not all of the GPU's limits could be measured: {reason}.")
    if not limits.rates:
        reason = peaks.get("reason", "")
        text = "Not measured" + (f": {reason}." if reason else " in this sweep.")
        return Section("The machine's limits", [text, *gpu_text], gpu_tables)
    by_dtype: dict[str, list[tuple[Problem, list[Series]]]] = {}
    for problem, several in material.by_problem().items():
        by_dtype.setdefault(problem.dtype, []).append((problem, several))
    caption = (
        "direct-form operations a second over operations for each byte of input, weights and output. The roofs are "
        "what was measured on so many cores; hollow marks are one core, full ones the most cores that were free"
    ) + (", half-full ones a GPU." if of_gpu.rates else ".")
    figures = [
        Figure(
            slug("roofline", dtype),
            f"{material.titled(f'Roofline, {dtype}')}: {caption}",
            partial(_draw, limits, of_gpu, dtype, pairs),
        )
        for dtype, pairs in by_dtype.items()
    ]
    text = TEXT.format(data=_data(peaks))
    return Section("The machine's limits", [text, *gpu_text], [limits_table(limits), *gpu_tables], figures)


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


def gpu_table(limits: Limits) -> Table:
    """A row for each kind of work that a GPU was measured with."""
    rows: list[list[Value]] = []
    for kind in limits.rates[1]:
        best = limits.best(kind, 1)
        unit = "GFLOP/s" if kind in OPERATIONS else "GB/s"
        rows.append([TITLES.get(kind, kind), unit, None if best is None else best / 1e9, limits.steadiness(kind, 1)])
    columns = [Column(""), Column("unit"), Column("best", ".1f"), Column("median", ".0%")]
    title = "What the GPU can do at most: the best, and the median as a share of it"
    return Table("gpu-limits", title, columns, rows)


def gpu_reason(machine: Mapping[str, Any]) -> str:
    """Why some of a GPU's limits were not measured; empty where there is nothing to say."""
    return str(machine.get("peaks", {}).get("device", {}).get("reason", ""))


def _data(peaks: Mapping[str, Any]) -> str:
    """The data that limits were measured on: sweeps that do not say so used constants."""
    return RANDOM if peaks.get("data") == "random" else CONSTANT


def _draw(limits: Limits, of_gpu: Limits, dtype: str, pairs: Pairs) -> MatplotlibFigure:
    figure = MatplotlibFigure((7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    places = [intensity(problem) for problem, _ in pairs]
    reach = np.geomspace(min(0.25, *places) / 2, max(1024, *places) * 2, 200)
    ends = sorted({min(limits.rates), max(limits.rates)})
    for cores, line in zip(ends, ("--", "-") if len(ends) > 1 else ("-",), strict=True):
        _add_roof(axes, reach, limits, dtype, cores, line, f"roof, {cores} core{'s' if cores > 1 else ''}")
    if of_gpu.rates:
        _add_roof(axes, reach, of_gpu, dtype, 1, ":", "roof, GPU")
    for number, algorithm in enumerate(dict.fromkeys(series.algorithm for _, several in pairs for series in several)):
        for cores, fill in zip(ends, ("none", "full") if len(ends) > 1 else ("full",), strict=True):
            _add_marks(axes, pairs, algorithm, cores, {**style(number), "fillstyle": fill})
        if of_gpu.rates:
            _add_marks(axes, pairs, algorithm, 1, {**style(number), "fillstyle": "left"}, on_gpu=True)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("operations for each byte (FLOP/B)")
    axes.set_ylabel("GFLOP/s")
    figure.legend(loc="outside right center")
    return figure


def _add_roof(
    axes: Axes, reach: NDArray[np.float64], limits: Limits, dtype: str, cores: int, line: str, label: str
) -> None:
    roof = np.array([limits.roof(x, dtype, cores) or np.nan for x in reach])
    axes.plot(reach, roof / 1e9, line, color="black", linewidth=1, label=label)


def _add_marks(
    axes: Axes, pairs: Pairs, algorithm: str, cores: int, marks: dict[str, Any], *, on_gpu: bool = False
) -> None:
    """A mark for each problem; an algorithm is named once, by a mark that is not hollow."""
    points = [
        (intensity(problem), fastest / 1e9)
        for problem, several in pairs
        if (fastest := _fastest(several, algorithm, cores, on_gpu=on_gpu)) is not None
    ]
    if points:
        named = algorithm in axes.get_legend_handles_labels()[1]
        label = None if named or marks["fillstyle"] == "none" else algorithm
        axes.plot(*zip(*points, strict=True), linestyle="none", **marks, label=label)


def _fastest(several: list[Series], algorithm: str, cores: int, *, on_gpu: bool = False) -> float | None:
    """The highest rate of an algorithm on so many cores, or on a GPU, over all executors."""
    rates = [
        series.cells[cores].rate
        for series in several
        if series.algorithm == algorithm
        and cores in series.cells
        and series.cells[cores].fit
        and series.cells[cores].on_gpu == on_gpu
    ]
    return max(rates, default=None)
