"""Networks layer by layer at a terminal: the report's tables, in the columns that a line has room for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from convbench.terminal.console import show_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convbench.report.content import Material, Table, Value

LEFT_OUT: Final = ("times", "GFLOP/s", "set by", "process MiB", "its seconds", "tied with best")
"""Columns that only the report has; how often the network has a layer stands behind its name."""
LEFT_OUT_BESIDE: Final = ("executor", "needs MiB")
"""Further ones that a terminal leaves out beside libraries."""
SHORT: Final = {"of own": "own", "of peak": "peak", "seconds": "ms"}
"""Titles of columns at a terminal."""


def show_networks_by_layer(material: Material) -> None:
    """The tables of every network in every place."""
    from convbench.report.layers import forms_table, layers_table

    for network in material.networks:
        show_table(brief(layers_table(material, network)))
        show_table(forms_table(material, network))


def brief(table: Table) -> Table:
    """A table of layers without what a line has no room for: times in milliseconds, and no intervals."""
    titles = [column.title for column in table.columns]
    left_out = {*LEFT_OUT, *(LEFT_OUT_BESIDE if "library" in titles else ())}
    kept = [place for place, title in enumerate(titles) if title not in left_out]
    columns = [
        dataclasses.replace(column, title=SHORT.get(column.title, column.title), spec=_spec(column.title, column.spec))
        for column in (table.columns[place] for place in kept)
    ]
    rows = [_shown(dict(zip(titles, row, strict=True))) for row in table.rows]
    return dataclasses.replace(table, columns=columns, rows=[[row[titles[place]] for place in kept] for row in rows])


def without(table: Table, titles: Iterable[str]) -> Table:
    """A table without some of its columns."""
    kept = [place for place, column in enumerate(table.columns) if column.title not in titles]
    rows = [[row[place] for place in kept] for row in table.rows]
    return dataclasses.replace(table, columns=[table.columns[place] for place in kept], rows=rows)


def _spec(title: str, spec: str) -> str:
    """The format of milliseconds for one of seconds, such as ".3f" for ".7f"."""
    return f".{max(1, int(spec[1:-1]) - 4)}f" if title == "seconds" else spec


def _shown(row: Mapping[str, Value]) -> dict[str, Value]:
    """The values of a row as a terminal shows them."""
    from convbench.analysis.statistics import Estimate

    found: dict[str, Value] = {
        title: value.value if isinstance(value, Estimate) else value for title, value in row.items()
    }
    seconds, count, library = found["seconds"], found["times"], found.get("library")
    if isinstance(seconds, float):
        found["seconds"] = 1e3 * seconds
    if isinstance(count, int) and count > 1 and found["best"]:
        found["layer"] = f"{found['layer']} x{count}"
    if isinstance(library, str):
        found["library"] = library.partition(",")[0]
    return found
