"""A peer bound to a problem and its weights, with the part of the interface of `Plan` that a sweep uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
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
    """A peer that is ready to compute one problem, with the part of the interface of `Plan` that a sweep uses."""

    scratch_bytes = None  # libraries do not report it
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
        """Convolve `x`; binds the arrays first if they are not those of the last call, which takes time."""
        if self._taken is None or x is not self._taken[0] or out is not self._taken[1]:
            self._bound.take(x, out)
            self._taken = (x, out)
        self._bound()

    def timed(self, x: NDArray[Any], out: NDArray[Any]) -> Callable[[], object]:
        """What a sweep times: a call."""
        return partial(self, x, out)

    def result(self, out: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002  # the library returns its own array
        """The output of the last call, possibly in the library's own array."""
        return self._bound.result()

    def threads(self) -> int | None:
        """Number of threads according to the library."""
        return self._bound.threads()

    def stage_ticks(self) -> NDArray[np.float64]:
        """Empty: a library's stages are unknown."""
        return np.zeros(0)

    def stage_shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:  # noqa: ARG002  # signature of `Plan`
        """Empty, likewise."""
        return []

    def close(self) -> None:
        """Release the library's resources."""
        self._taken = None
        self._bound.close()
