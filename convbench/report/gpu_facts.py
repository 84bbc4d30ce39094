"""A GPU in words: its description, and its telemetry while it computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from convbench.analysis.gpu import GpuTelemetry, facts
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.results.record import Record


def described(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A few lines on a machine's GPU, each with its title; one that says nothing where there is no GPU."""
    found = facts(machine)
    lines = {
        "GPU": _joined(
            found.get("name", ""),
            _said(found, "compute_capability", "compute capability {}"),
            _said(found, "multiprocessors", "{} multiprocessors"),
        ),
        "GPU memory": _joined(
            _said(found, "memory_bytes", "{:.0f} GiB", 2**30),
            _said(found, "l2_bytes", "second-level cache {:g} MiB", 2**20),
        ),
        "GPU limits": _joined(
            _said(found, "max_sm_mhz", "multiprocessors {:g} MHz"),
            _said(found, "max_memory_mhz", "memory {:g} MHz"),
            _said(found, "power_limit_watts", "{:g} W"),
        ),
        "GPU software": _joined(
            _said(found, "driver", "driver {}"),
            _said(found, "cuda_driver", "for CUDA up to {}"),
            _said(found, "cuda_runtime", "CUDA runtime {}"),
            _said(found, "nvrtc", "compiler {}"),
            _said(found, "cupy", "CuPy {}"),
        ),
    }
    return [(title, line) for title, line in lines.items() if line or title == "GPU"]


def telemetry_table(
    records: Iterable[Record], label: Callable[[Problem], str] = lambda problem: problem.label
) -> Table:
    """A row for each cell that a GPU computed: clocks, temperature, power, and what lowered clocks.

    `label` says what to call a problem.
    """
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.status == "ok" and record.device:
            by_cell.setdefault((record.base or record.problem, record.algorithm, record.executor), []).append(record)
    rows: list[list[Value]] = []
    for (problem, algorithm, executor), several in by_cell.items():
        telemetry = GpuTelemetry.of(several)
        rows.append(
            [
                label(Problem.parse(problem)),
                algorithm,
                executor,
                _span(telemetry.sm_mhz),
                _span(telemetry.memory_mhz),
                telemetry.celsius,
                telemetry.watts,
                _lowered(telemetry),
            ]
        )
    columns = [
        *(Column("problem"), Column("algorithm"), Column("executor")),
        *(Column("multiprocessors, MHz"), Column("memory, MHz"), Column("hottest, °C", "g"), Column("W", ".0f")),
        Column("clocks lowered by"),
    ]
    title = "The GPU right after samples (power: mean over the samples)"
    return Table("gpu-conditions", title, columns, rows)


def _lowered(telemetry: GpuTelemetry) -> str:
    if not telemetry.reasons and telemetry.capped is None and telemetry.heated is None:
        return ""
    after = [f"{reason} (after {count} of {telemetry.samples} samples)" for reason, count in telemetry.reasons.items()]
    timed = [("power", telemetry.capped), ("heat", telemetry.heated)]
    after += [f"{what} ({share:.1%} of the time)" for what, share in timed if share]
    return ", ".join(after) or "nothing"


def _span(ends: tuple[float, float] | None) -> str | None:
    if ends is None:
        return None
    low, high = ends
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _said(facts: Mapping[str, Any], name: str, words: str, unit: int = 1) -> str:
    return words.format(facts[name] / unit if unit > 1 else facts[name]) if facts.get(name) is not None else ""


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
