"""The one place where an algorithm meets an executor: a candidate bound to a problem and its weights.

What a sweep times is the very `Plan` that `conv2d` runs, so a measured number is a number that a caller gets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench import machine
from convbench.algorithms import ALGORITHMS, Implementation
from convbench.arguments import truth, whole_number
from convbench.arrays import as_array
from convbench.epilogue import NO_EPILOGUE
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS, Executor
from convbench.executors.host import readable
from convbench.peers import LIBRARY, PEERS
from convbench.precision import EXACT, PRECISIONS, TF32, Precision
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.executors import QueueingRunner, Runner


@dataclass(frozen=True)
class Candidate:
    """One way to compute a problem.

    Attributes:
        algorithm: One of ours, or a peer.
        executor: Where; `LIBRARY` for a peer that computes on threads of its own.
        cores: How many.
        precision: What products may be computed in, from `PRECISIONS`; where that cannot be, they are exact.
    """

    algorithm: str
    executor: str
    cores: int
    precision: str = "exact"

    def unsupported_reason(self, problem: Problem) -> str | None:
        """Why it cannot compute `problem` here; None where it can."""
        reason = None if self.executor == LIBRARY else EXECUTORS[self.executor].available()
        if self.algorithm in PEERS:
            peer = PEERS[self.algorithm]
            return reason or peer.available() or peer.supports(problem)
        return reason or ALGORITHMS[self.algorithm].unsupported_reason(problem, EXECUTORS[self.executor].backend)

    def precision_for(self, problem: Problem) -> str:
        """What products are computed in: as allowed where executor, dtype and form have it, else exactly.

        A peer that is allowed to round may still choose not to.
        """
        if self.executor == LIBRARY or not self._has(PRECISIONS[self.precision], problem):
            return EXACT.name
        return self.precision

    def _has(self, precision: Precision, problem: Problem) -> bool:
        executor = EXECUTORS[self.executor]
        if precision.unsupported_reason(problem.dtype) or executor.unsupported_precision(precision):
            return False
        if self.algorithm in PEERS:
            return True
        form = ALGORITHMS[self.algorithm]
        return form.unsupported_reason(problem, executor.backend, precision.name) is None

    def implementation(self, problem: Problem) -> Implementation:
        """What computes a problem that one of our algorithms supports."""
        found = ALGORITHMS[self.algorithm].find(EXECUTORS[self.executor].backend, self.precision_for(problem))
        assert found is not None  # noqa: S101  # `unsupported_reason` has found it
        return found

    def memory(self, problem: Problem) -> int:
        """Bytes that one of our algorithms needs beside input, weights as they are, and output."""
        backend, precision = EXECUTORS[self.executor].backend, self.precision_for(problem)
        return ALGORITHMS[self.algorithm].footprint(problem, backend, precision).total(self.cores)

    def __str__(self) -> str:
        return f"{self.algorithm} on {self.executor} with {self.cores} core{'s' if self.cores > 1 else ''}"


class Closing:
    """What is to be closed when done, which a `with` statement does."""

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Plan(Closing):
    """A candidate that is ready to compute one problem with one set of weights, again and again.

    Use it as a context manager, or call `close` when done; a call after that is a `RequestError`.

    It may be called from any number of threads. On `serial` their calls run side by side, each with scratch of its own;
    on `threads` and `processes` one waits for the other, since each takes all the cores of the plan. On the host it may
    be called in a forked child as well. An interrupt, or what else is raised in the middle of a call, costs that call
    alone. Results of `processes` lie in shared memory: a child that is forked later and writes to one writes to its
    parent's. A plan cannot be copied or sent to another process; make one there.

    Attributes:
        problem: What it computes.
        candidate: How.
        setup: Seconds that getting ready took, by step ("compile", "pack", "start").
        scratch_bytes: Memory that a call needs beside input, weights and output.
        error_bound: What the rounding error of no output exceeds, over max |x| times the largest sum of |weights| of
            one kernel, for every finite input with which nothing on the way overflows or underflows; None if unknown.
        error_estimate: About what the largest error is, over the largest output, for independent random inputs of mean
            zero and weights of like size; see `convbench.rounding.Errors` for both. None if unknown.
        precision: What products are computed in.
        stages: Names of the stages that it tells apart; empty if none.
    """

    def __init__(self, problem: Problem, weights: ArrayLike, candidate: Candidate, *, borrow: bool = False) -> None:
        """Pack the weights and get ready; to `borrow` them is for who does not change them while the plan is used."""
        if (reason := candidate.unsupported_reason(problem)) is not None:
            raise UnavailableError(f"{candidate} cannot compute {problem}: {reason}")
        self._executor: Executor = EXECUTORS[candidate.executor]
        self.problem = problem
        self.candidate = candidate
        begin = time.perf_counter()
        given = _as_weights(weights, problem)
        work = candidate.implementation(problem).prepare(problem, given, NO_EPILOGUE)
        if not borrow and np.may_share_memory(work.weights, given):
            work = replace(work, weights=work.weights.copy())
        packed = time.perf_counter()
        self._runner: Runner = self._executor.open(work, candidate.cores)
        self.setup = {"pack": packed - begin, **self._runner.setup}
        self.scratch_bytes = candidate.cores * work.scratch_size * work.dtype.itemsize
        self.error_bound = work.errors.bound if work.errors else None
        self.error_estimate = work.errors.estimate if work.errors else None
        self.precision = PRECISIONS[candidate.precision_for(problem)]
        self.stages = work.stages

    @property
    def pids(self) -> tuple[int, ...]:
        """Worker processes that compute for it; empty where the calling process does."""
        return tuple(self._runner.pids)

    def empty_input(self) -> NDArray[Any]:
        """An array of `problem.input_shape` and undefined content where the executor reads fastest."""
        return self._empty(self.problem.input_shape)

    def empty_output(self) -> NDArray[Any]:
        """An array of `problem.output_shape` and undefined content where the executor writes fastest."""
        return self._empty(self.problem.output_shape)

    def __reduce__(self) -> NoReturn:
        raise RequestError("a plan cannot be copied or pickled; make one with convbench.plan where it is needed")

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Convolve `x`.

        Args:
            x: `problem.input_shape`; leading axes of length 1 may be left out. Whatever can be had as an array is
                taken, and copied unless it is C-contiguous, aligned and of the problem's dtype.
            out: Where to put the result: `problem.output_shape` or, for one image, without the batch axis;
                C-contiguous, of the problem's dtype, not overlapping `x`. Allocated if not given, which for a large
                output costs more than the convolution.

        Returns:
            `out`, or the new array: 4-D if `x` is, otherwise without the batch axis.

        Raises:
            RequestError: A shape or dtype is not as above, or the plan is closed.
            UnavailableError: There is no memory for the result or for a copy of `x`, or a worker process is gone; the
                next call starts another.
        """
        runner, given = self._runner, as_array("x", x, self._executor.module())
        image = self._input(given)
        result = self.empty_output() if out is None else self._checked(out, image)
        runner(image, result)
        if out is not None:
            return out
        return result if given.ndim == 4 else result[0]

    def _input(self, given: NDArray[Any]) -> NDArray[Any]:
        """`x` as the 4-D array that the runner reads."""
        problem = self.problem
        if (1,) * (4 - given.ndim) + given.shape != problem.input_shape:
            raise RequestError(f"x has shape {given.shape}; {problem.input_shape} is needed for {problem}")
        try:
            image = self._executor.input(given, problem.dtype)
        except MemoryError:
            raise UnavailableError(f"there is no memory for a copy of x, shape {given.shape}, as it is read") from None
        return image if image.ndim == 4 else image.reshape(problem.input_shape)

    def result(self, out: NDArray[Any]) -> NDArray[Any]:
        """The last call's output, which is in the `out` that it was given, as an array of the host's."""
        return self._executor.download(out)

    def threads(self) -> int | None:
        """How many threads computed the last call, as read back from whatever ran them."""
        return self._runner.threads()

    def stage_ticks(self) -> NDArray[np.float64]:
        """Ticks that a worker has spent in each of the stages so far, mean over workers; on a device nothing ticks."""
        if self._runner.clock is None:
            return np.zeros(0)
        return np.asarray(self._runner.clock[:, : len(self.stages)].mean(axis=0))

    def stage_shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """What share of a call on a device each of the stages takes, by a call of its own."""
        return cast("QueueingRunner", self._runner).shares(x, out)

    def close(self) -> None:
        """Give back scratch memory and workers; once more does nothing."""
        runner, self._runner = self._runner, CLOSED
        runner.close()

    def _empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return self._executor.empty(shape, self.problem.dtype)
        except (MemoryError, OSError):
            raise UnavailableError(f"there is no memory for an array of shape {shape}; use a smaller batch") from None

    def _checked(self, out: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
        """`out` as the 4-D array that the runner fills."""
        problem = self.problem
        shapes = [problem.output_shape, problem.output_shape[1:]][: 2 if problem.batch == 1 else 1]
        arrays = self._executor.module()
        if not isinstance(out, arrays.ndarray) or out.shape not in shapes or out.dtype != problem.dtype:
            what = f"{out.dtype} {out.shape}" if isinstance(out, arrays.ndarray) else type(out).__name__
            raise RequestError(f"out is {what}; a {problem.dtype} array of shape {shapes[0]} is needed")
        flags = out.flags  # of which CuPy's has only the first
        if not (flags.c_contiguous and getattr(flags, "writeable", True) and getattr(flags, "aligned", True)):
            raise RequestError("out is read-only, unaligned or not C-contiguous; give a plain array or leave it out")
        if _overlap(out, image):
            raise RequestError("out overlaps x; give it memory of its own")
        reshaped: NDArray[Any] = out.reshape(problem.output_shape)
        return reshaped


class _Closed:
    """What is in the place of a runner after the plan was closed."""

    def close(self) -> None:
        """Nothing is left to give back."""

    def __call__(self, *_: object) -> None:
        """Refuse."""
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RequestError("the plan is closed; make a new one with convbench.plan")


CLOSED: Final = cast("Runner", _Closed())


class PeerPlan(Closing):
    """A library that is ready to compute one problem, with what a sweep needs of a `Plan`."""

    scratch_bytes = None  # it does not tell
    pids = ()
    stages = ()

    def __init__(self, problem: Problem, weights: ArrayLike, candidate: Candidate) -> None:
        begin = time.perf_counter()
        packed = _as_weights(weights, problem)
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


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two contiguous arrays of one device lie in the same memory, whoever told CuPy of it."""

    def begin(array: Any) -> int:
        interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
        return int(interface["data"][0])

    return begin(one) < begin(other) + other.nbytes and begin(other) < begin(one) + one.nbytes


def bind(problem: Problem, weights: ArrayLike, candidate: Candidate) -> Plan | PeerPlan:
    """What a sweep measures: a candidate of ours as a `Plan`, a peer as a `PeerPlan`."""
    return (PeerPlan if candidate.algorithm in PEERS else Plan)(problem, weights, candidate)


def memory(executor: str) -> str:
    """The kind of memory that an executor's arrays lie in best."""
    return "private" if executor == LIBRARY else EXECUTORS[executor].memory


def plan(
    problem: Problem | str,
    weights: ArrayLike,
    *,
    algorithm: str = "direct",
    executor: str = "threads",
    cores: int = 1,
    allow_tf32: bool = False,
) -> Plan:
    """Bind a candidate to a problem and its weights.

    Args:
        problem: What to compute; a string is read as a descriptor, see `Problem.parse`.
        weights: Shape `problem.weights_shape`; (K, rows, columns) will do for one channel a group. Copied.
        algorithm: One of `convbench.algorithms.ALGORITHMS`.
        executor: One of `convbench.executors.EXECUTORS`.
        cores: How many cores to use; executors that cannot be given a number take 1.
        allow_tf32: Whether a GPU may round the inputs of float32's products to TF32, with 10 bits behind the point.

    Returns:
        The plan, to be called as `plan(x, out=out)` and closed when done.

    Raises:
        RequestError: A name, a shape or the number of cores is wrong.
        UnavailableError: The candidate cannot compute the problem on this machine, or there is no memory for it.
    """
    problem = as_problem(problem)
    cores = checked_cores(cores)
    if cores > 1 and not EXECUTORS[executor].scales:
        raise RequestError(f"cores={cores} is not allowed; give 1, which is all {executor} uses")
    precision = TF32.name if truth("allow_tf32", allow_tf32) else EXACT.name
    candidate = Candidate(ALGORITHMS.check(algorithm), executor, cores, precision)
    try:
        return Plan(problem, weights, candidate)
    except MemoryError:
        raise UnavailableError(f"there is no memory for {candidate} to compute {problem}; use another form") from None


def checked_cores(cores: int) -> int:
    """A number of cores that makes sense.

    Raises:
        RequestError: It is no whole number from 1 up, or more than any use would be on this machine.
    """
    return whole_number("cores", cores, least=1, most=machine.most_cores())


def as_problem(problem: Problem | str) -> Problem:
    """A problem, or what its descriptor describes."""
    if isinstance(problem, str):
        return Problem.parse(problem)
    if not isinstance(problem, Problem):
        raise RequestError(f"problem={shown(problem)} is none; give a Problem, or a descriptor such as 'ic3ih32oc8kh3'")
    return problem


def _as_weights(weights: ArrayLike, problem: Problem) -> NDArray[Any]:
    """The weights as a C-contiguous 4-D array of the problem's dtype."""
    array = readable(as_array("weights", weights), problem.dtype)
    if array.shape == problem.weights_shape[:1] + problem.weights_shape[2:] and problem.weights_shape[1] == 1:
        array = array.reshape(problem.weights_shape)
    if array.shape != problem.weights_shape:
        raise RequestError(f"weights have shape {array.shape}; {problem.weights_shape} is needed for {problem}")
    return array
