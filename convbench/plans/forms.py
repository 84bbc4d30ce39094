"""A candidate bound to a problem and its weights.

A sweep times the same `Plan` that `conv2d` runs, so that measured times apply to callers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convbench.arrays import as_array
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS, Executor
from convbench.executors.host import readable
from convbench.plans.candidate import Candidate
from convbench.plans.work import needed_bytes, prepared
from convbench.precision import PRECISIONS
from convbench.problem import Problem

if TYPE_CHECKING:
    from convbench.executors import QueueingRunner, Runner


class Closing:
    """A base class for objects that are closed after use; a `with` statement does so."""

    def close(self) -> None:
        """Release all resources."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Plan(Closing):
    """A candidate that is ready to compute one problem with one set of weights any number of times.

    Use it as a context manager, or call `close` after use; a later call raises `RequestError`.

    It may be called from any number of threads. On `serial`, and on `threads` with one core or work of a
    few microseconds, their calls run concurrently, each with its own scratch; otherwise those of `threads` and
    `processes` are serialised, since each uses all cores of the plan. On the host, it may also be
    called in a forked child. An interrupt or another exception during a call affects that call only. Results of
    `processes` are in shared memory: a child that is forked later shares them with its parent, writes included. A plan
    cannot be copied or sent to another process; make one there.

    Attributes:
        problem: The problem.
        candidate: The candidate.
        setup: Seconds of set-up, by step ("compile", "pack", "start").
        scratch_bytes: Memory that a call needs in addition to input, weights and output.
        packed_bytes: Memory of the plan's own copy of the weights, packed or not; 0 if it reads those it was given.
        held_bytes: Memory that it holds between calls. On a GPU, scratch is a call's own and goes back to CuPy's pool.
        error_bound: Upper bound of the rounding error of every output, divided by (max |x| times the largest sum of
            |weights| of one filter, plus the largest |bias|), for every finite input for which no intermediate result
            overflows or underflows; None if unknown.
        error_estimate: Estimate of the largest error, divided by the largest output, for independent random inputs of
            mean zero and weights of similar magnitude; see `convbench.rounding.Errors` for both. None if unknown.
        precision: Precision of products.
        stages: Names of the stages that it measures; empty if none.
        variant: Choices of the form for the problem (tile, blocks, ...).
    """

    def __init__(
        self,
        problem: Problem,
        weights: ArrayLike,
        candidate: Candidate,
        *,
        epilogue: Epilogue = NO_EPILOGUE,
        borrow: bool = False,
    ) -> None:
        """Pack the weights and open a runner; `borrow` permits to keep a reference to weights that will not change."""
        if (reason := candidate.unsupported_reason(problem)) is not None:
            raise UnavailableError(f"{candidate} cannot compute {problem}: {reason}")
        self._executor: Executor = EXECUTORS[candidate.executor]
        self.problem = problem
        self.candidate = candidate
        begin = time.perf_counter()
        given = as_weights(weights, problem)
        work = prepared(candidate.implementation(problem), problem, given, epilogue)
        if not borrow and np.may_share_memory(work.weights, given):
            work = replace(work, weights=work.weights.copy())
        packed = time.perf_counter()
        on_gpu = self._executor.memory == "gpu"  # which has a copy of its own
        is_borrowed = not on_gpu and np.may_share_memory(work.weights, given)
        self.packed_bytes = 0 if is_borrowed else int(work.weights.nbytes)
        self._runner: Runner = self._executor.open(work, candidate.cores)
        self.setup = {"pack": packed - begin, **self._runner.setup}
        self.scratch_bytes = needed_bytes(work, candidate.cores)
        self.held_bytes = self.packed_bytes + (0 if on_gpu else self.scratch_bytes)
        self.error_bound = work.errors.bound if work.errors else None
        self.error_estimate = work.errors.estimate if work.errors else None
        self.precision = PRECISIONS[candidate.precision_for(problem)]
        self.stages = work.stages
        self.variant = dict(work.variant)
        self._arrays = self._executor.module()
        self._dtype = np.dtype(problem.dtype)
        self._input_shape, self._output_shape = problem.input_shape, problem.output_shape  # each takes a microsecond

    @property
    def pids(self) -> tuple[int, ...]:
        """Process IDs of the workers; empty where the calling process computes."""
        return tuple(self._runner.pids)

    def empty_input(self) -> NDArray[Any]:
        """Allocate an array of `problem.input_shape`, of undefined content, where the executor reads fastest."""
        return self._empty(self._input_shape)

    def empty_output(self) -> NDArray[Any]:
        """Allocate an array of `problem.output_shape`, of undefined content, where the executor writes fastest."""
        return self._empty(self._output_shape)

    def __reduce__(self) -> NoReturn:
        raise RequestError("a plan cannot be copied or pickled; make one with convbench.plan where it is needed")

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Convolve `x`.

        Args:
            x: Shape `problem.input_shape`; leading axes of length 1 may be omitted. Anything that converts to an array
                is accepted, and copied unless it is C-contiguous, aligned and of the problem's dtype.
            out: Output array of `problem.output_shape` or, for one image, without the batch axis; C-contiguous, of the
                problem's dtype, not overlapping `x`. Default: a new array, whose allocation takes longer than the
                convolution if it is large.

        Returns:
            `out`, or the new array: 4-D if `x` is, otherwise without the batch axis.

        Raises:
            RequestError: A shape or dtype is not as above, or the plan is closed.
            UnavailableError: Memory for the result, for a copy of `x`, or for the scratch of one more concurrent call
                is insufficient, or a worker process has died; the next call starts another.
        """
        given, needed = as_array("x", x, self._arrays), self._input_shape
        if given.shape != needed and (1,) * (4 - given.ndim) + given.shape != needed:
            raise RequestError(f"x has shape {given.shape}; {needed} is needed for {self.problem}")
        return self.of_array(given, out)

    def of_array(self, given: NDArray[Any], out: NDArray[Any] | None) -> NDArray[Any]:
        """As a call, where `given` is for certain an array of the executor's module, of real numbers and a right shape.

        What keeps plans by shape and dtype knows that; to look again takes half a microsecond.
        """
        runner, image = self._runner, self._input(given)
        result = self.empty_output() if out is None else self._checked(out, image)
        try:
            runner(image, result)
        except MemoryError:
            raise UnavailableError(
                "there is no memory for one more call of the plan at a time; let calls wait for one another"
            ) from None
        if out is not None:
            return out
        return result if given.ndim == 4 else result[0]

    def _input(self, given: NDArray[Any]) -> NDArray[Any]:
        """`x` as the 4-D array that the runner reads."""
        try:
            image = self._executor.input(given, self._dtype)
        except MemoryError:
            raise UnavailableError(f"there is no memory for a copy of x, shape {given.shape}, as it is read") from None
        return image if image.ndim == 4 else image.reshape(self._input_shape)

    def timed(self, x: NDArray[Any], out: NDArray[Any]) -> Callable[[], object]:
        """What a sweep times: a call."""
        return partial(self, x, out)

    def result(self, out: NDArray[Any]) -> NDArray[Any]:
        """The output of the last call, from the `out` that it was given, as a NumPy array."""
        return self._executor.download(out)

    @property
    def is_captured(self) -> bool:
        """Whether a graph on a GPU has captured a call, and needs the plan whenever it is launched."""
        return self._executor.memory == "gpu" and cast("QueueingRunner", self._runner).is_captured

    def threads(self) -> int | None:
        """Number of threads that computed the last call, as reported by the runner."""
        return self._runner.threads()

    def stage_ticks(self) -> NDArray[np.float64]:
        """Ticks spent in each stage so far, mean over workers; empty on a GPU."""
        if self._runner.clock is None:
            return np.zeros(0)
        return np.asarray(self._runner.clock[:, : len(self.stages)].mean(axis=0))

    def stage_shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """The share of each stage in a call's time on a GPU, from a separate call."""
        return cast("QueueingRunner", self._runner).shares(x, out)

    def close(self) -> None:
        """Release scratch memory and workers. Idempotent."""
        runner, self._runner = self._runner, CLOSED
        runner.close()

    def _empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return self._executor.empty(shape, self.problem.dtype)
        except (MemoryError, OSError):
            raise UnavailableError(f"there is no memory for an array of shape {shape}; use a smaller batch") from None

    def _checked(self, out: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
        """`out` as the 4-D array that the runner fills."""
        shape, is_array = self._output_shape, isinstance(out, self._arrays.ndarray)
        fits = is_array and (out.shape == shape or (shape[0] == 1 and out.shape == shape[1:]))
        if not fits or out.dtype != self._dtype:
            what = f"{out.dtype} {out.shape}" if is_array else type(out).__name__
            raise RequestError(f"out is {what}; a {self._dtype} array of shape {shape} is needed")
        if not (out.flags.carray if self._arrays is np else out.flags.c_contiguous):
            raise RequestError("out is read-only, unaligned or not C-contiguous; give a plain array or leave it out")
        if _overlap(out, image):
            raise RequestError("out overlaps x; give it memory of its own")
        return out if out.ndim == 4 else out.reshape(shape)


class _Closed:
    """Replaces the runner of a closed plan; raises `RequestError` on use."""

    def close(self) -> None:
        """Nothing to release."""

    def __call__(self, *_: object) -> None:
        """Raise."""
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RequestError("the plan is closed; make a new one with convbench.plan")


CLOSED: Final = cast("Runner", _Closed())


def _overlap(one: Any, other: Any) -> bool:
    """Whether the memory of two contiguous arrays, both on the host or both on one GPU, overlaps."""
    if isinstance(one, np.ndarray):
        return bool(np.may_share_memory(one, other))  # which compares bounds, all that counts for contiguous arrays

    def begin(array: Any) -> int:
        return int(array.__cuda_array_interface__["data"][0])

    first, second = begin(one), begin(other)
    return bool(first < second + other.nbytes and second < first + one.nbytes)


def as_weights(weights: ArrayLike, problem: Problem) -> NDArray[Any]:
    """The weights as a C-contiguous 4-D array of the problem's dtype."""
    array = readable(as_array("weights", weights), problem.dtype)
    if array.shape == problem.weights_shape[:1] + problem.weights_shape[2:] and problem.weights_shape[1] == 1:
        array = array.reshape(problem.weights_shape)
    if array.shape != problem.weights_shape:
        raise RequestError(f"weights have shape {array.shape}; {problem.weights_shape} is needed for {problem}")
    return array
