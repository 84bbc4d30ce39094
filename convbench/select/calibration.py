"""Whether the cores work side by side as they usually do, told by two fixed problems beside those that are measured.

On a host that others share, a second core at times gives little for a second or longer, and no counter of the system
shows it: `direct` on two cores then takes as long as on one. Measured at such a moment, two cores lose where they win
at all other times.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Self

import numpy as np

from convbench.plans import Candidate, Plan
from convbench.problem import Problem
from convbench.select.bursts import fastest_of_burst

SMALL: Final = Problem.parse("ic16ih28oc32kh3ph1")
"""A tenth of a millisecond on one core: tells whether threads wake each other as fast as usual."""
LARGE: Final = Problem.parse("ic64ih56oc32kh3ph1")
"""A millisecond or more on one core: tells whether each core works as fast as alone."""
FAIR: Final = 0.88  # of the usual gain: below, the moment is not measured in
USUAL: Final = 0.75  # quantile of the gains seen that is the usual one
SEEN: Final = 400  # gains that are remembered
FIRST: Final = 20  # gains before the first problem, so that one knows what is usual
PATIENCE: Final = 1.0  # seconds to wait for a fair moment
PAUSE: Final = 0.05  # seconds between looks


class Calibration:
    """Gains by several cores over one, on two fixed problems, beside what is usual on this machine.

    Args:
        cores: The most cores that are measured; with one there is nothing to tell, and every moment is fair.
    """

    def __init__(self, cores: int) -> None:
        self._stack = ExitStack()
        self._pairs = [self._pair(problem, cores) for problem in (SMALL, LARGE)] if cores > 1 else []
        self._seen: list[deque[float]] = [deque(maxlen=SEEN) for _ in self._pairs]
        for _ in range(FIRST if self._pairs else 0):
            self._gains()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def share(self) -> float:
        """The smaller share of its usual gain that a problem has on several cores at the moment; 1 on one core."""
        gains = self._gains()
        usual = [float(np.quantile(seen, USUAL)) for seen in self._seen]
        return min((gain / most for gain, most in zip(gains, usual, strict=True)), default=1.0)

    def wait(self) -> None:
        """Wait for a fair moment, `PATIENCE` at most."""
        until = time.perf_counter() + PATIENCE
        while self.share() < FAIR and time.perf_counter() < until:
            time.sleep(PAUSE)

    def _gains(self) -> list[float]:
        """How many times as fast several cores are as one; remembered."""
        gains = [
            fastest_of_burst(alone).seconds / fastest_of_burst(together).seconds for alone, together in self._pairs
        ]
        for seen, gain in zip(self._seen, gains, strict=True):
            seen.append(gain)
        return gains

    def _pair(self, problem: Problem, cores: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """Calls on one core and on several."""
        draw = np.random.default_rng(0)
        x, weights = (
            draw.standard_normal(shape).astype(problem.dtype) for shape in (problem.input_shape, problem.weights_shape)
        )

        def call(executor: str, count: int) -> Callable[[], Any]:
            plan = self._stack.enter_context(Plan(problem, weights, Candidate("direct", executor, count)))
            out = plan.empty_output()
            plan(x, out=out)
            return partial(plan, x, out=out)

        return call("serial", 1), call("threads", cores)
