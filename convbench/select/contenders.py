"""Contenders of a selection by name: our candidates as "algorithm/executor/cores", anybody else's by any name."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from convbench.algorithms import ALGORITHMS
from convbench.executors import EXECUTORS
from convbench.integers import ceil_div
from convbench.plans import Candidate
from convbench.problem import ITEM_SIZE, Problem

CALL: Final = "call"
"""The count of the fixed cost of a call."""
WORKS: Final = 4096  # cached costs: a problem has one for each algorithm


def name_of(candidate: Candidate) -> str:
    """The name of a candidate of ours."""
    return f"{candidate.algorithm}/{candidate.executor}/{candidate.cores}"


@lru_cache(maxsize=WORKS)
def candidate_of(name: str) -> Candidate | None:
    """The candidate of ours that has this name; None for another name."""
    algorithm, _, rest = name.partition("/")
    executor, _, cores = rest.partition("/")
    if algorithm not in ALGORITHMS or executor not in EXECUTORS or not cores.isdecimal() or not 0 < int(cores) < 10**6:
        return None
    return Candidate(algorithm, executor, int(cores))


def counted(problem: Problem, name: str) -> dict[str, float]:
    """The work of a call: counts of the busiest worker, by name; for somebody else's contender, those of the problem.

    Units are claimed by whoever is free, so that the busiest of c workers has ceil(units / c) of them.
    """
    candidate = candidate_of(name)
    if candidate is None:
        return _of_problem(problem)
    counts, units = _work(problem, candidate.algorithm, EXECUTORS[candidate.executor].backend)
    share = ceil_div(units, candidate.cores) / units
    found = {count: share * number for count, number in counts.items()}
    found[CALL] = 1.0
    return found


@lru_cache(maxsize=WORKS)
def _work(problem: Problem, algorithm: str, backend: str) -> tuple[dict[str, float], int]:
    cost = ALGORITHMS[algorithm].cost(problem, backend)
    return dict(cost.counts), max(1, cost.units)


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
