"""`Conv2d`: a convolution that holds its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import numpy as np

from convbench.arguments import entries_of, whole_number
from convbench.arrays import on_gpu
from convbench.errors import RequestError
from convbench.layer.operation import as_filters, as_image, is_wide, operation, own_copy, place
from convbench.layer.plans import Plans
from convbench.plans.forms import Closing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from convbench.problem import Padding
    from convbench.select import Choice

PLANS: Final = 16


class Conv2d(Closing):
    """A convolution that holds its weights: `y = layer(x)` for images of any size and batches of any number.

    For each shape and dtype of an image, it chooses the candidate that is fastest on this machine, packs the weights
    once, and keeps the plan. It may be called from any number of threads, from a signal handler and, except on a GPU,
    in a forked child; an interrupt or another exception costs the call that it hits, and no other. It can be copied and
    pickled, as its weights and arguments: the copy makes plans of its own.

    `winograd` and `fft` spread a NaN or an infinity in `x` over a whole tile of outputs, see `conv2d`; where that
    matters, choose a form that sums over taps, for instance `algorithm="direct"`.

    Args:
        w: Shape (filters, rows, columns) for one channel per group, or (filters, channels // groups, rows, columns).
            Copied.
        bias: Shape (filters,), added to each output channel while outputs are in registers. Copied.
        stride: Stride of the kernel: n or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" or "same".
        dilation: Distance between kernel taps: n or (vertical, horizontal).
        groups: Number of groups of channels and filters.
        cores: The largest number of cores to compute on; never more than the process may use at the time of the call.
            Default: all of those.
        memory_limit: Bytes that a call may use in addition to image, `w`, bias and output (packed weights, scratch, a
            copy of `x` where one is needed), and that plans of other shapes may hold together with it.
        algorithm: One of `convbench.algorithms.ALGORITHMS`; default: chosen for each shape.
        activation: "relu" makes negative outputs zero, in the same pass as the bias; None for no activation.
        arithmetic: Precision that products may be computed in, one of `convbench.precision.PRECISIONS`; exact where the
            form does not support it.
        plans: The largest number of plans that are kept; the one that was used the longest ago goes first. Plans also
            go where they hold more than 256 MiB together.

    Raises:
        RequestError: An argument is invalid.
        UnavailableError: Memory is insufficient, or `w` is on a GPU that cannot be used.
    """

    def __init__(
        self,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        cores: int | None = None,
        memory_limit: int | None = None,
        *,
        algorithm: str | None = None,
        activation: str | None = None,
        arithmetic: str = "exact",
        plans: int = PLANS,
    ) -> None:
        weights = own_copy(as_filters(w))
        what = operation(
            *(bias, stride, padding, dilation, groups, cores, memory_limit),
            algorithm=algorithm,
            activation=activation,
            arithmetic=arithmetic,
        )
        most = whole_number("plans", plans, least=1)
        channels = what.groups * (weights.shape[1] if weights.ndim == 4 else 1)
        extent = [(taps - 1) * step + 1 for taps, step in zip(weights.shape[-2:], what.dilation, strict=True)]
        what.epilogue(what.problem((channels, *extent), weights, wide=False))  # checks what is wrong for any image
        self._weights, self._operation, self._channels, self._most = weights, what, channels, most
        self._plans = Plans(what, most, borrow=True)

    @property
    def weights(self) -> NDArray[Any]:
        """The weights, read-only."""
        return self._weights

    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Convolve an image or a batch of images.

        Args:
            x: Shape (height, width), (channels, height, width) or (batch, channels, height, width), of any layout, byte
                order and alignment, writable or not. A CuPy array, or any other object on a GPU that supports the CUDA
                array interface or DLPack, is convolved on that GPU without a copy.
            out: Output array, C-contiguous, not overlapping `x`; default: a new array, whose allocation takes longer
                than the convolution if it is large. Nothing is written to it if an argument is invalid.

        Returns:
            `out` or the new array, of shape (filters, rows, columns), or (batch, filters, rows, columns) if `x` is 4-D:
            float64 if `x` or the weights are float64 or wider, otherwise float32; on the GPU of `x` if it is on one.

        Raises:
            RequestError: A shape or dtype is invalid, nothing fits `memory_limit`, or the layer is closed.
            UnavailableError: `x` is on a GPU that cannot be used, no algorithm supports the problem there, or memory is
                insufficient.
        """
        return self._plans.call(x, out, self._weights)

    def choice(self, x: ArrayLike) -> Choice:
        """What computes an image, and why.

        Args:
            x: An image, or the shape of one on the host, whose dtype is then that of the result.

        Raises:
            RequestError: It is neither, or nothing fits `memory_limit`.
            UnavailableError: No algorithm supports the problem.
        """
        shape = _as_shape(x)
        if shape is not None:
            dtype = np.dtype("float64" if is_wide(self._weights) else "float32")
            return self._plans.choice(shape, dtype, self._weights, on_gpu=False)
        image = as_image(x)
        with place(image):
            return self._plans.choice(image.shape, image.dtype, self._weights, on_gpu=on_gpu(image))

    def explain(self, x: ArrayLike) -> str:
        """What computes an image, and why, in words; `x` is an image or a shape, see `choice`."""
        return self.choice(x).explain()

    def close(self) -> None:
        """Drop all plans; calls under way are completed, later ones raise `RequestError`. Idempotent."""
        plans, self._plans = self._plans, CLOSED
        plans.clear()

    def __getstate__(self) -> dict[str, Any]:
        what = self._operation
        taken = {name: getattr(what, name) for name in _USUAL if hasattr(what, name)}
        return {"w": self._weights, "bias": what.bias, **taken, "arithmetic": what.precision, "plans": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Conv2d.__init__(self, **state)

    def __repr__(self) -> str:
        filters, rows, columns = self._weights.shape[0], *self._weights.shape[-2:]
        given = self.__getstate__()
        words = [f"{name}={given[name]!r}" for name, usual in _USUAL.items() if given[name] != usual]
        words += ["with a bias"] if self._operation.bias is not None else []
        return f"<Conv2d: {', '.join([f'{filters} filters of {self._channels} x {rows} x {columns}', *words])}>"


_USUAL: Final[dict[str, Any]] = {
    "stride": (1, 1),
    "padding": ((0, 0), (0, 0)),
    "dilation": (1, 1),
    "groups": 1,
    "cores": None,
    "memory_limit": None,
    "algorithm": None,
    "activation": None,
    "arithmetic": "exact",
    "plans": PLANS,
}
"""Arguments that a layer has where nothing is said."""


class _Closed:
    """Replaces the plans of a closed layer."""

    def clear(self) -> None:
        """Nothing to drop."""

    def call(self, *_: object) -> NoReturn:
        """Raise."""
        raise RequestError("the layer is closed; make a new one with convbench.Conv2d")

    def choice(self, *_: object, **__: object) -> NoReturn:
        """Raise."""
        self.call()


CLOSED: Final = cast("Plans", _Closed())


def _as_shape(x: Any) -> tuple[int, ...] | None:
    """The shape that `x` is, as a tuple; None where it is an array."""
    entries = None if hasattr(x, "shape") else entries_of(x)
    if not entries or not all(hasattr(entry, "__index__") for entry in entries):
        return None
    shape = tuple(whole_number("x.shape", entry, least=1) for entry in entries)
    if len(shape) not in (2, 3, 4):
        raise RequestError(
            f"x.shape={shape} has {len(shape)} numbers; give 2, 3 or 4, such as (channels, height, width)"
        )
    return shape
