"""What a convolution does to any image: stride, padding, bias, activation, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.algorithms import ALGORITHMS
from convbench.arguments import pair, sides, whole_number
from convbench.arrays import as_array, on_gpu, on_host
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.plans import Candidate, Plan, allowed_precision, as_epilogue, checked_cores
from convbench.preference import allowed_cores
from convbench.problem import ITEM_SIZE, Problem
from convbench.select import Choice, choose

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from convbench.epilogue import Epilogue
    from convbench.problem import Padding

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """All arguments of a convolution but the image and the weights, checked as far as that is possible without them.

    Attributes:
        bias: A copy of the bias; None for none.
        stride: (vertical, horizontal).
        padding: ((top, bottom), (left, right)), or "same".
        dilation: (vertical, horizontal).
        groups: Number of groups.
        cores: The largest number of cores; None for all that the process may use.
        memory_limit: Bytes; None for no limit.
        algorithm: Name of the form; None where it is chosen.
        activation: Name of the activation; None for none.
        precision: Name of the precision that products may be computed in.
    """

    bias: NDArray[Any] | None
    stride: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]
    groups: int
    cores: int | None
    memory_limit: int | None
    algorithm: str | None
    activation: str | None
    precision: str

    def problem(self, shape: Shape, weights: NDArray[Any], *, wide: bool) -> Problem:
        """The problem of an image of a shape with 2 to 4 axes.

        Args:
            shape: Shape of the image.
            weights: The weights, 3-D or 4-D.
            wide: Whether the image is of floating-point numbers of 64 bits or more.

        Raises:
            RequestError: The image does not fit the weights.
        """
        problem = Problem(
            height=shape[-2],
            width=shape[-1],
            out_channels=weights.shape[0],
            kernel_height=weights.shape[-2],
            kernel_width=weights.shape[-1],
            batch=shape[0] if len(shape) == 4 else 1,
            channels=shape[-3] if len(shape) > 2 else 1,
            dtype="float64" if wide or is_wide(weights) else "float32",
            groups=self.groups,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        if problem.group_channels != (own := weights.shape[1] if weights.ndim == 4 else 1):
            raise RequestError(
                f"x has {problem.channels} channels; w needs {own * self.groups}, or give w of shape "
                f"{problem.weights_shape}"
            )
        return problem

    def epilogue(self, problem: Problem) -> Epilogue:
        """The epilogue of a problem."""
        return as_epilogue(problem, self.bias, self.activation)

    def choose(self, problem: Problem, *, on_gpu: bool, packed: bool, spent: int) -> Choice:
        """The candidates for a problem.

        Args:
            problem: The problem.
            on_gpu: Whether the image is on a GPU.
            packed: Whether the weights are packed once for many calls.
            spent: Bytes of copies of arguments, which count towards the memory limit.
        """
        return choose(
            problem,
            cores=1 if on_gpu else allowed_cores(self.cores),
            memory_limit=self.memory_limit,
            packed=packed,
            backend="gpu" if on_gpu else "numba",
            algorithm=self.algorithm,
            arithmetic=self.precision,
            spent=spent,
        )


def operation(
    bias: ArrayLike | None,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int],
    groups: int,
    cores: int | None,
    memory_limit: int | None,
    *,
    algorithm: str | None,
    activation: str | None,
    arithmetic: str,
    allow_tf32: bool = False,
) -> Operation:
    """Check the arguments of a convolution; the bias is copied.

    Raises:
        RequestError: An argument is invalid whatever the image and the weights are.
    """
    axes = sides(padding)
    return Operation(
        bias=None if bias is None else _copied_array(as_array("bias", on_host("bias", bias))),
        stride=pair("stride", stride),
        padding="same" if axes == ("same", "same") else axes,  # type: ignore[arg-type]  # numbers where it is not "same"
        dilation=pair("dilation", dilation),
        groups=whole_number("groups", groups, least=1),
        cores=None if cores is None else checked_cores(cores),
        memory_limit=None if memory_limit is None else whole_number("memory_limit", memory_limit, least=0),
        algorithm=None if algorithm is None else ALGORITHMS.check(algorithm),
        activation=activation,
        precision=allowed_precision(arithmetic, allow_tf32=allow_tf32),
    )


def first_plan(
    problem: Problem,
    weights: NDArray[Any],
    choice: Choice,
    epilogue: Epilogue,
    borrow: bool,  # noqa: FBT001
    make_room: Callable[[Candidate], object] = lambda _: None,
) -> Plan | None:
    """A plan for the first candidate whose memory can be allocated; None if there is none.

    Args:
        problem: The problem.
        weights: Its weights.
        choice: The candidates.
        epilogue: The epilogue.
        borrow: Whether the plan may keep a reference to the weights.
        make_room: Called before a candidate's memory is allocated.
    """
    for prediction in choice.ranked:
        make_room(prediction.candidate)
        try:
            return Plan(problem, weights, prediction.candidate, epilogue=epilogue, borrow=borrow)
        except MemoryError:
            continue
    return None


def no_memory(problem: Problem) -> UnavailableError:
    """The error where memory suffices for no candidate."""
    return UnavailableError(f"there is no memory to compute {problem} in; use a smaller batch or memory_limit")


def as_image(x: ArrayLike) -> NDArray[Any]:
    """The image as a NumPy array or, where it is on a GPU, as a CuPy array; without a copy where that is possible.

    Raises:
        RequestError: It is no array of real numbers with 2 to 4 axes.
        UnavailableError: It is on a GPU that cannot be used.
    """
    executor = EXECUTORS["gpu" if on_gpu(x) else "serial"]
    if (reason := executor.available()) is not None:
        raise UnavailableError(f"x lies on a GPU, and {reason}")
    return of_dimensions("x", as_array("x", x, executor.module()), (2, 3, 4))


def as_filters(w: ArrayLike) -> NDArray[Any]:
    """The weights as a NumPy array.

    Raises:
        RequestError: They are no array of real numbers with 3 or 4 axes.
    """
    return of_dimensions("w", as_array("w", on_host("w", w)), (3, 4))


def own_copy(w: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy in C order.

    Raises:
        UnavailableError: There is not enough memory.
    """
    try:
        copy = _copied_array(w)
    except MemoryError:
        raise UnavailableError(f"there is no memory for a copy of w, shape {w.shape}") from None
    copy.setflags(write=False)
    return copy


def of_dimensions(name: str, array: NDArray[Any], dimensions: Shape) -> NDArray[Any]:
    """The array if it has an allowed number of axes.

    Raises:
        RequestError: It has not.
    """
    if array.ndim not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise RequestError(f"{name} has {array.ndim} dimensions (shape {array.shape}); {allowed} are allowed")
    return array


def place(array: Any) -> AbstractContextManager[object]:
    """The GPU of an array as a context manager for calls; a null context for arrays on the host."""
    found: AbstractContextManager[object] = array.device if on_gpu(array) else nullcontext()
    return found


def is_wide(array: NDArray[Any]) -> bool:
    """Whether an array has floating-point numbers of 64 bits or more, so that the result is float64."""
    return array.dtype.kind == "f" and array.itemsize >= 8


def copied_bytes(array: NDArray[Any], dtype: str) -> int:
    """Bytes of the copy that a plan makes of an array; 0 if it makes none."""
    as_it_is = array.dtype == dtype and array.flags.c_contiguous and getattr(array.flags, "aligned", True)
    return 0 if as_it_is else array.size * ITEM_SIZE[dtype]


def _copied_array(array: NDArray[Any]) -> NDArray[Any]:
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=True)
