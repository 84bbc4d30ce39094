"""Choosing a candidate for a problem."""

from __future__ import annotations

from convbench.plans import Candidate, as_problem
from convbench.preference import candidates
from convbench.problem import Problem
from convbench.select.choice import Choice, Prediction


def choose(
    problem: Problem | str,
    *,
    cores: int | None = None,
    memory_limit: int | None = None,
    measure: bool = False,
    packed: bool = True,
    backend: str = "numba",
    algorithm: str | None = None,
    arithmetic: str = "exact",
    spent: int = 0,
) -> Choice:
    """The candidate that computes a problem fastest on this machine."""
    problem = as_problem(problem)
    executor = "gpu" if backend == "gpu" else "serial" if cores == 1 else "threads"
    wanted: list[Candidate] = candidates(problem, executor, cores or 1, algorithm, arithmetic)
    return Choice(problem, tuple(map(Prediction, wanted)), "default")
