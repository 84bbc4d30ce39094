"""Stages of each algorithm over core counts, and the set-up before the clock starts."""

from __future__ import annotations

from functools import partial
from typing import Final

from matplotlib.figure import Figure as MatplotlibFigure

from convbench.analysis.series import Series
from convbench.analysis.times import WAITING, CellTimes
from convbench.problem import Problem
from convbench.report.content import Column, Figure, Material, Section, Table, Value, seconds_spec
from convbench.report.figures import COLORS, add_legend, panels
from convbench.report.labels import slug
from convbench.report.times import cores_heading

TEXT: Final = (
    "Every worker reads the processor's clock where it goes from one stage of the algorithm to the next, in the very "
    "calls that are timed. The tables have the seconds of one call that a worker spends in each stage, mean over "
    "workers, samples and runs. Waiting is what is left of the call: starting, claiming units of work, and waiting for "
    "the last worker. The speedup is each stage's own: the stage that has the least holds the others back. The figure "
    "has core-seconds for the same work, where there were cores enough: with ideal scaling all bars of a panel are as "
    "high as the first. On a GPU the stages are the launches: each has the share of the samples that it has of a call "
    "of its own, with events between the launches.",
    "Compiling, packing weights, starting workers and checking the output come before the first sample; none of it is "
    "in any time. Arrays lie where the executor reads and writes them, so that no call copies any.",
)
STAGE_COLORS: Final = (*COLORS, "#F0E442", "#555555")
WAITING_COLOR: Final = "#dddddd"


def section(material: Material) -> Section:
    """Tables and a figure for each problem whose algorithms have stages, and a table of set-up."""
    tables: list[Table] = []
    figures: list[Figure] = []
    for problem, several in material.by_problem().items():
        staged = [series for series in several if any(cell.stages for cell in series.cells.values())]
        tables += [stage_table(material, problem, series) for series in staged]
        staged, label = [series for series in staged if not series.on_gpu], material.label(problem)
        if staged:
            name, caption = slug("stages", material.slug(problem)), material.titled(f"{label}, core-seconds by stage")
            figures.append(Figure(name, f"Where the time goes: {caption}.", partial(_draw, staged)))
    if not tables:
        return Section("Where the time goes")
    ready = [ready_table(material, problem, several) for problem, several in material.by_problem().items()]
    return Section("Where the time goes", TEXT, [*tables, *ready], figures)


def stage_table(material: Material, problem: Problem, series: Series) -> Table:
    """Rows are stages, columns core counts, each but the first followed by the stage's own speedup."""
    cells = list(series.cells.values())
    spec = seconds_spec(cell.minimum / 10 for cell in cells)
    names = list(dict.fromkeys(name for cell in cells for name in cell.stages))
    columns = [Column("stage")]
    for cell in cells:
        columns += [
            Column(cores_heading(cell), spec),
            *([Column(f"speedup on {cell.cores}", ".2f")] if cell is not cells[0] else []),
        ]
    rows: list[list[Value]] = []
    for name in [*names, WAITING]:
        row: list[Value] = [name]
        for cell in cells:
            row += [cell.stage(name)]
            row += [_stage_speedup(series, name, cell)] if cell is not cells[0] else []
        rows.append(row)
    total: list[Value] = ["whole call"]
    for cell in cells:
        total += [
            cell.mean.value,
            *([series.ratio_of_means(cells[0].cores, cell.cores)] if cell is not cells[0] else []),
        ]
    return Table(
        name=slug("stages", material.slug(problem), series.algorithm, series.executor),
        title=material.titled(f"{material.label(problem)}: {series.name}, seconds in each stage"),
        columns=columns,
        rows=[*rows, total],
        summary_rows=1,
    )


def ready_table(material: Material, problem: Problem, several: list[Series]) -> Table:
    """Seconds of each step of set-up, mean over runs."""
    setups = sorted((cell.setup for series in several for cell in series.cells.values()), key=len, reverse=True)
    steps = list(dict.fromkeys(step for setup in setups for step in setup))  # in the order of the longest
    rows: list[list[Value]] = [
        [series.algorithm, series.executor, cell.cores, *(cell.step(step) for step in steps)]
        for series in several
        for cell in series.cells.values()
    ]
    columns = [Column("algorithm"), Column("executor"), Column("cores", "d"), *(Column(step, ".3f") for step in steps)]
    return Table(
        slug("ready", material.slug(problem)), f"{material.label(problem)}: getting ready, seconds", columns, rows
    )


def _stage_speedup(series: Series, name: str, cell: CellTimes) -> float | None:
    """A stage's speedup from the first core count to a cell's; None for waiting."""
    first = next(iter(series.cells.values()))
    before, now = first.stage(name), cell.stage(name)
    if name == WAITING or not before or not now:
        return None
    return series.growth(first.cores, cell.cores) * before / now


def _draw(several: list[Series]) -> MatplotlibFigure:
    """A panel for each algorithm: a stacked bar for each executor and core count."""
    algorithms = list(dict.fromkeys(series.algorithm for series in several))
    names = list(dict.fromkeys(n for series in several for cell in series.cells.values() for n in cell.stages))
    colors = {name: STAGE_COLORS[number % len(STAGE_COLORS)] for number, name in enumerate(names)} | {
        WAITING: WAITING_COLOR
    }
    figure, axes_of = panels(algorithms, "core-seconds", shared=False)
    for algorithm, axes in axes_of.items():
        place, ticks = 0.0, []
        for series in several:
            if series.algorithm != algorithm:
                continue
            first = next(iter(series.cells))
            for cores, cell in series.cells.items():
                if not cell.fit:
                    continue
                height, share = 0.0, cores / series.growth(first, cores)
                for name in [*cell.stages, WAITING]:
                    part = max(0.0, cell.stage(name) or 0.0) * share
                    axes.bar(place, part, 0.8, height, color=colors[name], label=name)
                    height += part
                ticks.append((place, f"{series.executor} {cores}"))
                place += 1
            place += 0.5
        axes.set_xticks([at for at, _ in ticks], [label for _, label in ticks], rotation=40, ha="right")
        axes.grid(visible=False, axis="x")
        axes.set_axisbelow(True)
    add_legend(figure, [*names, WAITING])
    return figure
