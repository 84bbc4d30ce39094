"""Tuning: measure a design of problems within a budget, and fit the model of this machine to them."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.errors import UnavailableError
from convbench.executors.threads import most_threads
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select import choosing, known, remembering, written
from convbench.select.calibration import FAIR, Calibration
from convbench.select.contenders import HOST, able, core_counts, name_of
from convbench.select.design import POOL, UNSURE, design, drawn_by_occurrence, is_measurable, least_sure
from convbench.select.fitting import TELLING, fit, surprise, surprises
from convbench.select.measuring import Times, measure
from convbench.select.model import Model

PROBLEM_SECONDS: Final = 0.15  # of measuring one problem, after the first turn of each candidate
EVIDENT: Final = 6.0  # times the fastest: a candidate that is predicted to take longer is not measured
ATTEMPTS: Final = 3  # to measure a problem while several cores give what they usually do, and believably
SURPRISING: Final = 0.2  # log of a factor: what is further off the model is measured again
LOOKS: Final = 3  # to measure a problem at different times, where it is not believed or no moment was fair
DOUBTED: Final = 8  # problems that get a further look after the model was fitted anew, at most
FIRST: Final = 48  # problems of the design before the model is asked what it is least sure of
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
    known.save(known.KNOWN, written.seconds_to(remembering.seconds(remembering.lines()), known.fingerprint()))
    measured: set[Problem] = set()
    try:
        for progress in _measured(budget, seed):
            measured.add(progress.problem)
            on_progress(progress)
    except BaseException:
        with contextlib.suppress(UnavailableError):  # where nothing was measured yet, or the folder cannot be written
            refit(len(measured))
        raise
    return refit(len(measured))


def refit(measured: int = 0) -> Tuned:
    """Fit the model to everything that was measured on this machine, and write it."""
    lines = remembering.lines()
    seconds = remembering.seconds(lines)
    if not seconds:
        raise UnavailableError("nothing has been measured on this machine; give convbench tune a larger budget")
    model = fitted_to(seconds, remembering.packing(lines))
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


@dataclass(frozen=True)
class _Look:
    """One measurement of a problem.

    Attributes:
        times: Times by name, none where the problem does not fit the free memory.
        share: The share of their usual gain that several cores gave, `FAIR` at most.
        compiling: Seconds of compiling.
    """

    times: dict[str, Times]
    share: float
    compiling: float

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by name."""
        return {name: each.seconds for name, each in self.times.items()}


class _Learning:
    """What has been measured, and the model of it."""

    def __init__(self) -> None:
        self._looks: dict[str, int] = {}
        self._shares: dict[str, float] = {}
        self._doubted: list[Problem] = []
        lines = remembering.lines()
        self.seconds, self.packing = remembering.seconds(lines), remembering.packing(lines)
        self.seen = {Problem.parse(descriptor) for descriptor in self.seconds}
        self.model = known.load().model
        self.believed: Model | None = None  # a model of another machine's measurements is not
        self._refit()

    def add(self, problem: Problem, look: _Look) -> bool:
        """Add a measurement, unless one before was fairer; every few problems, the model is fitted anew."""
        key = str(problem)
        is_new = key not in self.seconds
        if not is_new and self._fairness(problem, look.seconds, look.share) < self._fairness(problem):
            return False
        self.seconds[key], self._shares[key] = look.seconds, look.share
        self.packing[key] = {name: each.packing for name, each in look.times.items()}
        if is_new and len(self.seconds) % REFIT == 0:
            self._refit()
        return True

    def look_at(self, problem: Problem, contenders: Sequence[Candidate]) -> list[Candidate]:
        """The candidates to measure, the most promising first; at a further look, those of the first one."""
        key = str(problem)
        self._looks[key] = self._looks.get(key, 0) + 1
        if key in self.seconds:
            return [one for one in contenders if name_of(one) in self.seconds[key]]
        return _promising(problem, contenders, self.model)

    def doubted(self) -> list[Problem]:
        """Problems that deserve a further look, each told once after the model was fitted anew."""
        found, self._doubted = self._doubted, []
        return found

    def _fairness(
        self, problem: Problem, seconds: Mapping[str, float] | None = None, share: float = FAIR
    ) -> tuple[int, float, float]:
        """What is larger for the better of two measurements of a problem, by default of what counts by now."""
        if seconds is None:
            seconds, share = self.seconds[str(problem)], self._shares.get(str(problem), FAIR)
        return len(seconds), share, -_surprise(problem, seconds, self.believed)

    def _refit(self) -> None:
        if len(self.seconds) < TELLING:
            return
        self.model = self.believed = fitted_to(self.seconds, self.packing)
        off = dict(zip(self.seconds, surprises(self.model, self.seconds), strict=True))
        doubts = [
            (self._shares[key], -off[key], key)  # those of the least fair moments first, then the most surprising ones
            for key, looks in self._looks.items()
            if key in off and looks < LOOKS and (off[key] > SURPRISING or self._shares[key] < FAIR)
        ]
        self._doubted = [Problem.parse(key) for *_, key in sorted(doubts)[:DOUBTED]]


