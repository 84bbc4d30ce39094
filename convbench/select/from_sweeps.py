"""What a sweep measured, for the model of this machine: later sweeps add to a tuning."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from convbench import machine
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
    spec, cpu = sweep.header["spec"], sweep.header.get("machine", {}).get("cpu")
    if cpu != machine.cpu_name():  # it was begun on another machine, and went on here
        return 0
    if spec.get("cache", "hot") != "hot" or not os.path.lexists(known.folder() / known.MODEL):
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
    samples: dict[Problem, dict[str, dict[int, float]]] = {}
    packing: dict[tuple[Problem, str], float] = {}
    for record in records:
        if record.status != "ok" or record.peer or record.executor not in ON_HOST or DISTURBED & set(record.flags):
            continue
        problem = replace(Problem.parse(record.problem), name="")
        name = f"{record.algorithm}/{record.executor}/{record.cores}"
        samples.setdefault(problem, {}).setdefault(name, {})[record.run] = min(record.samples)
        packed = record.setup.get("pack", 0.0)
        packing[problem, name] = min(packed, packing.get((problem, name), packed))
    found = {}
    for problem, of_runs in samples.items():
        runs = sorted({run for times in of_runs.values() for run in times})
        turns = {name: tuple(times.get(run) for run in runs) for name, times in of_runs.items()}
        found[problem] = {
            name: Times(seconds, turns[name], packing[problem, name]) for name, seconds in settled(turns).items()
        }
    return found
