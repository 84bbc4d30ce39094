"""Ours beside other libraries: a table for each problem and number of cores, or GPU, the fastest first."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from convbench.analysis.fastest import Ranking, rank
from convbench.analysis.layers import mean_ratio
from convbench.analysis.limits import Limits
from convbench.analysis.places import Key, Place, cells_at, fastest, in_words, places
from convbench.analysis.times import CellTimes, ratio, ratios_by_run
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, arithmetic, seconds_spec
from convbench.report.labels import slug

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


def versus_tables(material: Material, leave_out: Collection[Problem] = ()) -> Iterator[Table]:
    """For each problem and number of cores on which a library was measured, and for each GPU.

    Where there are several problems, a table for each place with the best of ours and of theirs comes last, unless they
    are one network's, which has tables of its own, see `convbench.report.layers`. Problems in `leave_out` are in that
    table alone.
    """
    found: dict[Place, dict[Problem, dict[Key, CellTimes]]] = {}
    for problem, several in material.by_problem().items():
        for place in places(series for series in several if series.peer):
            cells = cells_at(several, place)
            if all(cell.fit for cell in cells.values()):  # oversubscribed cells are not ranked
                found.setdefault(place, {})[problem] = cells
            if problem not in leave_out:
                yield _table(material, problem, place, cells)
    for place, problems in found.items():
        if len(problems) > 1 and not material.is_one_network:
            overall = _overall(material, place, problems)
            if overall is not None:
                yield overall


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
    on = in_words(place) if all(cell.fit for cell in cells.values()) else f"{in_words(place)} (oversubscribed)"
    title = material.titled(f"{material.label(problem)} on {on}, the fastest first")
    return Table(slug("versus", material.slug(problem), in_words(place)), title, columns, rows)


def _row(key: Key, cell: CellTimes, ranking: Ranking[Key] | None, limits: Limits) -> list[Value]:
    return [
        *key,
        cell.mean,
        None if ranking is None else 1.0 if key == ranking.reference else ranking.ratios[key],
        cell.rate / 1e9,
        limits.share_of_peak(cell.products, cell.rate, cell.threads) if cell.fit else None,
    ]


def _overall(material: Material, place: Place, problems: dict[Problem, dict[Key, CellTimes]]) -> Table | None:
    """The fastest of ours and of the libraries for each problem, and the geometric mean of how they compare.

    Several names stand where they cannot be distinguished; the times are then the first one's.
    """
    rows: list[list[Value]] = []
    inside: list[dict[int, float]] = []
    best = []
    for problem, cells in problems.items():
        ours, theirs = fastest(cells, ours=True), fastest(cells, ours=False)
        if ours and theirs:
            our, their = cells[ours.reference], cells[theirs.reference]
            best += [our, their]
            inside.append(ratios_by_run(their, our))
            names = [", ".join(dict.fromkeys(name for name, _ in several.best)) for several in (ours, theirs)]
            rows.append([material.label(problem), names[0], our.mean, names[1], their.mean, ratio(their, our)])
    if not rows:
        return None
    rows.append(["geometric mean", None, None, None, None, mean_ratio(inside)])
    spec = seconds_spec(cell.minimum for cell in best)
    columns = [
        *(Column("problem"), Column("ours"), Column("our seconds", spec), Column("theirs")),
        *(Column("their seconds", spec), Column("theirs over ours", ".2f")),
    ]
    on = in_words(place)
    return Table(slug("versus", "all", on), material.titled(f"All problems on {on}"), columns, rows)
