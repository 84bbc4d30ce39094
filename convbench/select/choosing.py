"""Choosing a candidate for a problem."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from convbench import machine
from convbench.arguments import one_of, truth, whole_number
from convbench.cuda import card
from convbench.errors import ConvbenchError, RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate, allowed_precision, as_problem
from convbench.preference import PREFERENCE, allowed_cores
from convbench.problem import Problem
from convbench.runtime.loading import run_to_completion
from convbench.select import known
from convbench.select.choice import Choice, Prediction
from convbench.select.contenders import HOST, able, core_counts, name_of
from convbench.select.known import Known
from convbench.select.model import Model
from convbench.select.on_gpu import ANY, BACKEND, NOT_MEASURED, default_model, known_of_gpu, there_and_back, together
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
        measure: Whether to measure the few best candidates, unless this very problem has been measured already. The
            result is remembered in the user's data folder; that of a GPU as long as the process lives.
        packed: Whether weights are packed once, as in a `Conv2d`; otherwise each call packs them, which counts.
        backend: "numba" for arrays on the host that are computed there, "gpu" for arrays on the current GPU, "any" for
            arrays on the host that may be computed on either: then the way to the GPU and back counts.
        algorithm: The only algorithm to choose from; default: all.
        arithmetic: Precision that products may be computed in, see `plan`.
        spent: Bytes of the limit that are spent already, for instance on a copy of the input.

    Returns:
        The choice: candidates in order, predicted seconds, where these come from, and why.

    Raises:
        RequestError: An argument is invalid, or no candidate fits `memory_limit`.
        UnavailableError: No candidate supports the problem here, or it is too large to be measured.
    """
    elsewhere = isinstance(backend, str) and backend != HOST
    usable = (machine.affinity(), *_gpu()) if elsewhere else machine.affinity()
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
    one_of("backend", backend, (*PREFERENCE, ANY))
    if not truth("packed", packed) and backend == ANY:
        raise RequestError("packed=False is for arrays that stay where they are; leave it out for backend='any'")
    request = _Request(
        problem=as_problem(problem),
        cores=cores,
        limit=None if memory_limit is None else whole_number("memory_limit", memory_limit, least=0),
        measure=truth("measure", measure),
        packed=packed,
        algorithm=algorithm,
        precision=allowed_precision(arithmetic, allow_tf32=False),
        spent=whole_number("spent", spent, least=0),
    )
    if backend != BACKEND:
        _state.known()  # read here, where a warning is the caller's
    choice = {HOST: _on_host, BACKEND: _on_gpu, ANY: _anywhere}[backend](request)
    if backend != ANY or not measure:  # there, what could not be measured now is measured another time
        _state.remember(key, choice)
    return choice


@dataclass(frozen=True)
class _Request:
    """What `choose` was asked, checked."""

    problem: Problem
    cores: int | None
    limit: int | None
    measure: bool
    packed: bool
    algorithm: str | None
    precision: str
    spent: int

    def able(self, backend: str, counts: Sequence[int]) -> list[Candidate]:
        """Candidates that support the problem on a backend."""
        return able(self.problem, backend, counts, self.algorithm, self.precision)


def _on_host(request: _Request) -> Choice:
    problem, packed = request.problem, request.packed
    wanted = _within(request, request.able(HOST, core_counts(allowed_cores(request.cores))))
    choice = rank(problem, wanted, _state.known(), packed=packed)
    if not request.measure or choice.source == "measured":
        return choice
    from convbench.select import measuring, remembering

    few = [each.candidate for each in choice.ranked[:FEW]]
    _state.add(remembering.remember(problem, measuring.measure(problem, few, MEASURE_SECONDS), "choose"))
    return rank(problem, wanted, _state.known(), packed=packed)


def _on_gpu(request: _Request) -> Choice:
    """For an array on the current GPU."""
    problem, found = request.problem, request.able(BACKEND, (1,))
    wanted = _within(request, found)
    choice = rank(problem, wanted, _state.known_of_gpu(found), packed=True)
    few = [each.candidate for each in choice.ranked[:FEW]]
    if not request.measure or {name_of(each) for each in few} <= _state.measured_on_gpu(problem).keys():
        return choice
    from convbench.select import measuring_gpu

    _state.add_of_gpu(problem, measuring_gpu.measure(problem, few, MEASURE_SECONDS))
    return rank(problem, wanted, _state.known_of_gpu(found), packed=True)


