"""`conv2d`: a convolution that is given its weights with every call.

Weights may change between calls, so they are packed at every call, unless they are a read-only array that owns its
memory: plans for those are kept, by the identity of the array.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.arrays import as_array, on_gpu, on_host
from convbench.layer.blocks import convolved, is_lazy
from convbench.layer.operation import (
    as_filters,
    as_image,
    copied_bytes,
    first_plan,
    is_wide,
    no_memory,
    operation,
    place,
)
from convbench.layer.plans import Plans

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from convbench.problem import Padding

MOST_PLANS: Final = 256
"""Plans that are kept for all weights together."""

MOST_BYTES: Final = 2**29
"""Packed weights and scratch that they may hold together, unless those of one array need more."""

SAMPLES: Final = 64
"""Numbers of an array of weights that every call compares with those that were packed."""


HOW: Final = (
    *("stride", "padding", "dilation", "groups", "cores", "memory_limit"),
    *("algorithm", "allow_tf32", "activation", "arithmetic"),
)
"""The arguments beside image, weights and bias."""


@dataclass(eq=False)
class _Given:
    """What is kept for one array of weights.

    Attributes:
        weights: A weak reference to it.
        sample: Its shape, strides, dtype and some of its numbers when it was packed.
        plans: Plans by all further arguments but the image.
    """

    weights: weakref.ref[NDArray[Any]]
    sample: tuple[object, ...]
    plans: dict[Hashable, Plans] = field(default_factory=dict)


_given: Final[dict[int, _Given]] = {}
"""By the array's `id`; an array that is freed takes its entry with it."""


def conv2d(  # over 40 lines: the documentation of its arguments
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    out: NDArray[Any] | None = None,
    cores: int | None = None,
    memory_limit: int | None = None,
    *,
    algorithm: str | None = None,
    allow_tf32: bool = False,
    activation: str | None = None,
    arithmetic: str = "exact",
) -> NDArray[Any]:
    """Convolve images with a bank of filters (cross-correlation: the filters are not flipped).

    It may be called from any thread, from a signal handler, and, except on a GPU, in a forked child.

    **Weights that cannot change are packed once**: where `w` is a NumPy array that owns its memory and is read-only
    (`w.setflags(write=False)`), the plan is kept as long as the array exists and the plan is among the 256 that were
    used last, which hold at most 512 MiB together. Other weights are packed at every call; `Conv2d` holds its own.
    A change of read-only weights (through a view made before, or by making them writable and read-only again between
    two calls) is noticed if `w` is writable at a call, or if one of 64 numbers spread over `w` differs; other changes
    are not, and must not be made.

    `winograd` and `fft` compute each tile of outputs from all inputs of the tile. A NaN or infinity in `x` therefore
    turns a whole tile of outputs into NaN, not only the outputs whose taps read it; one in `w` does so for all outputs
    of its filter. Likewise, a number that is far larger than the others spreads its rounding errors over these outputs,
    and it overflows earlier. Where that matters, choose a form that sums over taps, for instance `algorithm="direct"`.

    Args:
        x: Shape (height, width), (channels, height, width) or (batch, channels, height, width), of any layout, byte
            order and alignment, writable or not. A CuPy array, or any other object on a GPU that supports the CUDA
            array interface or DLPack, is convolved on that GPU without a copy. A Dask array gives a Dask array, of
            which nothing is computed yet: see `convbench.layer.blocks`.
        w: Shape (filters, rows, columns) for one channel per group, or (filters, channels // groups, rows, columns).
            Weights are packed on the host, after a copy from the GPU if necessary.
        bias: Shape (filters,), added to each output channel while outputs are in registers.
        stride: Stride of the kernel: n or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" or "same".
        dilation: Distance between kernel taps: n or (vertical, horizontal).
        groups: Number of groups of channels and filters.
        out: Output array; default: a new array, whose allocation takes longer than the convolution if it is large.
            Nothing is written to it if an argument is invalid.
        cores: The largest number of cores to compute on; never more than the process may use at the time of the call.
            Default: all of those, at most the threads of Numba's pool.
        memory_limit: Bytes that the call may use in addition to input, weights and output: a form's scratch and packed
            weights, kept or not, and a copy of `x` where one is needed. The limit is checked before anything is
            allocated.
        algorithm: One of `convbench.algorithms.ALGORITHMS`; default: the one that `convbench.select` chooses.
        allow_tf32: Equivalent to `arithmetic="tf32"`: a GPU may round the factors of float32 products to TF32.
        activation: "relu" makes negative outputs zero, in the same pass as the bias; None for no activation.
        arithmetic: Precision that products may be computed in, one of `convbench.precision.PRECISIONS`; exact where the
            form does not support it.

    Returns:
        Shape (filters, rows, columns), or (batch, filters, rows, columns) if `x` is 4-D: float64 if `x` or `w` is
        float64 or wider, otherwise float32; on the GPU of `x` if it is on one.

    Raises:
        RequestError: An argument is invalid, or no algorithm fits `memory_limit`.
        UnavailableError: `x` is on a GPU that cannot be used, no algorithm supports the problem there, or memory is
            insufficient.
    """
    how = (stride, padding, dilation, groups, cores, memory_limit, algorithm, allow_tf32, activation, arithmetic)
    if type(x) is not np.ndarray and is_lazy(x):
        return _lazily(x, w, bias, how, out)
    if type(w) is np.ndarray:
        flags = w.flags
        if flags.owndata and not flags.writeable:
            plans = _plans(w, bias, how)
            if plans is not None:
                return plans.call(x, out, w)
        elif _given:
            _given.pop(id(w), None)  # its weights may change from now on
    return _packed_for_once(x, w, bias, how, out)


