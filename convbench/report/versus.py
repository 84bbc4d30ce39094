"""Ours beside other libraries: a table for each problem and number of cores, or device, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.analysis.limits import Limits
from convbench.analysis.series import TF32, CellTimes, Series, ratio, ratios_by_run
from convbench.analysis.statistics import geometric_mean
from convbench.peers import PEERS, is_bound
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec, slug

Place = int | str  # so many cores, or the executor of a device
Key = tuple[str, str]  # algorithm and executor

TEXT = (
    "Every candidate was measured in every run, in random order. A library runs in the mode that its own users would "
    "call fastest, with its output checked like ours; all outputs have our layout, but for torch-channels-last. The "
    "ratio is how many times as long it took as the fastest of ours, paired inside runs."
)
ON_A_DEVICE = (
    "On a device, ours and libraries' are called on the same arrays there and timed by its own clock, after whatever a "
    "library does once: cuDNN's search for its fastest algorithm, for example. {bounds}Where TF32 is allowed, a column "
    "says what products were computed in: a library that may use TF32 need not."
)
BOUND = "cublas is a bound and no convolution: the product alone, with an input that was unrolled before. "


def section(material: Material) -> Section:
    """Tables where libraries were measured; nothing otherwise."""
    tables = list(versus_tables(material))
    peers = [series for series in material.series if series.on_device and series.algorithm in PEERS]
    bounds = BOUND if any(is_bound(series.algorithm) for series in peers) else ""
    text = [TEXT, *([ON_A_DEVICE.format(bounds=bounds)] if peers else ())]
    return Section("Beside other libraries", text if tables else [], tables)


def versus_tables(material: Material) -> Iterator[Table]:
    """For each problem and number of cores on which a library was measured, and for each device.

    Where there are several problems, a table for each place with the best of ours and of theirs comes last.
    """
    places: dict[Place, dict[Problem, dict[Key, CellTimes]]] = {}
    for problem, several in material.by_problem().items():
        for place in _places(several):
            cells = _cells(several, place)
            places.setdefault(place, {})[problem] = cells
            yield _table(material, problem, place, cells)
    for place, problems in places.items():
        if len(problems) > 1:
            yield _overall(material, place, problems)


def _places(several: list[Series]) -> list[Place]:
    """Numbers of cores and devices on which a library computed a problem."""
    theirs = [series for series in several if series.algorithm in PEERS]
    cores = {count for series in theirs if not series.on_device for count in series.cells}
    return [*sorted(cores), *dict.fromkeys(series.executor for series in theirs if series.on_device)]


def _cells(several: list[Series], place: Place) -> dict[Key, CellTimes]:
    """What was measured there, the fastest first."""
    cells = {
        (series.algorithm, series.executor): cell
        for series in several
        for cores, cell in series.cells.items()
        if place == (series.executor if series.on_device else cores)
    }
    return {key: cells[key] for key in sorted(cells, key=lambda key: cells[key].mean.value)}


def _on(place: Place) -> str:
    return place if isinstance(place, str) else f"{place} core{'s' if place > 1 else ''}"


def _table(material: Material, problem: Problem, place: Place, cells: dict[Key, CellTimes]) -> Table:
    machine = material.sweep.header.get("machine", {})
    limits = Limits.of_device(machine) if isinstance(place, str) else Limits.of(machine)
    ours = next((cell for (name, _), cell in cells.items() if name not in PEERS), None)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("seconds", seconds_spec(c.minimum for c in cells.values()))),
        *(Column("ratio", ".2f"), Column("GFLOP/s", ".1f"), Column("of peak", ".0%")),
    ]
    rows = [_row(key, cell, ours, limits) for key, cell in cells.items()]
    if isinstance(place, str) and material.spec.get("allow_tf32"):
        columns.append(Column("products"))
        for row, cell in zip(rows, cells.values(), strict=True):
            row.append("TF32" if cell.products == TF32 else cell.products)
    title = material.titled(f"{problem.label} on {_on(place)}, the fastest first")
    return Table(slug("versus", problem.label, _on(place)), title, columns, rows)


def _row(key: Key, cell: CellTimes, ours: CellTimes | None, limits: Limits) -> list[Value]:
    return [
        *key,
        cell.mean,
        None if ours is None else 1.0 if ours is cell else ratio(cell, ours),
        cell.rate / 1e9,
        limits.share_of_peak(cell.products, cell.rate, cell.cores) if cell.fit else None,
    ]


def _overall(material: Material, place: Place, problems: dict[Problem, dict[Key, CellTimes]]) -> Table:
    """The fastest of ours and of the libraries for each problem, and the geometric mean of how they compare."""
    rows: list[list[Value]] = []
    inside: list[dict[int, float]] = []
    best = []
    for problem, cells in problems.items():
        ours, theirs = _first(cells, ours=True), _first(cells, ours=False)
        if ours and theirs:
            best += [ours[1], theirs[1]]
            inside.append(ratios_by_run(theirs[1], ours[1]))
            rows.append([problem.label, ours[0], ours[1].mean, theirs[0], theirs[1].mean, ratio(theirs[1], ours[1])])
    complete = [run for run in (inside[0] if inside else ()) if all(run in ratios for ratios in inside)]
    together = [geometric_mean([ratios[run] for ratios in inside]).value for run in complete]
    rows.append(["geometric mean", None, None, None, None, geometric_mean(together) if together else None])
    spec = seconds_spec(cell.minimum for cell in best)
    columns = [
        *(Column("problem"), Column("ours"), Column("our seconds", spec), Column("theirs")),
        *(Column("their seconds", spec), Column("theirs over ours", ".2f")),
    ]
    return Table(slug("versus", "all", _on(place)), material.titled(f"All problems on {_on(place)}"), columns, rows)


def _first(cells: dict[Key, CellTimes], *, ours: bool) -> tuple[str, CellTimes] | None:
    """The fastest of ours, or of the libraries that compute all of the convolution."""
    found = ((name, cell) for (name, _), cell in cells.items() if not is_bound(name) and (name not in PEERS) == ours)
    return next(found, None)
