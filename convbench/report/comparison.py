"""The comparison of two sweeps as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convbench.analysis.compare import Comparison
from convbench.problem import Problem
from convbench.report.content import Column, Material, Table, Value
from convbench.results.store import Sweep

IN_TURNS = "measured in turns, compared inside runs by their fastest samples"


def comparison_table(first: Sweep, second: Sweep, found: Sequence[Comparison], names: tuple[str, str]) -> Table:
    """A row for each cell: time in the second sweep over time in the first, and the verdict on the second.

    Args:
        first: A sweep.
        second: Another one.
        found: At least one comparison of them.
        names: What to call the sweeps in the title.
    """
    labels = [Problem.parse(one.cell[0]).label for one in found]
    several = len(set(labels)) > 1
    rows: list[list[Value]] = [
        [*([label] if several else []), *one.cell[1:], one.ratio.value, one.ratio.low, one.ratio.high, one.verdict]
        for label, one in zip(labels, found, strict=True)
    ]
    columns = [
        *([Column("problem")] if several else []),
        *(Column("algorithm"), Column("executor"), Column("cores", "d")),
        *(Column("ratio", ".3f"), Column("low", ".3f"), Column("high", ".3f"), Column(f"{names[1]} is")),
    ]
    of = "" if several else f"{labels[0]}: "
    return Table("comparison", of + _title(first, second, names), columns, rows)


def in_turns(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two sweeps with these headers were measured in turns with each other."""
    pairs = [header.get("pair") or {} for header in (first, second)]
    return bool(pairs[0]) and pairs[0].get("id") == pairs[1].get("id")


def _title(first: Sweep, second: Sweep, names: tuple[str, str]) -> str:
    """The ratios' meaning, and how the times were measured: for each sweep, if the manner differs."""
    materials = [Material(sweep, sweep.header["spec"]) for sweep in (first, second)]
    manners = [material.titled("") for material in materials]
    how = f", {IN_TURNS}" if in_turns(first.header, second.header) else ""
    if manners[0] != manners[1]:
        return f"time in {names[1]}{manners[1]} over time in {names[0]}{manners[0]}{how}"
    return materials[0].titled(f"time in {names[1]} over time in {names[0]}{how}")
