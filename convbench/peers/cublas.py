"""cuBLAS: the product of weights and unrolled input, a lower bound of the time of every form that unrolls.

Only part of a convolution is timed: the input is unrolled once, outside of the timing, and only the product is timed.
One product for each group covers the columns of all images. The result is that of the convolution; with several images,
its first axis is the filters and its second the images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.cuda.precision import GPU_PRECISIONS
from convbench.peers import missing
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class CuBlas:
    """`cupy.matmul`, which calls cuBLAS."""

    executor = "gpu"
    bound = True

    def available(self) -> str | None:
        """Needs CuPy."""
        return missing("cupy", extra="gpu")

    def supports(self, problem: Problem) -> str | None:
        """Supports the forward direction, where the unrolled matrix fits the GPU's memory."""
        if problem.direction != "forward":
            return f"has no {problem.direction} form here"
        import cupy

        free = cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()
        needed = _bytes(problem)
        if needed <= free:
            return None
        return f"its unrolled matrix needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free on the GPU"

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Copy the weights to the GPU."""
        return _Product(problem, weights, precision)


class _Product:
    def __init__(self, problem: Problem, weights: NDArray[Any], precision: Precision) -> None:
        import cupy

        self._cupy = cupy
        self._problem = problem
        groups = problem.groups
        self._weights = cupy.asarray(weights.reshape(groups, problem.group_filters, problem.taps))
        self._compute_in(precision)

    def _compute_in(self, precision: Precision) -> None:
        """Set the precision of float32 for both of CuPy's cuBLAS calls: single and batched products."""
        cublas, linalg = self._cupy.cuda.cublas, self._cupy._core._routines_linalg  # noqa: SLF001  # no other way
        wanted = GPU_PRECISIONS[precision.name]
        linalg.set_compute_type("float32", getattr(linalg, wanted.cublas_compute_type))  # overrides CUPY_TF32
        cublas.setMathMode(self._cupy.cuda.Device().cublas_handle, wanted.cublas_math_mode)

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Unroll the input."""
        problem, cupy = self._problem, self._cupy
        matrix = _unrolled(problem, x, cupy)
        several = problem.batch > 1
        y = cupy.empty(_output_shape(problem), problem.dtype) if several else out.reshape(_output_shape(problem))
        one = problem.groups == 1  # a single product, not a batched one
        self._operands = (self._weights[0], matrix[0]) if one else (self._weights, matrix)
        self._y = y
        self._into = y[0] if one else y

    def __call__(self) -> None:
        self._cupy.matmul(*self._operands, out=self._into)

    def result(self) -> NDArray[Any]:
        """The product on the host, in NCHW layout."""
        problem = self._problem
        y: NDArray[Any] = self._cupy.asnumpy(self._y)
        images = y.reshape(problem.out_channels, problem.batch, problem.output_height, problem.output_width)
        return np.ascontiguousarray(images.swapaxes(0, 1))

    def threads(self) -> int:
        """One: the host's calling thread."""
        return 1

    def close(self) -> None:
        """Release the matrix and the memory of CuPy's pool, and restore exact float32."""
        self._operands = self._y = self._into = self._weights = None  # type: ignore[assignment]
        self._compute_in(EXACT)
        self._cupy.get_default_memory_pool().free_all_blocks()


def _unrolled(problem: Problem, x: NDArray[Any], cupy: Any) -> NDArray[Any]:
    """The unrolled input, shape (groups, taps, images * output pixels)."""
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
    """Shape of the product: (groups, filters of a group, output pixels of all images)."""
    pixels = problem.batch * problem.output_height * problem.output_width
    return problem.groups, problem.group_filters, pixels


def _bytes(problem: Problem) -> int:
    """Bytes of the unrolled matrix, and of a separate output where there are several images."""
    groups, filters, pixels = _output_shape(problem)
    rows = problem.taps + (filters if problem.batch > 1 else 0)
    return groups * rows * pixels * np.dtype(problem.dtype).itemsize


PEER = CuBlas()
