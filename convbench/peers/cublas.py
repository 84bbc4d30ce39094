"""cuBLAS: the product of the weights with the input unrolled, which is the bound of every form that unrolls.

It is no convolution: the unrolled matrix is made once, outside of the timing, and only the product with it is timed.
One product a group takes the columns of all images at once. What comes out is the convolution; with several images it
has the kernels outside of the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.peers import missing
from convbench.precision import EXACT, TF32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem

TF32_MATH: Final = 3  # cuBLAS's CUBLAS_TF32_TENSOR_OP_MATH, for which CuPy has no name


class CuBlas:
    """`cupy.matmul`, which calls cuBLAS."""

    executor = "gpu"
    bound = True

    def available(self) -> str | None:
        """Whether CuPy is there."""
        return missing("cupy", extra="gpu")

    def supports(self, problem: Problem) -> str | None:
        """Forward, where the unrolled matrix fits into the device's memory."""
        if problem.direction != "forward":
            return f"has no {problem.direction} form here"
        import cupy

        free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        needed = _bytes(problem)
        if needed <= free:
            return None
        return f"its unrolled matrix needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free on the device"

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Send the weights."""
        return _Product(problem, weights, tf32=precision is TF32)


class _Product:
    def __init__(self, problem: Problem, weights: NDArray[Any], *, tf32: bool) -> None:
        import cupy

        self._cupy = cupy
        self._problem = problem
        groups = problem.groups
        self._weights = cupy.asarray(weights.reshape(groups, problem.out_channels // groups, problem.taps))
        self._allow(tf32=tf32)

    def _allow(self, *, tf32: bool) -> None:
        """Say whether float32 may be rounded: CuPy tells cuBLAS by a call's type or by a mode, as the case may be."""
        cublas, linalg = self._cupy.cuda.cublas, self._cupy._core._routines_linalg  # noqa: SLF001  # no other way
        kind = linalg.COMPUTE_TYPE_TF32 if tf32 else linalg.COMPUTE_TYPE_DEFAULT
        linalg.set_compute_type("float32", kind)  # of one product, whatever CUPY_TF32 says
        mode = TF32_MATH if tf32 else cublas.CUBLAS_DEFAULT_MATH
        cublas.setMathMode(self._cupy.cuda.Device().cublas_handle, mode)  # of several at once

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Unroll the input."""
        problem, cupy = self._problem, self._cupy
        matrix = _unrolled(problem, x, cupy)
        several = problem.batch > 1
        y = cupy.empty(_output_shape(problem), problem.dtype) if several else out.reshape(_output_shape(problem))
        one = problem.groups == 1  # then a plain product
        self._operands = (self._weights[0], matrix[0]) if one else (self._weights, matrix)
        self._y = y
        self._into = y[0] if one else y

    def __call__(self) -> None:
        self._cupy.matmul(*self._operands, out=self._into)

    def result(self) -> NDArray[Any]:
        """The product on the host, in our layout."""
        problem = self._problem
        y: NDArray[Any] = self._cupy.asnumpy(self._y)
        images = y.reshape(problem.out_channels, problem.batch, problem.output_height, problem.output_width)
        return np.ascontiguousarray(images.swapaxes(0, 1))

    def threads(self) -> int:
        """One, of the host."""
        return 1

    def close(self) -> None:
        """Give back the matrix, to the device too, and have float32 exact again."""
        self._operands = self._y = self._into = self._weights = None  # type: ignore[assignment]
        self._allow(tf32=False)
        self._cupy.get_default_memory_pool().free_all_blocks()


def _unrolled(problem: Problem, x: NDArray[Any], cupy: Any) -> NDArray[Any]:
    """The input as the matrix of each group: (groups, taps, images * output pixels)."""
    padded = cupy.pad(x, ((0, 0), (0, 0), *problem.padding))
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    image, channel, row, column = padded.strides
    channels = problem.group_channels
    windows = cupy.lib.stride_tricks.as_strided(
        padded,
        (
            *(problem.groups, channels, problem.kernel_height, problem.kernel_width),
            *(problem.batch, problem.output_height, problem.output_width),
        ),
        (
            *(channels * channel, channel, dilation_y * row, dilation_x * column),
            *(image, stride_y * row, stride_x * column),
        ),
    )
    return cupy.ascontiguousarray(windows).reshape(problem.groups, problem.taps, -1)  # type: ignore[no-any-return]


def _output_shape(problem: Problem) -> tuple[int, int, int]:
    """Of the product."""
    pixels = problem.batch * problem.output_height * problem.output_width
    return problem.groups, problem.group_filters, pixels


def _bytes(problem: Problem) -> int:
    """Of the unrolled matrix, and of an output beside ours where there are several images."""
    groups, kernels, pixels = _output_shape(problem)
    rows = problem.taps + (kernels if problem.batch > 1 else 0)
    return groups * rows * pixels * np.dtype(problem.dtype).itemsize


PEER = CuBlas()
