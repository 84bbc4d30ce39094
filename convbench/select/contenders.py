"""Contenders of a selection by name: our candidates as "algorithm/executor/cores", anybody else's by any name.

On a GPU, where forms exist in several precisions, one that rounds has a fourth part, as in "unrolled/gpu/1/tf32".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from convbench import machine
from convbench.algorithms import ALGORITHMS, Cost
from convbench.cuda import card
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate
from convbench.precision import EXACT, PRECISIONS
from convbench.preference import PREFERENCE
from convbench.problem import ITEM_SIZE, Problem

HOST: Final = "numba"
"""The backend of executors on the host."""
ON_HOST: Final = ("serial", "threads")
"""Executors that a choice on the host may name: `processes` would copy the caller's arrays and start processes."""
CALL: Final = "call"
"""The count of the fixed cost of a call."""
_CORES: Final = re.compile("[1-9][0-9]{0,5}")
WORKS: Final = 4096  # cached costs: a problem has one for each algorithm


def core_counts(most: int) -> tuple[int, ...]:
    """The counts of cores that a choice may name: all of them, and the powers of two below."""
    return (most, *(count for count in reversed(machine.core_series()) if count < most))


def able(
    problem: Problem, backend: str, counts: Sequence[int], algorithm: str | None = None, precision: str = "exact"
) -> list[Candidate]:
    """Candidates that support a problem, in the fixed order of forms for each count of cores.

    On a GPU each has the precision that it computes the problem in, which may be exact where another one is allowed.

    Raises:
        RequestError: There is no such algorithm.
        UnavailableError: There is none; the error says why of each form.
    """
    names = ordered(backend) if algorithm is None else (ALGORITHMS.check(algorithm),)
    where = [(ON_HOST[count > 1] if backend == HOST else backend, count) for count in counts]
    every = [Candidate(name, *place, precision) for place in where for name in names]
    reasons = {one.algorithm: one.unsupported_reason(problem) for one in every[: len(names)]}
    found = [one for one in every if reasons[one.algorithm] is None]
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"no algorithm computes {problem} on the {where[0][0]} executor ({why})")
    found.sort(key=lambda one: one.precision_for(problem) != precision)
    return found if backend == HOST else [replace(one, precision=one.precision_for(problem)) for one in found]


def ordered(backend: str) -> tuple[str, ...]:
    """Forms on a backend in the fixed order, then those that it does not name.

    Among them is `naive`, which needs no memory; it is not measured, and so it is the last resort.
    """
    first = PREFERENCE[backend]
    rest = (name for name in ALGORITHMS.defaults if name not in first and ALGORITHMS[name].find(backend) is not None)
    return (*first, *rest)


def name_of(candidate: Candidate) -> str:
    """The name of a candidate of ours."""
    name = f"{candidate.algorithm}/{candidate.executor}/{candidate.cores}"
    if candidate.precision == EXACT.name or EXECUTORS[candidate.executor].backend == HOST:
        return name
    return f"{name}/{candidate.precision}"


@lru_cache(maxsize=WORKS)
def candidate_of(name: str) -> Candidate | None:
    """The candidate of ours that has this name; None for another name."""
    algorithm, _, rest = name.partition("/")
    executor, _, rest = rest.partition("/")
    cores, slash, precision = rest.partition("/")
    if algorithm not in ALGORITHMS or executor not in EXECUTORS or _CORES.fullmatch(cores) is None:
        return None
    if slash and (precision not in PRECISIONS or EXECUTORS[executor].backend == HOST):
        return None
    return Candidate(algorithm, executor, int(cores), precision or EXACT.name)


def counted(problem: Problem, name: str) -> dict[str, float]:
    """The work of a call: counts of the busiest worker, by name; those of the problem for a foreign contender."""
    candidate = candidate_of(name)
    if candidate is None:
        return _of_problem(problem)
    backend = EXECUTORS[candidate.executor].backend
    capability = None if backend == HOST else card.capability()  # sizes differ by it
    cost = _cost(problem, candidate.algorithm, backend, candidate.precision, capability)
    share = cost.busiest(candidate.cores)
    found = {count: share * number for count, number in cost.counts.items()}
    if backend == HOST:  # on a GPU, forms count their launches
        found[CALL] = 1.0
    return found


@lru_cache(maxsize=WORKS)
def _cost(problem: Problem, algorithm: str, backend: str, precision: str, _capability: int | None) -> Cost:
    return ALGORITHMS[algorithm].cost(problem, backend, precision)


def _of_problem(problem: Problem) -> dict[str, float]:
    """What any form may count up to: products, bytes, and what it takes to unroll."""
    item = ITEM_SIZE[problem.dtype]
    pixels = problem.batch * problem.output_height * problem.output_width
    return {
        "multiply-adds": problem.multiply_adds,
        "input bytes": problem.batch * problem.channels * problem.height * problem.width * item,
        "weight bytes": problem.out_channels * problem.taps * item,
        "output bytes": pixels * problem.out_channels * item,
        "unrolled bytes": pixels * problem.groups * problem.taps * item,
        CALL: 1.0,
    }
