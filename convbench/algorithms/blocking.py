"""Cutting a problem into units: bands of output rows times chunks of kernels, and weights packed to match."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.band import layout
from convbench.problem import ITEM_SIZE, Problem

BAND_BYTES: Final = 2**19  # of scratch for a band: a quarter of a common second-level cache
UNITS: Final = 32  # at least, where the problem is large enough, so that many workers finish together
CHUNK: Final = 64  # kernels of a unit, at least, so that filling the band is little beside using it


def band_rows(problem: Problem, step: int, lanes: int, reach: int) -> int:
    """Output rows of a band: as many, in steps of `step`, as fit the cache and leave enough bands."""
    enough = max(1, problem.output_height * problem.batch * problem.groups // UNITS)
    rows = step
    while rows + step <= min(enough, problem.output_height):
        if layout(problem, rows + step, lanes, reach).size * ITEM_SIZE[problem.dtype] > BAND_BYTES:
            break
        rows += step
    return rows


def chunk_blocks(problem: Problem, blocks: int, rows: int) -> int:
    """Register blocks of kernels in a unit, so that there are enough units even where there are few bands."""
    bands = problem.batch * problem.groups * -(-problem.output_height // rows)
    chunks = max(1, min(UNITS // bands, problem.out_channels // problem.groups // CHUNK))
    return -(-blocks // chunks)


def packed_bytes(problem: Problem, kernels: int) -> int:
    """What `pack_weights` returns takes."""
    blocks = -(-(problem.out_channels // problem.groups) // kernels)
    return problem.groups * blocks * kernels * problem.taps * ITEM_SIZE[problem.dtype]


def pack_weights(problem: Problem, weights: NDArray[Any], kernels: int) -> NDArray[Any]:
    """Weights in the order in which the micro-kernel reads them, with zeros where a group runs out of kernels.

    Args:
        problem: Whose weights they are.
        weights: Shape `problem.weights_shape`.
        kernels: Of a register block.

    Returns:
        Shape (groups, blocks, taps, kernels).
    """
    group_kernels = problem.out_channels // problem.groups
    blocks = -(-group_kernels // kernels)
    packed = np.zeros((problem.groups, blocks * kernels, problem.taps), weights.dtype)
    packed[:, :group_kernels] = weights.reshape(problem.groups, group_kernels, problem.taps)
    return np.ascontiguousarray(packed.reshape(problem.groups, blocks, kernels, problem.taps).swapaxes(2, 3))
