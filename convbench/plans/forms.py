"""A candidate bound to a problem and its weights.

What a sweep times is the very `Plan` that `conv2d` runs, so a measured number is a number that a caller gets.
"""

from __future__ import annotations

import time
from dataclasses import replace
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
            one filter, plus the largest |bias|, for every finite input with which nothing on the way overflows or
            underflows; None if unknown.
        error_estimate: About what the largest error is, over the largest output, for independent random inputs of mean
            zero and weights of like size; see `convbench.rounding.Errors` for both. None if unknown.
        precision: What products are computed in.
        stages: Names of the stages that it tells apart; empty if none.
        variant: What the form chose for the problem (tile, blocks, ...).
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
        """Pack the weights and get ready; to `borrow` them is for who does not change them while the plan is used."""
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
        self._runner: Runner = self._executor.open(work, candidate.cores)
        self.setup = {"pack": packed - begin, **self._runner.setup}
        self.scratch_bytes = needed_bytes(work, candidate.cores)
        self.error_bound = work.errors.bound if work.errors else None
        self.error_estimate = work.errors.estimate if work.errors else None
        self.precision = PRECISIONS[candidate.precision_for(problem)]
        self.stages = work.stages
        self.variant = dict(work.variant)

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
            UnavailableError: There is no memory for the result, for a copy of `x`, or for the scratch of one more call
                at a time; or a worker process is gone, and the next call starts another.
        """
        runner, given = self._runner, as_array("x", x, self._executor.module())
        image = self._input(given)
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


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two contiguous arrays of one device lie in the same memory, whoever told CuPy of it."""

    def begin(array: Any) -> int:
        interface = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
        return int(interface["data"][0])

    first, second = begin(one), begin(other)
    return first < second + other.nbytes and second < first + one.nbytes


def as_weights(weights: ArrayLike, problem: Problem) -> NDArray[Any]:
    """The weights as a C-contiguous 4-D array of the problem's dtype."""
    array = readable(as_array("weights", weights), problem.dtype)
    if array.shape == problem.weights_shape[:1] + problem.weights_shape[2:] and problem.weights_shape[1] == 1:
        array = array.reshape(problem.weights_shape)
    if array.shape != problem.weights_shape:
        raise RequestError(f"weights have shape {array.shape}; {problem.weights_shape} is needed for {problem}")
    return array