def _anywhere(request: _Request) -> Choice:
    """For an array on the host: there, or on the current GPU, where copies of input and output count as memory."""
    allowed_cores(request.cores)  # an error wherever it is computed
    copies = replace(request, spent=request.spent + request.problem.bytes)
    no_gpu = EXECUTORS[BACKEND].available()
    gpu = no_gpu or _attempt(lambda each: _there_and_back(_on_gpu(each)), copies)
    host = _attempt(_on_host, request)
    if isinstance(host, Choice) and isinstance(gpu, Choice):
        return together(host, gpu)
    if isinstance(host, Choice):
        return replace(host, reasons=(*host.reasons, f"not on a GPU: {gpu}"))
    if isinstance(gpu, Choice):
        return replace(gpu, reasons=(*gpu.reasons, f"not on the host: {host}"))
    raise host


def _attempt(choose_there: Callable[[_Request], Choice], request: _Request) -> Choice | ConvbenchError:
    """A choice, not measured if that is not possible now; or why there is none."""
    try:
        return choose_there(request)
    except (RequestError, UnavailableError) as error:
        if not request.measure:
            return error
        found = _attempt(choose_there, replace(request, measure=False))
        return (
            replace(found, reasons=(*found.reasons, f"{NOT_MEASURED}{error}")) if isinstance(found, Choice) else found
        )


def _there_and_back(choice: Choice) -> Choice:
    return there_and_back(choice, _state.known_of_gpu([each.candidate for each in choice.ranked]))


def _gpu() -> tuple[object, ...]:
    """The GPU at hand: its number, None where CuPy is not in use, and its compute capability."""
    return (card.number(), card.capability())


def forget() -> None:
    """Read the model anew at the next choice, for instance after it was fitted anew."""
    _state.clear()


class _State:
    """What is known of the machine, read at the first choice, and the choices that were made."""

    def __init__(self) -> None:
        self.choices: dict[tuple[object, ...], Choice] = {}
        self._known: Known | None = None
        self._gpu_model: Model | None = None
        self._has_gpu_model = False
        self._on_gpus: dict[tuple[object, ...], dict[str, dict[str, float]]] = {}

    def known(self) -> Known:
        """What is known of this machine; warnings are of the thread that reads it first."""
        found = self._known
        if found is None:
            complaints: list[str] = []
            found = self._known = run_to_completion(known.load, complaints.append)
            for each in complaints:
                warnings.warn(each, RuntimeWarning, stacklevel=3)
        return found

    def known_of_gpu(self, wanted: Sequence[Candidate]) -> Known:
        """What is known of the current GPU, for a choice among these candidates."""
        if not self._has_gpu_model:
            complaints: list[str] = []
            self._gpu_model = run_to_completion(default_model, complaints.append)
            self._has_gpu_model = True
            for each in complaints:
                warnings.warn(each, RuntimeWarning, stacklevel=5)
        return known_of_gpu(wanted, self._gpu_model, self._on_gpus.get(_gpu(), {}))

    def measured_on_gpu(self, problem: Problem) -> Mapping[str, float]:
        """What was measured of a problem on the current GPU."""
        return self._on_gpus.get(_gpu(), {}).get(str(replace(problem, name="")), {})

    def add_of_gpu(self, problem: Problem, seconds: Mapping[str, float]) -> None:
        """Take what was measured on the current GPU into account."""
        gpu, name = _gpu(), str(replace(problem, name=""))
        with _lock:
            found = self._on_gpus.get(gpu, {})
            self._on_gpus[gpu] = {**found, name: {**found.get(name, {}), **seconds}}
            self.choices.clear()

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
        self._has_gpu_model = False
        self._on_gpus.clear()
        with _lock:
            self.choices.clear()


_state = _State()
_lock = threading.RLock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _state.choices.clear()  # a child cannot use a GPU that its parent has used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _within(request: _Request, wanted: Sequence[Candidate]) -> list[Prediction]:
    """Candidates that fit the limit of memory."""
    problem, limit, spent = request.problem, request.limit, request.spent
    needs = [Prediction(candidate, memory=candidate.memory(problem)) for candidate in wanted]
    fitting = [each for each in needs if limit is None or each.memory + spent <= limit]
    if not fitting:
        least = min(each.memory for each in needs) + spent
        raise RequestError(f"memory_limit={limit} is too little for {problem}; at least {least} bytes are needed")
    return fitting
