"""Choosing a candidate for a problem."""

from __future__ import annotations

from convbench.errors import RequestError
from convbench.plans import as_problem
from convbench.precision import PRECISIONS
from convbench.preference import allowed_cores, candidates
from convbench.problem import Problem
from convbench.select.choice import Choice, Prediction


def choose(
    problem: Problem | str,
    *,
    cores: int | None = None,
    memory_limit: int | None = None,
    measure: bool = False,  # noqa: ARG001
    packed: bool = True,  # noqa: ARG001
    backend: str = "numba",
    algorithm: str | None = None,
    arithmetic: str = "exact",
    spent: int = 0,
) -> Choice:
    """The candidate that computes a problem fastest on this machine."""
    problem = as_problem(problem)
    count = 1 if backend == "gpu" else allowed_cores(cores)
    executor = "gpu" if backend == "gpu" else "serial" if count == 1 else "threads"
    wanted = candidates(problem, executor, count, algorithm, PRECISIONS.check(arithmetic))
    if memory_limit is None:
        return Choice(problem, tuple(map(Prediction, wanted)), "default")
    found = [Prediction(candidate, memory=candidate.memory(problem)) for candidate in wanted]
    within = tuple(prediction for prediction in found if prediction.memory + spent <= memory_limit)
    if not within:
        needed = spent + min(prediction.memory for prediction in found)
        raise RequestError(
            f"memory_limit={memory_limit} is too little for {problem}; at least {needed} bytes are needed"
        )
    return Choice(problem, within, "default")
