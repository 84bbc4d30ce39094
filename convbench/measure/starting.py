"""Which process measures a run's cells: a plain one, one that is launched together with workers, or this one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

from convbench import machine
from convbench.executors import EXECUTORS, launched
from convbench.measure.affinity import pin
from convbench.measure.spec import Spec, job_of
from convbench.results.record import Cell

_here: list[str] = []
"""Executors whose cells this process measures itself, since it leads their workers."""


class Worker(Protocol):
    """What measures cells, one after the other."""

    def next_line(self, limit: float) -> bytes | None:
        """The record of the next cell as a line; None when there is no further one."""

    def ended_by_itself(self) -> bool:
        """Whether it has ended without an error."""

    def cause_of_death(self) -> str:
        """How it ended, if it should not have."""

    def stop(self) -> None:
        """End it."""


class WorkerHere:
    """Measures in this process, as the leader of workers that somebody else has started with it.

    A cell that hangs cannot be given up here: whoever started the processes ends them.
    """

    def __init__(self, spec: Spec, run: int, cells: Sequence[tuple[int, Cell]]) -> None:
        from convbench.measure.cell import Laboratory
        from convbench.measure.worker import metadata

        self._laboratory = Laboratory(Spec.from_json(json.loads(json.dumps(spec.for_workers()))), run, metadata())
        self._left, self._cpus = list(cells), machine.allowed_cpus()

    def next_line(self, limit: float) -> bytes | None:  # noqa: ARG002  # see the class
        """Measure the next cell."""
        return self._laboratory.measure(*self._left.pop(0)).to_json().encode() if self._left else None

    def ended_by_itself(self) -> bool:
        """It has, when no cell is left."""
        return True

    def cause_of_death(self) -> str:
        """It does not die before this process does."""
        return "this process has no cell left"

    def stop(self) -> None:
        """Forget what is left, and use all CPUs again, as processes that are started inherit what this one may use."""
        self._left.clear()
        pin(self._cpus)


@contextmanager
def leading(executors: Sequence[str], workers: int) -> Iterator[None]:
    """Lead the processes that this one was started with, where an executor has such; in the others, do not return.

    Args:
        executors: Those of the request.
        workers: The most that are needed.

    Raises:
        RequestError: There are fewer, or several that none of the executors asked for.
    """
    with ExitStack() as jobs:
        for name in EXECUTORS:
            needed = workers if name in executors else None
            if (executor := launched(name)) is not None and jobs.enter_context(executor.lead(needed)):
                jobs.callback(_here.remove, name)
                _here.append(name)
        yield


def begun(
    spec: Spec, run: int, cells: Sequence[tuple[int, Cell]], python: str | None, process: Callable[..., Worker]
) -> Worker:
    """A worker that measures cells of one job, see `spec.job_of`; `process` starts one in a process of its own.

    Raises:
        OSError: It cannot be started.
    """
    job, most = job_of(cells[0][1]), max(cell[3] for _, cell in cells)
    if job in _here and python is None:
        return WorkerHere(spec, run, cells)
    order: dict[str, Any] = {"spec": spec.for_workers(), "run": run, "cells": cells}
    executor = launched(job) if python is None else None
    threads = max(spec.cores_here)
    if executor is None:
        return process(order, threads, python)
    return process(order, threads, None, partial(executor.launcher, processes=most))
