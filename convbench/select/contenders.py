"""Contenders of a selection by name: our candidates as "algorithm/executor/cores", anybody else's by any name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from convbench import machine
from convbench.algorithms import ALGORITHMS, Cost
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate
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
    return sorted(found, key=lambda one: one.precision_for(problem) != precision)


def ordered(backend: str) -> tuple[str, ...]:
    """Forms on a backend in the fixed order, then those that it does not name.

    Among them is `naive`, which needs no memory; it is not measured, and so it is the last resort.
    """
    first = PREFERENCE[backend]
    rest = (name for name in ALGORITHMS.defaults if name not in first and ALGORITHMS[name].find(backend) is not None)
    return (*first, *rest)


def name_of(candidate: Candidate) -> str:
    """The name of a candidate of ours."""
    return f"{candidate.algorithm}/{candidate.executor}/{candidate.cores}"


@lru_cache(maxsize=WORKS)
def candidate_of(name: str) -> Candidate | None:
    """The candidate of ours that has this name; None for another name."""
    algorithm, _, rest = name.partition("/")
    executor, _, cores = rest.partition("/")
    if algorithm not in ALGORITHMS or executor not in EXECUTORS or _CORES.fullmatch(cores) is None:
        return None
    return Candidate(algorithm, executor, int(cores))


def counted(problem: Problem, name: str) -> dict[str, float]:
    """The work of a call: counts of the busiest worker, by name; those of the problem for a foreign contender."""
    candidate = candidate_of(name)
    if candidate is None:
        return _of_problem(problem)
    cost = _cost(problem, candidate.algorithm, EXECUTORS[candidate.executor].backend)
    share = cost.busiest(candidate.cores)
    found = {count: share * number for count, number in cost.counts.items()}
    found[CALL] = 1.0
    return found


@lru_cache(maxsize=WORKS)
def _cost(problem: Problem, algorithm: str, backend: str) -> Cost:
    return ALGORITHMS[algorithm].cost(problem, backend)


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
