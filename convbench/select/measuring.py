"""Measuring contenders of one problem in turns, in this process, on the plans that callers would run.

A sample is the fastest of a burst of calls: what else the machine does can only add to it. Bursts of all contenders
take turns in random order, so that a slow moment does not hit one of them alone. A burst during which a thread of this
process waited for a processor, as the system counts it, is repeated after a pause.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from convbench import machine
from convbench.errors import UnavailableError
from convbench.plans import Candidate, Plan
from convbench.problem import ITEM_SIZE, Problem
from convbench.select.bursts import LONG_BURST, fastest_of_burst
from convbench.select.contenders import name_of

LEAST_ROUNDS: Final = 4  # after the first turn
MOST_ROUNDS: Final = 16
POLISHED: Final = 8  # rounds of median polish
AGAIN: Final = 4  # times that a burst is repeated, at most
PAUSE: Final = 0.02  # seconds before it is
LONG_PAUSE: Final = 0.1  # likewise, where every burst was disturbed
HOPELESS: Final = 3.0  # times the fastest, after two bursts: no noise makes up for that, and it gets no further turns
DESPERATE: Final = 12.0  # times the fastest, in a first call of at least LONG_BURST: it gets no second call
MEMORY_SHARE: Final = 0.5  # of what is free may go to the arrays and plans of one problem


@dataclass(frozen=True)
class Times:
    """What was measured of one contender.

    Attributes:
        seconds: Seconds of a call, at the machine's usual speed during the measurement; see `settled`.
        samples: Seconds of the fastest call of each burst, a burst for each turn; None for a burst that was disturbed
            however often it was repeated.
        packing: Seconds of making a plan, without compiling: mostly packing the weights.
        compiling: Seconds of compiling, or of reading compiled code from the cache on disk.
    """

    seconds: float
    samples: tuple[float | None, ...]
    packing: float
    compiling: float = 0.0


def needed(problem: Problem, candidates: Sequence[Candidate]) -> int:
    """Bytes of the arrays of a problem, and of the plans of its candidates together."""
    weights = problem.out_channels * problem.taps * ITEM_SIZE[problem.dtype]
    return problem.bytes + 2 * weights + sum(candidate.memory(problem) for candidate in candidates)


def measure(problem: Problem, candidates: Sequence[Candidate], seconds: float, seed: int = 0) -> dict[str, Times]:
    """Measure candidates that support a problem, in turns.

    Args:
        problem: The problem; its data are random numbers.
        candidates: Candidates on the host, the most promising first.
        seconds: Seconds of measuring, after the first turn of each; every contender gets `LEAST_ROUNDS` turns.
        seed: Of the data and of the order.

    Returns:
        Times by name; a candidate for which memory runs out has none, nor one whose every burst was disturbed, unless
        that is so for all.

    Raises:
        UnavailableError: The arrays of the problem, or all plans together, do not fit the free memory.
    """
    check_memory(problem, candidates)
    draw = np.random.default_rng(seed)
    x = draw.standard_normal(problem.input_shape).astype(problem.dtype)
    weights = (draw.standard_normal(problem.weights_shape) / problem.taps**0.5).astype(problem.dtype)
    with ExitStack() as open_plans:
        turns = _opened(problem, weights, candidates, x, open_plans)
        _first_turns(turns)
        _further_turns(turns, seconds, random.Random(seed))
        _wait_for_quiet(turns)
        if all(turn.is_disturbed for turn in turns):  # then all are alike, and better known so than not at all
            for turn in turns:
                turn.samples = [turn.best]
        samples = {name_of(turn.candidate): tuple(turn.samples) for turn in turns}
        level = settled(samples)
        return {
            name: Times(level[name], samples[name], turn.packing, turn.compiling)
            for name, turn in zip(samples, turns, strict=True)
            if name in level
        }


def _wait_for_quiet(turns: Sequence[_Turns]) -> None:
    """Further bursts for contenders whose every burst was disturbed, a while apart."""
    for _ in range(AGAIN):
        for turn in turns:
            if turn.is_disturbed:
                time.sleep(LONG_PAUSE)
                turn.take()


def check_memory(problem: Problem, candidates: Sequence[Candidate]) -> None:
    """Refuse what needs too much of the memory that is free.

    Raises:
        UnavailableError: The arrays of the problem, or all plans together, do not fit it.
    """
    needs, free = needed(problem, candidates), machine.free_memory()
    if needs > MEMORY_SHARE * free:
        raise UnavailableError(
            f"measuring {problem} needs {needs / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
            "use a smaller batch"
        )


def _further_turns(turns: Sequence[_Turns], seconds: float, order: random.Random) -> None:
    """Turns in random order, after which those that are hopelessly slow get no more."""
    until = time.perf_counter() + seconds
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.perf_counter() > until:
            return
        best = min((turn.best for turn in turns), default=0.0)
        running = [turn for turn in turns if turn.best <= (DESPERATE if number == 0 else HOPELESS) * best]
        order.shuffle(running)
        for turn in running:
            turn.take()


def settled(samples: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Seconds of each contender, from bursts in turns.

    A turn's speed is a factor that all of its bursts have in common (the machine's clock changes, and what neighbours
    take). It is taken out by median polish (Tukey, "Exploratory Data Analysis", 1977) of the logarithms, so that a
    contender that had only fast turns is not taken for a fast one.

    Args:
        samples: For each contender a burst for each turn, from the first on; None where there is none.
    """
    told = {name: bursts for name, bursts in samples.items() if any(burst is not None for burst in bursts)}
    if not told:
        return {}
    table = np.full((len(told), max(map(len, told.values()))), np.nan)
    for row, bursts in zip(table, told.values(), strict=True):
        row[: len(bursts)] = np.log([np.nan if burst is None else burst for burst in bursts])
    table = table[:, np.isfinite(table).any(axis=0)]
    levels, speeds = np.nanmedian(table, axis=1), np.zeros(table.shape[1])
    for _ in range(POLISHED):
        speeds = np.nanmedian(table - levels[:, None], axis=0)
        levels = np.nanmedian(table - speeds, axis=1)
    return dict(zip(told, np.exp(levels + np.median(speeds)).tolist(), strict=True))


