"""Tables of networks: what they are made of, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convbench.networks import Layer, Suite
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value


def networks_table(listed: Iterable[tuple[Suite, str]]) -> Table:
    """Networks and their summaries."""
    columns = [
        *(Column("network"), Column("layers", "d"), Column("distinct", "d"), Column("GMAC", ".4g")),
        Column("what it is"),
    ]
    rows = [
        (suite.name, suite.occurrences, len(suite.layers), suite.multiply_adds / 1e9, summary)
        for suite, summary in listed
    ]
    return Table("networks", "Networks, and the multiply-adds of all their layers (GMAC)", columns, rows)


def layers_table(suite: Suite) -> Table:
    """The layers of a network, with totals in which each counts as often as it occurs."""
    columns = [
        *(Column("layer"), Column("times", "d"), Column("input"), Column("filters"), Column("MMAC", ".4g")),
        *(Column("MB", ".4g"), Column("op/B", ".1f")),
    ]
    rows: list[list[Value]] = [_row(suite, layer) for layer in suite.layers]
    intensity = 2 * suite.multiply_adds / suite.bytes
    rows.append(["in all", suite.occurrences, "", "", suite.multiply_adds / 1e6, suite.bytes / 1e6, intensity])
    title = f"{suite.name}: multiply-adds (MMAC), least traffic, operations per byte"
    return Table("layers", title, columns, rows, summary_rows=1)


def facts(suite: Suite, summary: str = "") -> dict[str, Any]:
    """The same as JSON, in multiply-adds and bytes."""
    return {
        "name": suite.name,
        "summary": summary,
        "layers": [
            {
                "problem": str(layer.problem),
                "name": layer.problem.name,
                "count": layer.count,
                "multiply_adds": layer.problem.multiply_adds,
                "bytes": layer.problem.bytes,
                "intensity": _intensity(layer.problem),
            }
            for layer in suite.layers
        ],
        "occurrences": suite.occurrences,
        "distinct": len(suite.layers),
        "multiply_adds": suite.multiply_adds,
        "bytes": suite.bytes,
        "intensity": 2 * suite.multiply_adds / suite.bytes,
        "skipped": dict(suite.skipped),
    }


def _row(suite: Suite, layer: Layer) -> list[Value]:
    problem = layer.problem
    name = problem.name.removesuffix(f"*{layer.count}").removeprefix(f"{suite.name}:")
    return [
        name,
        layer.count,
        _input(problem),
        _filters(problem),
        problem.multiply_adds / 1e6,
        problem.bytes / 1e6,
        _intensity(problem),
    ]


def _intensity(problem: Problem) -> float:
    """Operations per byte that is moved at least."""
    return problem.flops / problem.bytes


def _input(problem: Problem) -> str:
    """Such as 64x56x56, after the images where there are several."""
    images = [problem.batch] if problem.batch > 1 else []
    return "x".join(map(str, [*images, problem.channels, problem.height, problem.width]))


def _filters(problem: Problem) -> str:
    """Such as "128 3x3 s2 g32": how many of what size, then stride, dilation and groups where they are not 1."""
    words = [str(problem.out_channels), f"{problem.kernel_height}x{problem.kernel_width}"]
    words += [] if problem.stride == (1, 1) else ["s" + "x".join(map(str, dict.fromkeys(problem.stride)))]
    words += [] if problem.dilation == (1, 1) else ["d" + "x".join(map(str, dict.fromkeys(problem.dilation)))]
    words += [] if problem.groups == 1 else [f"g{problem.groups}"]
    words += [problem.direction.replace("_", " ")] if problem.direction != "forward" else []
    words += [problem.dtype] if problem.dtype != "float32" else []
    return " ".join(words)
