"""Tuning: measure a design of problems within a budget, and fit the model of this machine to them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from convbench import machine
from convbench.errors import UnavailableError
from convbench.executors.threads import most_threads
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select import choosing, known, remembering, written
from convbench.select.contenders import able, core_counts, name_of
from convbench.select.design import POOL, UNSURE, design, drawn_by_occurrence, least_sure
from convbench.select.fitting import fit
from convbench.select.measuring import measure
from convbench.select.model import Model

PROBLEM_SECONDS: Final = 0.15  # of measuring one problem, after the first turn of each candidate
EVIDENT: Final = 6.0  # times the fastest: a candidate that is predicted to take longer is not measured
REFIT: Final = 24  # problems after which the model is fitted anew, for the next that is least sure


@dataclass(frozen=True)
class Progress:
    """How far a tuning is.

    Attributes:
        problems: Problems measured so far, in this tuning and before.
        seconds: Seconds spent of the budget.
        budget: The budget.
        compiling: Seconds spent on compiling, which the budget does not count.
        problem: The problem that was measured last.
    """

    problems: int
    seconds: float
    budget: float
    compiling: float
    problem: Problem


@dataclass(frozen=True)
class Tuned:
    """The result of a tuning.

    Attributes:
        model: The model.
        problems: Problems that it was fitted to.
        measured: Problems that were measured this time.
        path: The file that it was written to.
    """

    model: Model
    problems: int
    measured: int
    path: Path


def tune(budget: float, on_progress: Callable[[Progress], None] = lambda _: None, seed: int = 0) -> Tuned:
    """Measure problems for a while and fit the model of this machine to everything measured here so far.

    Every measurement is written as it is made, so that a tuning may be stopped at any time: what was measured is
    fitted, also after an interrupt, and the next tuning goes on with what is left of the design.

    Args:
        budget: Seconds of measuring; compiling what is not in the cache on disk yet comes on top.
        on_progress: Called after each problem.
        seed: Of the design and of the data.

    Raises:
        UnavailableError: The user's data folder cannot be written, or nothing was ever measured.
    """
    known.save(known.KNOWN, written.seconds_to(remembering.summary(remembering.lines()), known.fingerprint()))
    measured = 0
    try:
        for progress in _measured(budget, seed):
            measured += 1
            on_progress(progress)
    finally:
        tuned = refit(measured)
    return tuned


def refit(measured: int = 0) -> Tuned:
    """Fit the model to everything that was measured on this machine, and write it."""
    lines = remembering.lines()
    seconds = remembering.summary(lines)
    if not seconds:
        raise UnavailableError("nothing has been measured on this machine; give convbench tune a larger budget")
    model = fitted_to(seconds, remembering.summary(lines, "packing"))
    path = known.save(known.MODEL, written.model_to(model, known.fingerprint()))
    known.save(known.KNOWN, written.seconds_to(seconds, known.fingerprint()))
    choosing.forget()
    return Tuned(model, len(seconds), measured, path)


def fitted_to(seconds: known.Seconds, packing: known.Seconds | None = None) -> Model:
    """The model of measured seconds, by problem and by name."""
    problems = [Problem.parse(descriptor) for descriptor in seconds]
    names = sorted({name for times in seconds.values() for name in times})

    def columns(times: known.Seconds) -> dict[str, list[float]]:
        return {name: [times.get(one, {}).get(name, np.nan) for one in seconds] for name in names}

    return fit(problems, columns(seconds), columns(packing or {}))


def _measured(budget: float, seed: int) -> itertools.chain[Progress]:
    raise NotImplementedError
