"""What a worker of a cluster computes of a problem: a plan of its own, for its part."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.epilogue import Epilogue
from convbench.executors import gpu_executor
from convbench.executors.host import readable
from convbench.plans.candidate import Candidate
from convbench.plans.forms import Plan
from convbench.problem import Problem

LOCATION: Final = "convbench.plans.share:Share"


@dataclass(frozen=True)
class Order:
    """One part of a problem, as it is sent to a worker.

    Attributes:
        number: Of the part, and of the GPU of a worker's machine that it takes, modulo how many there are.
        problem: The part, as a problem of its own.
        weights: Its filters, shape `problem.weights_shape`.
        candidate: How the worker computes it.
        epilogue: What its layer ends with.
    """

    number: int
    problem: Problem
    weights: NDArray[Any]
    candidate: Candidate
    epilogue: Epilogue


class OnGpu:
    """An output on a GPU, which arrives as a NumPy array where it is sent to."""

    def __init__(self, share: Share) -> None:
        self._share = share

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (self._share.result(),)


class Share:
    """A plan for a part, and the output that it fills again and again: `executors.cluster.Share`."""

    def __init__(self, order: Order) -> None:
        self._gpu, self._number = gpu_executor(order.candidate.executor), order.number
        with self._device():
            self._plan = plan = Plan(order.problem, order.weights, order.candidate, epilogue=order.epilogue)
            self._out = plan.empty_output()
            self._x: NDArray[Any] = plan.empty_input()
        self.facts: dict[str, Any] = {
            "setup": plan.setup,
            "scratch_bytes": plan.scratch_bytes,
            "packed_bytes": plan.packed_bytes,
            "error_bound": plan.error_bound,
            "error_estimate": plan.error_estimate,
            "variant": plan.variant,
            "device": None if self._gpu is None else self._gpu.device_of(order.number),
        }

    def load(self, x: NDArray[Any]) -> None:
        """Take an input: on the host as it is, on a GPU by a copy."""
        if self._gpu is None:
            self._x = readable(x, self._plan.problem.dtype)
            return
        with self._device():
            self._gpu.upload(x, self._x)

    def __call__(self) -> None:
        """Compute the part's output, and wait for it."""
        with self._device():
            self._plan(self._x, self._out)
            if self._gpu is not None:
                self._gpu.wait()

    def output(self) -> NDArray[Any] | OnGpu:
        """The output where it is."""
        return self._out if self._gpu is None else OnGpu(self)

    def result(self) -> NDArray[Any]:
        """The output on the host."""
        with self._device():
            return self._plan.result(self._out)

    def close(self) -> None:
        """Close the plan."""
        self._plan.close()

    def _device(self) -> AbstractContextManager[object]:
        return nullcontext() if self._gpu is None else self._gpu.device(self._number)
