"""Unrolled convolution on a GPU: how a problem is cut up for `cuda/unrolled.cu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.device import DeviceWork, Launch, geometry_macros
from convbench.problem import Problem
from convbench.tile import error_of_sums

SOURCE: Final = Path(__file__).parent / "cuda" / "unrolled.cu"
LANES_X: Final = 16  # threads side by side, as in the source
OWN_KERNELS: Final = 8  # of a thread
MOST_KERNELS: Final = 128  # of a block
PIXELS: Final = {"float32": 128, "float64": 64}  # of a block: sums that fit its threads' registers
DEPTH: Final = 8  # taps of a step


def prepare(problem: Problem, weights: NDArray[Any]) -> DeviceWork:
    """The matrix of weights in blocks, and one launch."""
    group_kernels = problem.out_channels // problem.groups
    kernels = min(MOST_KERNELS, max(2 * OWN_KERNELS, 1 << (group_kernels - 1).bit_length()))
    pixels = PIXELS[problem.dtype]
    kernel_blocks = -(-group_kernels // kernels)
    pixel_blocks = -(-problem.output_height * problem.output_width // pixels)
    macros = {
        **geometry_macros(problem),
        "KERNELS": kernels,
        "PIXELS": pixels,
        "DEPTH": DEPTH,
    }
    launch = Launch(
        source=SOURCE,
        name="unrolled",
        macros=tuple(macros.items()),
        blocks=kernel_blocks * pixel_blocks * problem.groups * problem.batch,
        threads=LANES_X * kernels // OWN_KERNELS,
        stage="unrolled",
    )
    return DeviceWork((launch,), pack(problem, weights, kernels), error_bound=error_of_sums(problem))


def pack(problem: Problem, weights: NDArray[Any], kernels: int) -> NDArray[Any]:
    """The weights, 1-D: (groups, blocks of kernels, taps, kernels of a block), zeros for what is not there."""
    group_kernels = problem.out_channels // problem.groups
    blocks, depth = -(-group_kernels // kernels), -(-problem.taps // DEPTH) * DEPTH
    padded = np.zeros((problem.groups, blocks * kernels, depth), problem.dtype)
    padded[:, :group_kernels, : problem.taps] = weights.reshape(problem.groups, group_kernels, problem.taps)
    return np.ascontiguousarray(padded.reshape(problem.groups, blocks, kernels, depth).transpose(0, 1, 3, 2)).ravel()
