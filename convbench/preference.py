"""How `conv2d` chooses: an executor for the input, and the first supported form within the memory limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import ArrayLike, NDArray

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.arrays import on_gpu
from convbench.epilogue import Epilogue
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.executors.threads import most_threads
from convbench.plans import Candidate, Plan, checked_cores
from convbench.problem import Problem

PREFERENCE: Final[Mapping[str, Sequence[str]]] = {
    "numba": ("winograd", "direct", "unrolled", "naive"),
    "gpu": ("winograd", "unrolled", "direct"),
}
"""Forms that `conv2d` tries, in order of preference, by backend of the executor."""


def executor_for(x: ArrayLike, cores: int | None) -> tuple[str, int]:
    """The name of the executor for `x`, and the number of cores.

    Raises:
        RequestError: `cores` is invalid, see `checked_cores`.
        UnavailableError: `x` is on a GPU that cannot be used.
    """
    gpu = on_gpu(x)
    count = 1 if gpu else min(machine.usable_cores(), most_threads())
    if cores is not None:
        count = checked_cores(cores)
    name = "gpu" if gpu else "serial" if count == 1 else "threads"
    if (reason := EXECUTORS[name].available()) is not None:
        raise UnavailableError(f"x lies on a GPU, and {reason}")
    return name, count if EXECUTORS[name].scales else 1


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


def chosen_plan(
    problem: Problem,
    weights: NDArray[Any],
    wanted: Sequence[Candidate],
    memory_limit: int | None,
    copied: int,
    epilogue: Epilogue,
) -> Plan:
    """A plan for the first candidate within the memory limit whose memory can be allocated.

    Args:
        problem: The problem.
        weights: Its weights.
        wanted: Candidates in order of preference, at least one.
        memory_limit: Bytes; None for no limit.
        copied: Bytes of copies of arguments, which count towards the limit for every candidate.
        epilogue: The epilogue.
    """
    needed = []
    for candidate in wanted:
        if memory_limit is not None and (need := copied + candidate.memory(problem)) > memory_limit:
            needed.append(need)
            continue
        try:
            return Plan(problem, weights, candidate, epilogue=epilogue, borrow=True)
        except MemoryError:
            continue
    if not needed:
        raise UnavailableError(f"there is no memory to compute {problem} in; use a smaller batch or memory_limit")
    raise RequestError(
        f"memory_limit={memory_limit} is too little for {problem}; at least {min(needed)} bytes are needed"
    )
