"""What a sweep measured, for the model of this machine: later sweeps add to a tuning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from convbench.errors import UnavailableError
from convbench.problem import Problem
from convbench.results.record import Record
from convbench.results.store import Sweep
from convbench.select import known, remembering
from convbench.select.contenders import ON_HOST
from convbench.select.measuring import Times, settled
from convbench.select.tuning import refit

DISTURBED: Final = frozenset(("oversubscribed", "drift", "unsettled"))
"""Flags of records that are left out."""


def learn(sweep: Sweep) -> int:
    """Add what a sweep has measured to what is known of this machine, and fit its model anew.

    Only a machine that was tuned learns from sweeps: a model of a few layers would be worse than the default.

    Returns:
        Number of problems that were added; 0 where nothing was.
    """
    spec = sweep.header["spec"]
    if spec.get("cache", "hot") != "hot" or not (known.folder() / known.MODEL).exists():
        return 0
    found = times_of(sweep.records)
    try:
        for problem, times in found.items():
            remembering.append(remembering.line(problem, times, "sweep"))
        if found:
            refit()
    except UnavailableError:  # the folder cannot be written
        return 0
    return len(found)


def times_of(records: Iterable[Record]) -> dict[Problem, dict[str, Times]]:
    """The times of our candidates on the host: the fastest sample of each run, which is a turn."""
    samples: dict[Problem, dict[str, list[float]]] = {}
    packing: dict[tuple[Problem, str], float] = {}
    for record in records:
        if record.status != "ok" or record.peer or record.executor not in ON_HOST or DISTURBED & set(record.flags):
            continue
        problem = replace(Problem.parse(record.problem), name="")
        name = f"{record.algorithm}/{record.executor}/{record.cores}"
        samples.setdefault(problem, {}).setdefault(name, []).append(min(record.samples))
        packed = record.setup.get("pack", 0.0)
        packing[problem, name] = min(packed, packing.get((problem, name), packed))
    return {
        problem: {
            name: Times(seconds, tuple(times[name]), packing[problem, name]) for name, seconds in settled(times).items()
        }
        for problem, times in samples.items()
    }
