"""A fixed order of the forms, for machines that nothing is known about, and the candidates that a request allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.executors.threads import most_threads
from convbench.plans import Candidate, checked_cores
from convbench.problem import Problem

PREFERENCE: Final[Mapping[str, Sequence[str]]] = {
    "numba": ("winograd", "direct", "unrolled", "naive"),
    "gpu": ("winograd", "unrolled", "direct"),
}
"""Forms in the order in which they are tried where nothing is known, by backend of the executor."""


def allowed_cores(cores: int | None) -> int:
    """The largest number of cores that a request may be computed on: what the process may use, at most `cores`.

    Raises:
        RequestError: `cores` is invalid, see `checked_cores`, or more than the threads of Numba's pool.
    """
    usable, threads = machine.usable_cores(), most_threads()
    if cores is None:
        return min(usable, threads)
    count = min(checked_cores(cores), usable)
    if count > threads:
        raise RequestError(
            f"cores={cores} is more than the {threads} threads of Numba's pool; "
            f"set NUMBA_NUM_THREADS={count} before Python starts"
        )
    return count


def candidates(problem: Problem, executor: str, cores: int, algorithm: str | None, precision: str) -> list[Candidate]:
    """Candidates that support a problem: those with the precision first, then in order of preference."""
    names = PREFERENCE[EXECUTORS[executor].backend] if algorithm is None else (ALGORITHMS.check(algorithm),)
    every = [Candidate(name, executor, cores, precision) for name in names]
    reasons = {candidate.algorithm: candidate.unsupported_reason(problem) for candidate in every}
    able = [candidate for candidate in every if reasons[candidate.algorithm] is None]
    if not able:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"no algorithm computes {problem} on the {executor} executor ({why})")
    return sorted(able, key=lambda candidate: candidate.precision_for(problem) != precision)