def _measured(budget: float, seed: int) -> Iterator[Progress]:
    """Measure one problem after the other until the budget is spent."""
    learning, cores, spent, compiled = _Learning(), _cores(), 0.0, 0.0
    with Calibration(cores) as calibration:
        for problem in _order(seed, learning, cores):
            begin = time.perf_counter()
            contenders = [
                one for one in able(problem, HOST, core_counts(cores)) if one.algorithm in ALGORITHMS.defaults
            ]
            wanted = learning.look_at(problem, contenders)
            look = _measured_fairly(problem, wanted, seed, calibration, learning.believed)
            if look.times and learning.add(problem, look):
                remembering.append(remembering.line(problem, look.times, "tune"))
            compiled += look.compiling
            spent += time.perf_counter() - begin - look.compiling
            if look.times:
                yield Progress(len(learning.seconds), spent, budget, compiled, problem)
            if spent >= budget:
                return


def _measured_fairly(
    problem: Problem, wanted: Sequence[Candidate], seed: int, calibration: Calibration, model: Model | None
) -> _Look:
    """Measure a problem while several cores give what they usually do, and again what the model does not believe.

    A call may take three times as long for as long as a plan lives, or as its neighbours compute. What is real is
    measured again in the same way, on plans made anew, and counts.
    """
    fairest, times, compiling = (-1, 0.0, 0.0), {}, 0.0
    for _ in range(ATTEMPTS):
        calibration.wait()
        try:
            found = measure(problem, wanted, PROBLEM_SECONDS, seed)
        except UnavailableError:
            break
        compiling += sum(each.compiling for each in found.values())
        seconds = {name: each.seconds for name, each in found.items()}
        share, surprise = min(FAIR, calibration.share()), _surprise(problem, seconds, model)
        if (len(found), share, -surprise) > fairest:  # one whose every burst was disturbed is not there
            fairest, times = (len(found), share, -surprise), found
        if share >= FAIR and surprise <= SURPRISING:
            break
    return _Look(times, fairest[1], compiling)


def _surprise(problem: Problem, seconds: Mapping[str, float], model: Model | None) -> float:
    """How far measured seconds are from what the model makes of all other problems, see `fitting.surprises`."""
    if model is None:
        return 0.0
    estimates = model.without(problem).predict(problem, seconds)
    return surprise(seconds, {name: math.log(seconds[name] / each.seconds) for name, each in estimates.items()})


def _cores() -> int:
    """The most cores that are measured."""
    return max(1, min(machine.usable_cores(), most_threads()))


def _order(seed: int, learning: _Learning, cores: int) -> Iterator[Problem]:
    """The problems of the design that were not measured yet, and among them those on which the model is least sure."""
    pool = [replace(one, name="") for one in itertools.islice(drawn_by_occurrence(random.Random(seed)), POOL)]
    for number, problem in enumerate(design(seed), 1):
        wanted = [problem]
        if number % UNSURE == 0 and number > FIRST and learning.model is not None:
            left = [one for one in pool if one not in learning.seen and is_measurable(one)]
            wanted += [least_sure(learning.model, left, cores)] if left else []
        yield from learning.doubted()
        for one in wanted:
            if one not in learning.seen:
                learning.seen.add(one)
                yield one


def _promising(problem: Problem, wanted: Sequence[Candidate], model: Model | None) -> list[Candidate]:
    """The candidates that might be the fastest, the most promising first."""
    if model is None:
        return list(wanted)
    estimates = model.predict(problem, [name_of(one) for one in wanted])
    best = min((estimate.high for estimate in estimates.values()), default=np.inf)

    def least(candidate: Candidate) -> float:
        estimate = estimates.get(name_of(candidate))
        return 0.0 if estimate is None else estimate.low

    return sorted((one for one in wanted if least(one) <= EVIDENT * best), key=least)
