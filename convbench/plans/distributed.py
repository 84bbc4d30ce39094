"""A candidate on a cluster: workers compute parts of a problem, and the parts stay where they are unless gathered."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench.arrays import as_array
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.executors.cluster import FORKED, ClusterExecutor, Job, Piece
from convbench.executors.host import readable
from convbench.plans.candidate import Candidate
from convbench.plans.forms import CLOSED, Closing, as_weights
from convbench.plans.share import LOCATION, Order
from convbench.precision import PRECISIONS
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.executors.cluster import Crew, Times
    from convbench.problem.split import Part


class DistributedPlan(Closing):
    """A candidate on an executor whose workers compute parts of the problem, with the interface of `Plan`.

    A call distributes the input, computes and gathers the output. Each of the three can be called apart: parts stay
    where they are until `gather`, so that a program that goes on with them there pays for `compute` alone.

    Calls from several threads are serialised, and after `close` raise `RequestError`. It cannot be called in a forked
    child.

    Attributes:
        problem: The problem.
        candidate: The candidate; its `cores` is the number of workers that were asked for.
        workers: How many have a part; fewer than asked for where the problem has less to cut.
        axis: What is cut: "images", "rows" (of the output) or "filters"; empty where one worker has all.
        setup: Seconds of set-up, by step; of the slowest worker for what workers do.
        scratch_bytes: Memory that a call needs in addition to input, weights and output, of all workers together.
        packed_bytes: Memory of the workers' packed weights.
        error_bound: As `Plan.error_bound`.
        error_estimate: As `Plan.error_estimate`.
        precision: Precision of products.
        stages: Empty: workers' stages are not measured.
        variant: Choices of the form for the first part.
    """

    stages = ()

    def __init__(
        self,
        problem: Problem,
        weights: ArrayLike,
        candidate: Candidate,
        *,
        epilogue: Epilogue = NO_EPILOGUE,
    ) -> None:
        """Cut the problem, and have the workers make a plan for each part.

        Raises:
            UnavailableError: The candidate cannot compute the problem, or there are not so many workers.
        """
        if (reason := candidate.unsupported_reason(problem)) is not None:
            raise UnavailableError(f"{candidate} cannot compute {problem}: {reason}")
        self.problem, self.candidate = problem, candidate
        given, parts = as_weights(weights, problem), problem.split(candidate.cores)
        pieces = tuple(_piece(number, part, given, candidate, epilogue) for number, part in enumerate(parts))
        job = Job(LOCATION, pieces, problem.input_shape, problem.output_shape, problem.dtype)
        self.workers, self.axis = len(parts), _axis(parts)
        self._crew = cast("ClusterExecutor", EXECUTORS[candidate.executor]).crew(job, candidate.cluster)
        self._distributed: NDArray[Any] | None = None
        self._process, self._lock = os.getpid(), threading.RLock()
        self._working: Crew = self._crew
        self.precision = PRECISIONS[candidate.precision_for(problem)]
        self._learn(self._crew.members.facts)

    def _learn(self, facts: Sequence[Mapping[str, Any]]) -> None:
        """What the workers tell of their plans."""
        steps = dict.fromkeys(step for fact in facts for step in fact["setup"])
        slowest = {step: max(fact["setup"].get(step, 0.0) for fact in facts) for step in steps}
        start = slowest.pop("start", 0.0) + self._crew.setup.get("start", 0.0)
        self.setup = {**slowest, **self._crew.setup, "start": start}
        self.scratch_bytes = sum(fact["scratch_bytes"] for fact in facts)
        self.packed_bytes = sum(fact["packed_bytes"] for fact in facts)
        self.variant = dict(facts[0]["variant"])
        self.error_bound, self.error_estimate = (_largest(facts, name) for name in ("error_bound", "error_estimate"))

    @property
    def pids(self) -> tuple[int, ...]:
        """Process IDs of the workers that were started on this machine for it."""
        return self._crew.members.pids

    @property
    def events(self) -> tuple[str, ...]:
        """What has happened to workers so far: "worker_replaced" for each that died and was replaced."""
        return tuple(self._crew.events)

    @property
    def oversubscribed(self) -> bool:
        """Whether a machine has more of the workers' threads than CPUs for them."""
        return self._crew.members.oversubscribed(self.candidate.cluster.threads)

    def empty_input(self) -> NDArray[Any]:
        """Allocate an array of `problem.input_shape`, of undefined content, in this process."""
        return EXECUTORS[self.candidate.executor].empty(self.problem.input_shape, self.problem.dtype)

    def empty_output(self) -> NDArray[Any]:
        """Allocate an array of `problem.output_shape`, of undefined content, in this process."""
        return EXECUTORS[self.candidate.executor].empty(self.problem.output_shape, self.problem.dtype)

    def __reduce__(self) -> NoReturn:
        raise RequestError("a plan cannot be copied or pickled; make one with convbench.plan where it is needed")

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Distribute `x`, convolve it, and gather the output.

        Args:
            x: As for `Plan`.
            out: As for `Plan`.

        Returns:
            `out`, or a new array: 4-D if `x` is, otherwise without the batch axis.

        Raises:
            RequestError: A shape or dtype is not as above, or the plan is closed.
            UnavailableError: The workers are gone and are not replaced, or this is a forked child.
        """
        given = as_array("x", x)
        result = self.empty_output() if out is None else out
        with self._turn():
            self.distribute(given)
            self.compute()
            self.gather(result if result.ndim == 4 else result[None])
        if out is not None:
            return out
        return result if given.ndim == 4 else result[0]

    def distribute(self, x: NDArray[Any]) -> None:
        """Send every worker its part of the input; `x` may change afterwards.

        Where workers that die are replaced, on `dask`, this process keeps a copy, to send parts again.

        Raises:
            RequestError: The shape is not `problem.input_shape`; leading axes of length 1 may be omitted.
        """
        needed = self.problem.input_shape
        if x.shape != needed and (1,) * (4 - x.ndim) + x.shape != needed:
            raise RequestError(f"x has shape {x.shape}; {needed} is needed for {self.problem}")
        image = readable(x, self.problem.dtype).reshape(needed)
        with self._turn() as crew:
            self._distributed = None  # until all workers have it
            crew.distribute(image)
            self._distributed = x

    def compute(self) -> None:
        """Have every worker exchange halos, where it has neighbours, and convolve its part."""
        with self._turn() as crew:
            crew.compute()

    def gather(self, out: NDArray[Any]) -> None:
        """Bring the output of the last call of `compute` into an array of `problem.output_shape`.

        Raises:
            RequestError: `out` has another shape or dtype.
        """
        wanted = (self.problem.output_shape, self.problem.dtype)
        if (out.shape, out.dtype.name) != wanted or not out.flags.carray:
            raise RequestError(f"out is {out.dtype} {out.shape}; a plain {wanted[1]} array of {wanted[0]} is needed")
        with self._turn() as crew:
            crew.gather(out)

    def timed(self, x: NDArray[Any], out: NDArray[Any]) -> Callable[[], object]:  # noqa: ARG002  # gathered apart
        """What a sweep times: `compute` with the input where it is computed."""
        with self._turn():
            if self._distributed is not x:
                self.distribute(x)
        return self.compute

    def result(self, out: NDArray[Any]) -> NDArray[Any]:
        """The output of the last call, gathered into `out`."""
        self.gather(out)
        return out

    def ready(self) -> None:
        """Wake the workers before a sample."""
        with self._turn() as crew:
            crew.ready()

    def drain(self) -> Times:
        """Seconds that each worker computed and exchanged halos in each call since this was last asked."""
        with self._turn() as crew:
            return crew.drain()

    def facts(self) -> dict[str, Any]:
        """What a record says of the cut and of what it moves, see `Record.cluster`."""
        traffic, here = self._crew.traffic, socket.gethostname()
        executor = cast("ClusterExecutor", EXECUTORS[self.candidate.executor])
        return {
            "workers": self.workers,
            "threads_per_worker": self.candidate.cluster.threads,
            "hosts": self._crew.members.hosts,
            "remote": sum(fact["host"] != here for fact in self._crew.members.facts),
            "axis": self.axis,
            "exchanges": executor.exchanges,
            "bytes": {name: moved.bytes for name, moved in traffic.items()},
            "messages": {name: moved.messages for name, moved in traffic.items()},
        }

    def threads(self) -> int | None:
        """Number of workers that compute, where that is what was asked for or not; None if the problem has less."""
        return self.workers if self.workers == self.candidate.cores else None

    def stage_ticks(self) -> NDArray[np.float64]:
        """Empty: stages of workers are not measured."""
        return np.zeros(0)

    def stage_shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:  # noqa: ARG002  # signature of `Plan`
        """Empty, likewise."""
        return []

    def close(self) -> None:
        """Release the workers' parts. Idempotent."""
        if os.getpid() != self._process:  # the workers are its parent's
            return
        with self._lock:
            self._distributed, self._working = None, cast("Crew", CLOSED)
            self._crew.close()

    @contextmanager
    def _turn(self) -> Iterator[Crew]:
        """Have the workers for oneself."""
        if os.getpid() != self._process:  # which may have been forked while another thread had its turn
            raise UnavailableError(FORKED)
        with self._lock:
            yield self._working


def _piece(number: int, part: Part[Problem], weights: NDArray[Any], candidate: Candidate, epilogue: Epilogue) -> Piece:
    own = epilogue if epilogue.bias is None else Epilogue(epilogue.bias[part.weights], epilogue.relu)
    order = Order(number, part.problem, weights[part.weights], candidate.of_worker, own)
    return Piece(order, part.input, part.output)


def _axis(parts: Sequence[Part[Problem]]) -> str:
    """The axis of the output along which parts differ."""
    for axis, name in enumerate(("images", "filters", "rows")):
        if len({(part.output[axis].start, part.output[axis].stop) for part in parts}) > 1:
            return name
    return ""


def _largest(facts: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The largest of the workers' values; None where one is unknown."""
    values = [fact[name] for fact in facts]
    return None if None in values else max(values)
