"""Choosing a candidate for a problem."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from convbench import machine
from convbench.arguments import one_of, truth, whole_number
from convbench.errors import RequestError
from convbench.plans import Candidate, allowed_precision, as_problem
from convbench.preference import PREFERENCE, allowed_cores
from convbench.problem import Problem
from convbench.runtime.loading import run_to_completion
from convbench.select import known
from convbench.select.choice import Choice, Prediction
from convbench.select.contenders import HOST, able, core_counts
from convbench.select.ranking import rank

MOST_CHOICES: Final = 4096  # that are remembered
MEASURE_SECONDS: Final = 0.3  # of each choice that measures
FEW: Final = 4  # candidates that are measured, at most


def choose(  # over 40 lines: the documentation of its arguments
    problem: Problem | str,
    *,
    cores: int | None = None,
    memory_limit: int | None = None,
    measure: bool = False,
    packed: bool = True,
    backend: str = HOST,
    algorithm: str | None = None,
    arithmetic: str = "exact",
    spent: int = 0,
) -> Choice:
    """The candidate that computes a problem fastest on this machine.

    Choices are remembered: a second call with the same arguments takes microseconds.

    Args:
        problem: The problem, or its descriptor, see `Problem.parse`.
        cores: The most cores that may be used; by default, and at most, those that this process may use.
        memory_limit: Bytes that may be used in addition to input, unpacked weights and output; None for no limit.
        measure: Whether to measure the few best candidates on the host, unless this very problem has been measured
            already. The result is remembered in the user's data folder.
        packed: Whether weights are packed once, as in a `Conv2d`; otherwise each call packs them, which counts.
        backend: "numba" for arrays on the host, "gpu" for arrays on a GPU.
        algorithm: The only algorithm to choose from; default: all.
        arithmetic: Precision that products may be computed in, see `plan`.
        spent: Bytes of the limit that are spent already, for instance on a copy of the input.

    Returns:
        The choice: candidates in order, predicted seconds, where these come from, and why.

    Raises:
        RequestError: An argument is invalid, or no candidate fits `memory_limit`.
        UnavailableError: No candidate supports the problem here, or it is too large to be measured.
    """
    usable = machine.affinity()
    key: tuple[object, ...] = (
        *(problem, cores, memory_limit, measure, packed, backend, algorithm, arithmetic, spent, usable),
        *(cores.__class__, memory_limit.__class__, measure.__class__, packed.__class__),  # True and 1.0 equal 1
    )
    try:
        return _state.choices[key]
    except KeyError:
        pass
    except TypeError:  # an argument that cannot be hashed, and is refused below
        key = ()
    problem = as_problem(problem)
    one_of("backend", backend, PREFERENCE)
    if truth("measure", measure) and backend != HOST:
        raise RequestError(f"measure=True is for backend={HOST!r}; leave it out for backend={backend!r}")
    spent = whole_number("spent", spent, least=0)
    most = None if memory_limit is None else whole_number("memory_limit", memory_limit, least=0)
    precision = allowed_precision(arithmetic, allow_tf32=False)
    counts = core_counts(allowed_cores(cores)) if backend == HOST else (1,)
    wanted = _within(problem, able(problem, backend, counts, algorithm, precision), backend, most, spent)
    choice = _chosen(problem, wanted, measure=measure, packed=truth("packed", packed))
    _state.remember(key, choice)
    return choice


def _chosen(problem: Problem, wanted: Sequence[Prediction], *, measure: bool, packed: bool) -> Choice:
    choice = rank(problem, wanted, _state.known(), packed=packed)
    if not measure or choice.source == "measured":
        return choice
    from convbench.select import measuring, remembering

    few = [each.candidate for each in choice.ranked[:FEW]]
    _state.add(remembering.remember(problem, measuring.measure(problem, few, MEASURE_SECONDS), "choose"))
    return rank(problem, wanted, _state.known(), packed=packed)


def forget() -> None:
    """Read the model anew at the next choice, for instance after it was fitted anew."""
    _state.clear()


class _State:
    """What is known of the machine, read at the first choice, and the choices that were made."""

    def __init__(self) -> None:
        self.choices: dict[tuple[object, ...], Choice] = {}
        self._known: known.Known | None = None

    def known(self) -> known.Known:
        """What is known of this machine; warnings are of the thread that reads it first."""
        found = self._known
        if found is None:
            complaints: list[str] = []
            found = self._known = run_to_completion(known.load, complaints.append)
            for each in complaints:
                warnings.warn(each, RuntimeWarning, stacklevel=4)
        return found

    def remember(self, key: tuple[object, ...], choice: Choice) -> None:
        """Keep a choice, and forget the oldest if there are too many."""
        if not key:
            return
        with _lock:
            while len(self.choices) >= MOST_CHOICES:
                self.choices.pop(next(iter(self.choices)))
            self.choices[key] = choice

    def add(self, seconds: Mapping[str, Mapping[str, float]]) -> None:
        """Take new measurements into account."""
        now = self.known()
        merged = {problem: {**now.seconds.get(problem, {}), **times} for problem, times in seconds.items()}
        self._known = replace(now, seconds={**now.seconds, **merged})
        with _lock:
            self.choices.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._known = None
        with _lock:
            self.choices.clear()


_state = _State()
_lock = threading.RLock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _within(
    problem: Problem, wanted: Sequence[Candidate], backend: str, limit: int | None, spent: int
) -> list[Prediction]:
    """Candidates that fit a limit of memory; on a GPU, where nothing else asks for it, memory is 0 without a limit."""
    if limit is None and backend != HOST:
        return [Prediction(candidate) for candidate in wanted]
    needs = [Prediction(candidate, memory=candidate.memory(problem)) for candidate in wanted]
    fitting = [each for each in needs if limit is None or each.memory + spent <= limit]
    if not fitting:
        least = min(each.memory for each in needs) + spent
        raise RequestError(f"memory_limit={limit} is too little for {problem}; at least {least} bytes are needed")
    return fitting
