"""The oracle: the convolution in float64, written in the plainest way, and the check of a fast output against it.

It shares no code with the algorithms. Checking a large output against all of it would take longer than measuring, so
`Reference` checks in two ways that together leave no element unseen: thousands of elements one by one, and every
element through a random weighted sum over the output channels (by linearity, that sum is the convolution with the
same sum of the filters; after Freivalds, "Probabilistic machines can use less running time", 1977).

A GPU that may round the inputs of products to TF32 keeps 11 of the 24 bits of float32's significand and sums in
float32 ("NVIDIA A100 Tensor Core GPU Architecture", 2020). Rounding to nearest is off by 2^-11 of an input at most;
cutting off, which tensor cores do to inputs that nobody rounded, by less than 2^-10. So a product is off by less than
2^-9, and so is a sum of products of one sign. Where signs are random, errors add up as the products do, with the square
root of their number, and the largest output is several times the usual one. Emulated on the tests' problems, layers of
networks and the experiment, rounding is off by 2e-4 to 9e-4 of the largest output and cutting off by 6e-4 to 1.2e-3.
Real mistakes are off by far more: a tap that is left out, or filters that are swapped. So is a transform that amplifies
rounding, and most of what is computed in bfloat16, with 8 bits, which is off by 1.3e-3 to 5e-3.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.precision import EXACT, Precision
from convbench.problem import Problem
from convbench.rounding import of_sums

_POINTS: Final = 4096
_STRIP: Final = 2**22  # numbers of the input that are convolved at a time


def convolve(problem: Problem, x: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """The forward convolution, tap by tap.

    Args:
        problem: What to compute; only its geometry matters, so `weights` may have another number of filters.
        x: Shape `problem.input_shape`.
        weights: Shape (filters, channels // groups, kernel rows, kernel columns).

    Returns:
        float64, shape (batch, filters, output rows, output columns).
    """
    groups, filters = problem.groups, weights.shape[0]
    taps = weights.astype(np.float64).reshape(groups, filters // groups, -1, *weights.shape[2:])
    rows, columns = problem.output_height, problem.output_width
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    total = np.zeros((problem.batch, groups, filters // groups, rows, columns))
    strip = max(1, _STRIP // (problem.channels * stride_y * problem.width))
    for image in range(problem.batch):
        for begin in range(0, rows, strip):
            part = total[image, :, :, begin : begin + strip]
            seen = _padded_rows(problem, x[image], begin, part.shape[2])
            for a in range(problem.kernel_height):
                for b in range(problem.kernel_width):
                    top, left = a * dilation_y, b * dilation_x
                    tap = seen[..., top::stride_y, left::stride_x][..., : part.shape[2], :columns]
                    part += np.einsum("gkc,gcij->gkij", taps[..., a, b], tap, optimize=True)
    return total.reshape(problem.batch, filters, rows, columns)


def memory(problem: Problem) -> int:
    """Bytes that `Reference` and its check take beside input, weights and output, about."""
    plane = problem.output_height * problem.output_width
    mixed = problem.batch * problem.groups * plane
    (top, bottom), _ = problem.padding
    row = problem.channels * problem.width
    seen = min(_STRIP + problem.kernel_extent[0] * row, (top + problem.height + bottom) * row)
    return 8 * (mixed + 3 * max(plane, seen))  # first strips are convolved, later a plane is compared


class Reference:
    """The parts of the correct output that `check` looks at.

    Args:
        problem: What is computed.
        x: The input.
        weights: The filters.
        seed: Of the points and of the weighted sum.
    """

    def __init__(self, problem: Problem, x: NDArray[Any], weights: NDArray[Any], seed: int) -> None:
        random = np.random.default_rng(seed)
        self._problem = problem
        self._points = _points(problem, random)
        self._values = _at_points(problem, x, weights, self._points)
        filters = problem.group_filters
        mix = random.uniform(0.5, 1.5, (problem.groups, filters)) * random.choice([-1, 1], filters)
        self._mix = mix.astype(problem.dtype).astype(np.float64)  # numbers that both sides of the comparison can hold
        mixed = np.einsum("gk,gk...->g...", self._mix, weights.reshape(problem.groups, filters, *weights.shape[1:]))
        self._mixed = convolve(problem, x, mixed)

    def check(self, out: NDArray[Any], precision: Precision = EXACT) -> dict[str, Any]:
        """Compare an output, shape `problem.output_shape`, with the reference.

        Args:
            out: The output.
            precision: What products may have been computed in.

        Returns:
            "max_relative_error" of an element, relative to the largest output (None if the output is not finite),
            "tolerance", "passed", and the number of "points" that were compared one by one.
        """
        problem, tiny = self._problem, np.finfo(self._problem.dtype).tiny
        tolerance = max(precision.tolerance[problem.dtype], of_sums(problem).estimate)
        largest = float(functools.reduce(np.maximum, (np.abs(self._values).max(), out.max(), -out.min(), tiny)))
        at_points = float(np.abs(out[self._points] - self._values).max()) / largest
        error = float(np.maximum(at_points, self._mixed_error(out) / largest))  # NaN if either is
        finite = bool(np.isfinite(error))
        return {
            "max_relative_error": error if finite else None,
            "tolerance": tolerance,
            "passed": finite and error <= tolerance,
            "points": self._values.size,
        }

    def _mixed_error(self, out: NDArray[Any]) -> float:
        """Largest error of the weighted sums, scaled to what rounding does to one element."""
        problem = self._problem
        grouped = out.reshape(problem.batch, problem.groups, -1, problem.output_height * problem.output_width)
        error = np.float64(0)
        for group, mix in enumerate(self._mix):
            weights = mix.astype(out.dtype)
            for image in range(problem.batch):
                mixed = weights @ grouped[image, group]
                difference = mixed - self._mixed[image, group].ravel()
                error = np.maximum(error, np.abs(difference).max() / np.linalg.norm(mix))
        return float(error)


def _points(problem: Problem, random: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """Indices (image, channel, row, column) of the corners, and of elements drawn at random."""
    shape = problem.output_shape
    corners = np.stack(np.meshgrid(*([0, size - 1] for size in shape)), -1).reshape(-1, 4)
    drawn = random.integers(0, shape, (_POINTS, 4))
    return tuple(np.concatenate([corners, drawn]).T)


def _at_points(
    problem: Problem, x: NDArray[Any], weights: NDArray[Any], points: tuple[NDArray[np.int64], ...]
) -> NDArray[np.float64]:
    """The output in float64 at some of its elements."""
    taps = weights.astype(np.float64)
    number, filter_number, row, column = points
    channels = taps.shape[1]
    first_channel = filter_number // problem.group_filters * channels
    (top, _), (left, _) = problem.padding
    total = np.zeros(number.size)
    for a in range(problem.kernel_height):
        for b in range(problem.kernel_width):
            y = row * problem.stride[0] + a * problem.dilation[0] - top
            z = column * problem.stride[1] + b * problem.dilation[1] - left
            inside = (y >= 0) & (y < problem.height) & (z >= 0) & (z < problem.width)
            y, z = np.where(inside, y, 0), np.where(inside, z, 0)
            for channel in range(channels):
                seen = x[number, first_channel + channel, y, z].astype(np.float64)
                total += np.where(inside, seen, 0.0) * taps[filter_number, channel, a, b]
    return total


def _padded_rows(problem: Problem, image: NDArray[Any], begin: int, count: int) -> NDArray[np.float64]:
    """The padded input of `count` rows of outputs from `begin` on: shape (groups, channels, rows, columns)."""
    (top, _), (left, right) = problem.padding
    rows = (count - 1) * problem.stride[0] + problem.kernel_extent[0]
    first = begin * problem.stride[0] - top
    seen = np.zeros((problem.channels, rows, left + problem.width + right))
    low, high = max(0, first), min(problem.height, first + rows)
    if low < high:
        seen[:, low - first : high - first, left : left + problem.width] = image[:, low:high]
    return seen.reshape(problem.groups, -1, *seen.shape[1:])
