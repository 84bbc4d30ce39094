"""Ours beside other libraries: a table for each problem and number of cores, or GPU, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from convbench.analysis.fastest import Ranking, rank
from convbench.analysis.limits import Limits
from convbench.analysis.series import Series
from convbench.analysis.statistics import geometric_mean
from convbench.analysis.times import CellTimes, ratio, ratios_by_run
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, arithmetic, seconds_spec
from convbench.report.labels import slug

Place = int | str  # so many cores, or the executor of a GPU
Key = tuple[str, str]  # algorithm and executor
WRITTEN: Final = {TF32.name: "TF32"}

TEXT = (
    "Every candidate was measured in every run, in random order. A library runs in the mode that its own users would "
    "call fastest, with its output checked like ours; all outputs have our layout, but for torch-channels-last. The "
    "ratio is how many times as long it took as the fastest of ours: a geometric mean over the runs that have both. "
    "Rows are in its order."
)
ON_A_GPU = (
    "On a GPU, ours and libraries' are called on the same arrays there and timed by its own clock, after whatever a "
    "library does once: cuDNN's search for its fastest algorithm, for example. {bounds}Where TF32 is allowed, a column "
    "says what products were computed in: a library that may use TF32 need not."
)
BOUND = (
    "{} a bound and no convolution: only a part of the work is timed, such as the product alone with an input that was "
    "unrolled before. "
)


def section(material: Material) -> Section:
    """Tables where libraries were measured; nothing otherwise."""
    tables = list(versus_tables(material))
    peers = [series for series in material.series if series.on_gpu and series.peer]
    names = list(dict.fromkeys(series.algorithm for series in peers if series.bound))
    bounds = BOUND.format(" and ".join(names) + (" is" if len(names) == 1 else " are")) if names else ""
    text = [TEXT, *([ON_A_GPU.format(bounds=bounds)] if peers else ())]
    return Section("Beside other libraries", text if tables else [], tables)


def versus_tables(material: Material) -> Iterator[Table]:
    """For each problem and number of cores on which a library was measured, and for each GPU.

    Where there are several problems, a table for each place with the best of ours and of theirs comes last.
    """
    places: dict[Place, dict[Problem, dict[Key, CellTimes]]] = {}
    for problem, several in material.by_problem().items():
        for place in _places(several):
            cells = _cells(several, place)
            if all(cell.fit for cell in cells.values()):  # oversubscribed cells are not ranked
                places.setdefault(place, {})[problem] = cells
            yield _table(material, problem, place, cells)
    for place, problems in places.items():
        if len(problems) > 1:
            overall = _overall(material, place, problems)
            if overall is not None:
                yield overall


def _places(several: list[Series]) -> list[Place]:
    """Numbers of cores and GPUs on which a library computed a problem."""
    theirs = [series for series in several if series.peer]
    cores = {count for series in theirs if not series.on_gpu for count in series.cells}
    return [*sorted(cores), *dict.fromkeys(series.executor for series in theirs if series.on_gpu)]


def _cells(several: list[Series], place: Place) -> dict[Key, CellTimes]:
    """The cells that were measured there."""
    return {
        (series.algorithm, series.executor): cell
        for series in several
        for cores, cell in series.cells.items()
        if place == (series.executor if series.on_gpu else cores)
    }


def _on(place: Place) -> str:
    return place if isinstance(place, str) else f"{place} core{'s' if place > 1 else ''}"


def _table(material: Material, problem: Problem, place: Place, cells: dict[Key, CellTimes]) -> Table:
    machine = material.sweep.header.get("machine", {})
    limits = Limits.of_gpu(machine) if isinstance(place, str) else Limits.of(machine)
    ours = [key for key, cell in cells.items() if not cell.peer]
    ranking = rank(cells, ours or None)
    cells = {key: cells[key] for key in ranking.ratios}
    columns = [
        *(Column("algorithm"), Column("executor"), Column("seconds", seconds_spec(c.minimum for c in cells.values()))),
        *(Column("ratio", ".2f"), Column("GFLOP/s", ".1f"), Column("of peak", ".0%")),
    ]
    rows = [_row(key, cell, ranking if ours else None, limits) for key, cell in cells.items()]
    rounded = any(cell.precision != EXACT.name for cell in cells.values())
    if rounded or (isinstance(place, str) and arithmetic(material.spec) != EXACT.name):
        columns.append(Column("products"))
        for row, cell in zip(rows, cells.values(), strict=True):
            row.append(WRITTEN.get(cell.products, cell.products))
    on = _on(place) if all(cell.fit for cell in cells.values()) else f"{_on(place)} (oversubscribed)"
    title = material.titled(f"{material.label(problem)} on {on}, the fastest first")
    return Table(slug("versus", material.slug(problem), _on(place)), title, columns, rows)


def _row(key: Key, cell: CellTimes, ranking: Ranking[Key] | None, limits: Limits) -> list[Value]:
    return [
        *key,
        cell.mean,
        None if ranking is None else 1.0 if key == ranking.reference else ranking.ratios[key],
        cell.rate / 1e9,
        limits.share_of_peak(cell.products, cell.rate, cell.cores) if cell.fit else None,
    ]


def _overall(material: Material, place: Place, problems: dict[Problem, dict[Key, CellTimes]]) -> Table | None:
    """The fastest of ours and of the libraries for each problem, and the geometric mean of how they compare.

    Several names stand where they cannot be distinguished; the times are then the first one's.
    """
    rows: list[list[Value]] = []
    inside: list[dict[int, float]] = []
    best = []
    for problem, cells in problems.items():
        ours, theirs = _fastest(cells, ours=True), _fastest(cells, ours=False)
        if ours and theirs:
            our, their = cells[ours.reference], cells[theirs.reference]
            best += [our, their]
            inside.append(ratios_by_run(their, our))
            names = [", ".join(dict.fromkeys(name for name, _ in several.best)) for several in (ours, theirs)]
            rows.append([material.label(problem), names[0], our.mean, names[1], their.mean, ratio(their, our)])
    if not rows:
        return None
    complete = [run for run in (inside[0] if inside else ()) if all(run in ratios for ratios in inside)]
    together = [geometric_mean([ratios[run] for ratios in inside]).value for run in complete]
    rows.append(["geometric mean", None, None, None, None, geometric_mean(together) if together else None])
    spec = seconds_spec(cell.minimum for cell in best)
    columns = [
        *(Column("problem"), Column("ours"), Column("our seconds", spec), Column("theirs")),
        *(Column("their seconds", spec), Column("theirs over ours", ".2f")),
    ]
    return Table(slug("versus", "all", _on(place)), material.titled(f"All problems on {_on(place)}"), columns, rows)


def _fastest(cells: dict[Key, CellTimes], *, ours: bool) -> Ranking[Key] | None:
    """The fastest of ours, or of the libraries that compute all of the convolution."""
    found = {key: cell for key, cell in cells.items() if not cell.bound and cell.peer != ours}
    return rank(found) if found else None