class _Turns:
    """One contender's turns."""

    def __init__(self, plan: Plan, x: Any, out: Any, making: float) -> None:
        self.candidate, self.compiling = plan.candidate, plan.setup.get("compile", 0.0)
        self.packing = max(0.0, making - self.compiling)
        self.call = partial(plan, x, out=out)
        self.samples: list[float | None] = []
        self.best = float("inf")
        """Seconds of the fastest call so far."""

    @property
    def is_disturbed(self) -> bool:
        """Whether every burst so far was."""
        return all(burst is None for burst in self.samples)

    def take(self) -> None:
        """Measure one burst."""
        least = fastest_of_burst(self.call)
        for _ in range(AGAIN):
            if not least.disturbed:
                break
            time.sleep(PAUSE)
            least = min(least, fastest_of_burst(self.call), key=lambda burst: (burst.disturbed, burst.seconds))
        self.samples.append(None if least.disturbed else least.seconds)
        self.best = min(self.best, least.seconds)


def _opened(
    problem: Problem, weights: Any, candidates: Sequence[Candidate], x: Any, open_plans: ExitStack
) -> list[_Turns]:
    """A plan for each candidate, all writing to one output that has been touched."""
    turns: list[_Turns] = []
    out = None
    for candidate in candidates:
        begin = time.perf_counter()
        try:
            plan = open_plans.enter_context(Plan(problem, weights, candidate, borrow=True))
            making = time.perf_counter() - begin
            if out is None:
                out = plan.empty_output()
                out.fill(0)
        except (MemoryError, UnavailableError):
            continue
        turns.append(_Turns(plan, x, out, making))
    return turns


def _first_turns(turns: list[_Turns]) -> None:
    """One call that is not timed and then one burst for each; a single call for those that are hopelessly slow."""
    best = float("inf")
    for turn in turns:
        begin = time.perf_counter()
        turn.call()
        first = time.perf_counter() - begin
        if first > LONG_BURST and first > DESPERATE * best:
            turn.samples.append(first)
            turn.best = first
        else:
            turn.take()
            best = min(best, turn.best)
