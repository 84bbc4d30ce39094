"""Ours beside other libraries: a table for each problem and number of cores, or device, the fastest first."""

from __future__ import annotations

from collections.abc import Iterator

from convbench.analysis.limits import Limits
from convbench.analysis.series import TF32, CellTimes, Series, ratio
from convbench.peers import LIBRARY, PEERS, is_bound
from convbench.problem import Problem
from convbench.report.content import Column, Material, Section, Table, Value, seconds_spec, slug

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
    """For each problem and number of cores on which a library was measured, and for each device."""
    for problem, several in material.by_problem().items():
        host = [series for series in several if not series.on_device]
        for cores in sorted({c for series in several if series.executor == LIBRARY for c in series.cells}):
            yield _table(material, problem, [series for series in host if cores in series.cells], cores)
        for name in dict.fromkeys(series.executor for series in several if series.on_device):
            there = [series for series in several if series.executor == name]
            if any(series.algorithm in PEERS for series in there):
                yield _device_table(material, problem, there, name)


def _device_table(material: Material, problem: Problem, several: list[Series], executor: str) -> Table:
    """Ours and libraries' on one device, which has no number of cores."""
    cells = {series.algorithm: cell for series in several for cell in series.cells.values()}
    ranked = sorted(cells, key=lambda name: cells[name].mean.value)
    ours = next((cells[name] for name in ranked if name not in PEERS), None)
    columns = [
        *(Column("algorithm"), Column("seconds", seconds_spec(cell.minimum for cell in cells.values()))),
        *(Column("ratio", ".2f"), Column("GFLOP/s", ".1f")),
    ]
    rows: list[list[Value]] = [
        [name, cells[name].mean, _over(cells[name], ours), cells[name].rate / 1e9] for name in ranked
    ]
    if material.spec.get("allow_tf32"):
        columns.append(Column("products"))
        for name, row in zip(ranked, rows, strict=True):
            row.append("TF32" if TF32 in cells[name].flags else problem.dtype)
    title = material.titled(f"{problem.label} on {executor}, the fastest first")
    return Table(slug("versus", problem.label, executor), title, columns, rows)


def _table(material: Material, problem: Problem, several: list[Series], cores: int) -> Table:
    limits = Limits.of(material.sweep.header.get("machine", {}))
    cells = {(series.algorithm, series.executor): series.cells[cores] for series in several}
    ranked = sorted(cells, key=lambda key: cells[key].mean.value)
    ours = next((cells[key] for key in ranked if key[1] != LIBRARY), None)
    columns = [
        *(Column("algorithm"), Column("executor"), Column("seconds", seconds_spec(c.minimum for c in cells.values()))),
        *(Column("ratio", ".2f"), Column("GFLOP/s", ".1f"), Column("of peak", ".0%")),
    ]
    rows = [_row(problem.dtype, key, cells[key], ours, limits) for key in ranked]
    on = f"{cores} core{'s' if cores > 1 else ''}"
    title = material.titled(f"{problem.label} on {on}, the fastest first")
    return Table(slug("versus", problem.label, on), title, columns, rows)


def _row(dtype: str, key: tuple[str, str], cell: CellTimes, ours: CellTimes | None, limits: Limits) -> list[Value]:
    return [
        *key,
        cell.mean,
        _over(cell, ours),
        cell.rate / 1e9,
        limits.share_of_peak(dtype, cell.rate, cell.cores) if cell.fit else None,
    ]


def _over(cell: CellTimes, ours: CellTimes | None) -> Value:
    """How many times as long as the fastest of ours."""
    return None if ours is None else 1.0 if ours is cell else ratio(cell, ours)
