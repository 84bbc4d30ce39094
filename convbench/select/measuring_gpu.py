"""Measuring forms on the GPU at hand, in turns, by its own clock; transfers by the host's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate, Plan
from convbench.problem import Problem
from convbench.select.contenders import name_of
from convbench.select.measuring import check_memory
from convbench.select.on_gpu import BACKEND, TRANSFERS

if TYPE_CHECKING:
    from convbench.executors import GpuExecutor

ROUNDS: Final = 5
LEAST_SECONDS: Final = 1e-6  # that a call is taken for, so that rounds have an end
MOST_LOOPS: Final = 1000  # calls of a round


def measure(problem: Problem, candidates: Sequence[Candidate], seconds: float, seed: int = 0) -> dict[str, float]:
    """Measure candidates that support a problem on the current GPU, and the way there and back.

    Args:
        problem: The problem; its data are random numbers.
        candidates: Candidates on the GPU.
        seconds: Seconds of measuring, compiling not counted.
        seed: Of the data.

    Returns:
        Seconds of a call by name, and those of `TRANSFERS`: the fastest of `ROUNDS` rounds. A candidate for which
        memory runs out has none.

    Raises:
        UnavailableError: Memory, of the host or of the GPU, suffices for none.
    """
    executor = cast("GpuExecutor", EXECUTORS[BACKEND])
    check_memory(problem, ())
    try:
        return _measured(executor, problem, candidates, seconds, np.random.default_rng(seed))
    except MemoryError:
        raise UnavailableError(f"there is no memory to measure {problem} on the GPU; use a smaller batch") from None
    finally:
        executor.module().get_default_memory_pool().free_all_blocks()  # for whoever else computes on it


def _measured(
    executor: GpuExecutor, problem: Problem, candidates: Sequence[Candidate], seconds: float, draw: np.random.Generator
) -> dict[str, float]:
    x = draw.standard_normal(problem.input_shape).astype(problem.dtype)
    weights = (draw.standard_normal(problem.weights_shape) / problem.taps**0.5).astype(problem.dtype)
    with ExitStack() as open_plans:
        calls: dict[str, Callable[[], object]] = {}
        image, out = (
            executor.empty(problem.input_shape, problem.dtype),
            executor.empty(problem.output_shape, problem.dtype),
        )
        executor.upload(x, image)
        for candidate in candidates:
            try:
                with ExitStack() as opened:
                    plan = opened.enter_context(Plan(problem, weights, candidate, borrow=True))
                    plan(image, out)
                    open_plans.enter_context(opened.pop_all())
            except (MemoryError, UnavailableError):
                continue
            calls[name_of(candidate)] = plan.timed(image, out)
        if not calls:
            raise MemoryError
        found = _in_turns(executor, calls, seconds)
        return {**found, TRANSFERS: _there_and_back(executor, x, image, out)}


def _in_turns(executor: GpuExecutor, calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    least = {name: max(LEAST_SECONDS, executor.seconds(call, 1)) for name, call in calls.items()}
    share = seconds / ROUNDS / len(calls)
    loops = {name: max(1, min(MOST_LOOPS, int(share / each))) for name, each in least.items()}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            least[name] = min(least[name], executor.seconds(call, loops[name]) / loops[name])
    return least


def _there_and_back(executor: GpuExecutor, x: Any, on_gpu: Any, out: Any) -> float:
    target = executor.download(out)
    there, back = partial(executor.upload, x, on_gpu), partial(executor.download, out, target)
    return sum(min(_seconds(way) for _ in range(ROUNDS)) for way in (there, back))


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
