"""Unrolled convolution on a GPU: how a problem is cut up for `cuda/unrolled.cu`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.cuda import SOURCES
from convbench.cuda.launch import GpuWork, Launch, geometry_macros
from convbench.cuda.product import EXACT, TF32, Blocks, best_blocks
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.problem import Problem
from convbench.rounding import of_sums, of_sums_in_tf32

SOURCE: Final = SOURCES / "unrolled.cu"
ADDING_THREADS: Final = 256  # as in the source
MOST_NUMBERS: Final = 2**31 - 1  # of an array: what its 32-bit offsets reach


def supports(problem: Problem) -> str | None:
    """Offsets have 32 bits."""
    largest = max(np.prod(problem.input_shape, dtype=np.int64), np.prod(problem.output_shape, dtype=np.int64))
    return None if largest <= MOST_NUMBERS else "an array of more than 2 G numbers is beyond its 32-bit offsets"


def supports_tf32(problem: Problem) -> str | None:
    """Tensor cores round what is float32."""
    return supports(problem) if problem.dtype == "float32" else "computes float32 alone in TF32"


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """The matrix of weights in blocks, and one launch; a second one where sums are computed in parts."""
    return _work(problem, weights, epilogue, tf32=False)


def prepare_tf32(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """The same for tensor cores, which round both factors of every product to TF32."""
    return _work(problem, weights, epilogue, tf32=True)


def _work(problem: Problem, weights: NDArray[Any], epilogue: Epilogue, *, tf32: bool) -> GpuWork:
    group_kernels, outputs = problem.group_filters, int(np.prod(problem.output_shape))
    pixels = outputs // problem.out_channels
    blocks = best_blocks(group_kernels, pixels, problem.taps, problem.groups, problem.dtype, may_split=True, tf32=tf32)
    macros = tuple({**geometry_macros(problem), **blocks.macros, "SPLITS": blocks.splits}.items())
    sources = (*(TF32 if tf32 else EXACT), SOURCE)
    product = Launch(
        sources=sources,
        name="unrolled",
        macros=macros,
        blocks=blocks.number(group_kernels, pixels) * problem.groups * blocks.splits,
        threads=blocks.threads,
        stage="unrolled",
    )
    adding = Launch(
        sources=sources,
        name="add_parts",
        macros=macros,
        blocks=ceil_div(outputs, ADDING_THREADS),
        threads=ADDING_THREADS,
        stage="add",
    )
    return GpuWork(
        (product, adding) if blocks.splits > 1 else (product,),
        pack(problem, weights, blocks),
        scratch_size=outputs * blocks.splits if blocks.splits > 1 else 0,
        errors=of_sums_in_tf32(problem) if tf32 else of_sums(problem),
    )


def pack(problem: Problem, weights: NDArray[Any], cut: Blocks) -> NDArray[Any]:
    """The weights, 1-D: (groups, blocks of kernels, taps, kernels of a block), zeros for what is not there."""
    group_kernels = problem.group_filters
    blocks, taps = ceil_div(group_kernels, cut.kernels), round_up(problem.taps, cut.depth)
    padded = np.zeros((problem.groups, blocks * cut.kernels, taps), problem.dtype)
    padded[:, :group_kernels, : problem.taps] = weights.reshape(problem.groups, group_kernels, problem.taps)
    return np.ascontiguousarray(padded.reshape(problem.groups, blocks, cut.kernels, taps).transpose(0, 1, 3, 2)).ravel()
