"""A card in words: what it is, and what it told while it computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from convbench.analysis.card import Told, facts
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.results.record import Record


def described(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A few lines on a machine's card, each with its title; one that says nothing where there is no card."""
    card = facts(machine)
    lines = {
        "GPU": _joined(
            card.get("name", ""),
            _said(card, "compute_capability", "compute capability {}"),
            _said(card, "multiprocessors", "{} multiprocessors"),
        ),
        "GPU memory": _joined(
            _said(card, "memory_bytes", "{:.0f} GiB", 2**30),
            _said(card, "l2_bytes", "second-level cache {:g} MiB", 2**20),
        ),
        "GPU limits": _joined(
            _said(card, "max_sm_mhz", "multiprocessors {:g} MHz"),
            _said(card, "max_memory_mhz", "memory {:g} MHz"),
            _said(card, "power_limit_watts", "{:g} W"),
        ),
        "GPU software": _joined(
            _said(card, "driver", "driver {}"),
            _said(card, "cuda_driver", "for CUDA up to {}"),
            _said(card, "cuda_runtime", "CUDA runtime {}"),
            _said(card, "nvrtc", "compiler {}"),
            _said(card, "cupy", "CuPy {}"),
        ),
    }
    return [(title, line) for title, line in lines.items() if line or title == "GPU"]


def told_table(records: Iterable[Record], label: Callable[[Problem], str] = lambda problem: problem.label) -> Table:
    """A row for each cell that a device computed: clocks, temperature, power, and what lowered clocks.

    `label` says what to call a problem.
    """
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status == "ok" and record.device:
            by_cell.setdefault((record.base or record.problem, record.algorithm, record.executor), []).append(record)
    rows: list[list[Value]] = []
    for (problem, algorithm, executor), several in by_cell.items():
        told = Told.of(several)
        rows.append(
            [
                label(Problem.parse(problem)),
                algorithm,
                executor,
                _span(told.sm_mhz),
                _span(told.memory_mhz),
                told.celsius,
                told.watts,
                _lowered(told),
            ]
        )
    columns = [
        *(Column("problem"), Column("algorithm"), Column("executor")),
        *(Column("multiprocessors, MHz"), Column("memory, MHz"), Column("hottest, °C", "g"), Column("W", ".0f")),
        Column("clocks lowered by"),
    ]
    title = "What the device told right after samples (power: mean over the samples)"
    return Table("device-conditions", title, columns, rows)


def _lowered(told: Told) -> str:
    if not told.reasons and told.capped is None and told.heated is None:
        return ""
    after = [f"{reason} (after {count} of {told.samples} samples)" for reason, count in told.reasons.items()]
    timed = [("power", told.capped), ("heat", told.heated)]
    after += [f"{what} ({share:.1%} of the time)" for what, share in timed if share]
    return ", ".join(after) or "nothing"


def _span(ends: tuple[float, float] | None) -> str | None:
    if ends is None:
        return None
    low, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _said(card: Mapping[str, Any], name: str, words: str, unit: int = 1) -> str:
    return words.format(card[name] / unit if unit > 1 else card[name]) if card.get(name) is not None else ""


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
