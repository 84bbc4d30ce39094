"""What a worker of a cluster computes of a problem: a plan of its own, for its part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from convbench.epilogue import Epilogue
from convbench.plans.candidate import Candidate
from convbench.plans.forms import Plan
from convbench.problem import Problem

LOCATION: Final = "convbench.plans.share:Share"


@dataclass(frozen=True)
class Order:
    """One part of a problem, as it is sent to a worker.

    Attributes:
        problem: The part, as a problem of its own.
        weights: Its filters, shape `problem.weights_shape`.
        candidate: How the worker computes it.
        epilogue: What its layer ends with.
    """

    problem: Problem
    weights: NDArray[Any]
    candidate: Candidate
    epilogue: Epilogue


class Share:
    """A plan for a part, and the output that it fills again and again: `executors.cluster.Share`."""

    def __init__(self, order: Order) -> None:
        self._plan = Plan(order.problem, order.weights, order.candidate, epilogue=order.epilogue)
        self._out = self._plan.empty_output()
        self.facts: dict[str, Any] = {
            "setup": self._plan.setup,
            "scratch_bytes": self._plan.scratch_bytes,
            "packed_bytes": self._plan.packed_bytes,
            "error_bound": self._plan.error_bound,
            "error_estimate": self._plan.error_estimate,
            "variant": self._plan.variant,
        }

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Compute the part's output."""
        return self._plan(x, self._out)

    def close(self) -> None:
        """Close the plan."""
        self._plan.close()