def _lazily(
    x: Any, w: ArrayLike, bias: ArrayLike | None, how: tuple[Any, ...], out: NDArray[Any] | None
) -> NDArray[Any]:
    """The convolution of a Dask array, as a Dask array."""
    arguments = {**dict(zip(HOW, how, strict=True)), "bias": bias}
    found: NDArray[Any] = convolved(x, w, _operation(bias, how), conv2d, arguments, out)
    return found


def _packed_for_once(
    x: ArrayLike, w: ArrayLike, bias: ArrayLike | None, how: tuple[Any, ...], out: NDArray[Any] | None
) -> NDArray[Any]:
    image, weights, what = as_image(x), as_filters(w), _operation(bias, how)
    problem = what.problem(image.shape, weights, wide=is_wide(image))
    epilogue = what.epilogue(problem)
    spent = copied_bytes(image, problem.dtype) + copied_bytes(weights, problem.dtype)
    is_covered = isinstance(out, np.ndarray) and np.may_share_memory(out, weights)
    with place(image):
        spent += weights.nbytes if is_covered else 0
        choice = what.choose(problem, on_gpu=on_gpu(image), packed=False, spent=spent)
        if is_covered:
            weights = weights.copy()  # a form may read unpacked weights while it writes
        plan = first_plan(problem, weights, choice, epilogue, borrow=True)
        if plan is None:
            raise no_memory(problem)
        with plan:
            return plan(image, out)


def _operation(bias: ArrayLike | None, how: tuple[Any, ...]) -> Any:
    *positional, algorithm, allow_tf32, activation, arithmetic = how
    return operation(
        *(bias, *positional),
        algorithm=algorithm,
        activation=activation,
        arithmetic=arithmetic,
        allow_tf32=allow_tf32,
    )


def _plans(w: NDArray[Any], bias: ArrayLike | None, how: tuple[Any, ...]) -> Plans | None:
    """The plans for weights that cannot change; None where the other arguments are of types that may."""
    key = _key(bias, how)
    if key is None:
        return None
    given = _given.get(id(w))
    if given is not None and given.weights() is w and given.sample == _sample(w):
        plans = given.plans.get(key)
        if plans is not None:
            return plans
    else:
        given = None
    return _new_plans(w, key, bias, how, given)


def _new_plans(
    w: NDArray[Any], key: Hashable, bias: ArrayLike | None, how: tuple[Any, ...], given: _Given | None
) -> Plans:
    as_filters(w)
    plans = Plans(_operation(bias, how), MOST_PLANS, borrow=False, has_made=_drop_oldest)
    _drop_oldest()
    if given is None:
        # Compiled code drops the entry, so that no signal handler can run, and raise, in the middle of a deallocation.
        given = _given[id(w)] = _Given(weakref.ref(w, partial(_given.pop, id(w))), _sample(w))
    return given.plans.setdefault(key, plans)


def _drop_oldest() -> None:
    """Drop plans of the operations that were used the longest ago until the others are few and small enough.

    A dictionary is copied at once. A `list` of its items makes a tuple for each, where the garbage collector may run,
    free an array of weights, and so change the dictionary.
    """
    found = [
        (plans.used, len(plans) or 1, plans.bytes, number, key, plans.is_captured)
        for number, given in _given.copy().items()
        for key, plans in given.plans.copy().items()
    ]
    found.sort(key=lambda one: one[0], reverse=True)
    count = size = 0
    for _, more, more_bytes, number, key, stays in found:
        count, size = count + more, size + more_bytes
        given = _given.get(number)
        if given is not None and not stays and count > more and (count > MOST_PLANS or size > MOST_BYTES):
            given.plans.pop(key, None)
            if not given.plans:
                _given.pop(number, None)


def _sample(w: NDArray[Any]) -> tuple[object, ...]:
    """What can be set even of a read-only array, and some of its numbers, spread over all of it; all where few."""
    return w.shape, w.strides, w.dtype, w.ravel("K")[:: max(1, w.size // SAMPLES)].tobytes()


_PLAIN: Final = frozenset({int, str, bool, float, type(None)})


def _key(bias: ArrayLike | None, how: tuple[Any, ...]) -> Hashable | None:
    """A key of the arguments by value, which tells 1 from True and 1.0; None where there is none."""
    kinds = tuple(map(type, how))
    try:
        key = (how, kinds) if _PLAIN.issuperset(kinds) else _exact(how)
    except (TypeError, RecursionError):
        return None
    if bias is None:
        return key
    array = as_array("bias", on_host("bias", bias))
    return (key, array.dtype.str, array.shape, array.tobytes())


def _exact(value: Any) -> Hashable:
    """A number or text with its type, or a tuple of these for a tuple or a list."""
    kind = type(value)
    if kind in _PLAIN or issubclass(kind, np.integer):
        return (kind, value)
    if kind is tuple or kind is list:
        return tuple(map(_exact, value))
    raise TypeError(kind)
