"""What tests of plans under any caller share."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Struck, data

from convbench.executors import EXECUTORS
from convbench.plans import Plan, plan
from convbench.problem import Problem

HOST = ("serial", "threads", "processes")
PROBLEM = Problem(height=24, width=40, channels=2, out_channels=10, kernel_height=3, kernel_width=3)
TRIES, PATIENCE = 2, 60.0  # seconds, however busy the machine is
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def bound(executor: str, algorithm: str = "direct", weights: np.ndarray | None = None) -> Plan:
    """A plan on two cores, where its executor can be given so many."""
    cores = 2 if EXECUTORS[executor].scales else 1
    weights = data(PROBLEM)[1] if weights is None else weights
    return plan(PROBLEM, weights, algorithm=algorithm, executor=executor, cores=cores)


def inputs_and_outputs(one: Plan, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Different inputs, and what the plan computes of each when nobody else calls it."""
    found = [data(PROBLEM, seed)[0] for seed in range(count)]
    return [(x, one(x).copy()) for x in found]


def is_struck(moment: float, call: Callable[[], object]) -> bool:
    """Whether an alarm so many seconds from now ends the calls.

    What is raised in a finalizer is lost, and there is no knowing whose is due: then it is tried once more.
    """
    try:
        for _ in range(TRIES):
            signal.setitimer(signal.ITIMER_REAL, moment)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                call()
    except Struck:
        return True
    return False
