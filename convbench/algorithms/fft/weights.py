"""The transform of weights for `fft`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.fft.cut import Cut
from convbench.kernels.blocking import pieces
from convbench.kernels.fourier import order, roots
from convbench.problem import Problem


def transform_weights(problem: Problem, weights: NDArray[Any], cut: Cut, packed: NDArray[Any]) -> None:
    """Compute the conjugates of the weights' transforms, normalised by the gain of the forward and inverse transforms.

    Args:
        problem: The problem that the weights belong to.
        weights: Shape `problem.weights_shape`.
        cut: The cut into tiles.
        packed: Output, shape `packed_shape`: (groups, filters, channels * blocks of taps, vectors of vertical
            frequencies, horizontal frequencies, real and imaginary parts, lanes).
    """
    y, x = cut.y, cut.x
    (rows, columns), (step_y, step_x) = problem.kernel_extent, problem.dilation
    vertical = roots(np.outer(4 * np.arange(y.size // 2) + 1, np.arange(y.taps)), 2 * y.size)
    horizontal = roots(np.outer(np.arange(x.size), np.arange(x.taps)), x.size)
    vertical = vertical[order(y.size // 2)] / (y.size // 2 * x.size)
    blocks = y.blocks * x.blocks
    by_filter = packed.reshape(-1, *packed.shape[2:])
    for filters, channels in pieces(weights.shape[0], weights.shape[1], 8 * blocks * y.size * x.size):
        own = weights[filters, channels]
        spread = np.zeros((*own.shape[:2], y.blocks * y.taps, x.blocks * x.taps))
        spread[:, :, :rows:step_y, :columns:step_x] = own
        blocked = spread.reshape(*own.shape[:2], y.blocks, y.taps, x.blocks, x.taps)
        points = np.einsum("ma,kcyaxd,nd->kcyxnm", vertical, blocked, horizontal, optimize=True)
        parts = points.reshape(len(own), -1, x.size, packed.shape[3], cut.lanes).swapaxes(2, 3)
        into = by_filter[filters, channels.start * blocks : channels.stop * blocks]
        into[..., 0, :], into[..., 1, :] = parts.real, parts.imag
