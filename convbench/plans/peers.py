"""A library bound to a problem and its weights, with what a sweep needs of a `Plan`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench.peers import PEERS
from convbench.plans.candidate import Candidate
from convbench.plans.forms import Closing, as_weights
from convbench.precision import PRECISIONS
from convbench.problem import Problem


class PeerPlan(Closing):
    """A library that is ready to compute one problem, with what a sweep needs of a `Plan`."""

    scratch_bytes = None  # it does not tell
    pids = ()
    stages = ()
    variant: Mapping[str, str | int] = MappingProxyType({})

    def __init__(self, problem: Problem, weights: ArrayLike, candidate: Candidate) -> None:
        begin = time.perf_counter()
        packed = as_weights(weights, problem)
        self.precision = PRECISIONS[candidate.precision_for(problem)]
        self._bound = PEERS[candidate.algorithm].open(problem, packed, candidate.cores, self.precision)
        self.setup = {"start": time.perf_counter() - begin}
        self.problem = problem
        self.candidate = candidate
        self._taken: tuple[NDArray[Any], NDArray[Any]] | None = None

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Convolve `x`; arrays that were not those of the last call are taken first, which takes a while."""
        if self._taken is None or x is not self._taken[0] or out is not self._taken[1]:
            self._bound.take(x, out)
            self._taken = (x, out)
        self._bound()

    def result(self, out: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002  # the library says
        """The last call's output, which may be an array of the library's own."""
        return self._bound.result()

    def threads(self) -> int | None:
        """How many threads the library says it uses."""
        return self._bound.threads()

    def stage_ticks(self) -> NDArray[np.float64]:
        """None: what it does inside is its own."""
        return np.zeros(0)

    def stage_shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:  # noqa: ARG002  # as those of a `Plan`
        """None either."""
        return []

    def close(self) -> None:
        """Give back what the library holds."""
        self._taken = None
        self._bound.close()
