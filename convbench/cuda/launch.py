"""The seam between algorithms and executors on a GPU: CUDA kernels, and in which order they turn input into output.

An algorithm turns a problem and its weights into `GpuWork`. All kernels have one signature,
`kernel(const real* x, const real* weights, real* out, real* scratch)`, as all tiles on the host have; everything else
is known when they are compiled, and reaches them as macros.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.integers import ceil_div
from convbench.problem import Problem
from convbench.rounding import Errors

REAL: Final = {"float32": "float", "float64": "double"}
MOST_KERNELS: Final = {"float32": 8, "float64": 4}  # of a thread: sums that fit its registers
BLOCKS: Final = 2048  # to be had at least, where the problem allows: a few waves of a large GPU
SHARED_BYTES: Final = 48 * 2**10  # that every NVIDIA GPU gives a block without being asked for more


Matrix = tuple[tuple[Fraction, ...], ...]


def geometry_macros(problem: Problem) -> dict[str, int]:
    """The macros that any forward kernel starts from."""
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    (top, bottom), (left, right) = problem.padding
    return {
        "BATCH": problem.batch,
        "GROUPS": problem.groups,
        "CHANNELS": problem.group_channels,
        "GROUP_KERNELS": problem.group_filters,
        "HEIGHT": problem.height,
        "WIDTH": problem.width,
        "OUTPUT_HEIGHT": problem.output_height,
        "OUTPUT_WIDTH": problem.output_width,
        "KERNEL_HEIGHT": problem.kernel_height,
        "KERNEL_WIDTH": problem.kernel_width,
        "STRIDE_Y": stride_y,
        "STRIDE_X": stride_x,
        "DILATION_Y": dilation_y,
        "DILATION_X": dilation_x,
        "TOP": top,
        "LEFT": left,
        "PADDED": int(any((top, bottom, left, right))),
    }


def kernels_of_a_thread(problem: Problem) -> int:
    """How many kernels' sums a thread keeps: a power of two, as registers allow, not many more than a group has."""
    return min(MOST_KERNELS[problem.dtype], 1 << (problem.group_filters - 1).bit_length())


def chunks_of_a_block(all_chunks: int, positions: int) -> int:
    """How many chunks of kernels a block computes one after the other, so that there are blocks enough for a GPU.

    Args:
        all_chunks: How many a group has.
        positions: Blocks that there would be if each computed all of them.
    """
    parts = min(all_chunks, max(1, ceil_div(BLOCKS, positions)))
    return ceil_div(all_chunks, parts)


def _as_code(name: str, matrix: Matrix) -> str:
    rows = ", ".join("{" + ", ".join(f"real({float(entry)!r})" for entry in row) + "}" for row in matrix)
    return f"static __device__ const real {name}[{len(matrix)}][{len(matrix[0])}] = {{{rows}}};\n"


@dataclass(frozen=True)
class Launch:
    """One kernel of a work, and how many blocks of how many threads run it.

    Attributes:
        sources: Files that it is in, the last one with what goes before.
        name: Of the kernel in it.
        macros: What the source leaves open, by name.
        matrices: Constant matrices that it leaves open, by name.
        blocks: How many.
        threads: Of a block.
        stage: What the kernel does of the work, in a word.
    """

    sources: tuple[Path, ...]
    name: str
    macros: tuple[tuple[str, int], ...]
    blocks: int
    threads: int
    stage: str
    matrices: tuple[tuple[str, Matrix], ...] = ()

    @property
    def code(self) -> str:
        """The source as text, behind its matrices."""
        matrices = (_as_code(name, matrix) for name, matrix in self.matrices)
        return "".join([*matrices, *(source.read_text(encoding="utf-8") for source in self.sources)])

    def options(self, dtype: str) -> tuple[str, ...]:
        """What the compiler is told beside the source."""
        macros = (f"-D{name}={value}" for name, value in self.macros)
        return ("--std=c++17", f"-Dreal={REAL[dtype]}", *macros)


@dataclass(frozen=True)
class GpuWork:
    """What an executor runs on a GPU.

    Attributes:
        launches: One after the other.
        weights: Packed as the kernels want them, 1-D, of the problem's dtype.
        scratch_size: Elements of the problem's dtype that the kernels need beside input, weights and output.
        errors: How far rounding can take the outputs; None if that is not known.
    """

    launches: tuple[Launch, ...]
    weights: NDArray[Any]
    scratch_size: int = 0
    errors: Errors | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights, output and scratch."""
        return self.weights.dtype

    @property
    def stages(self) -> tuple[str, ...]:
        """What the launches do, in their order."""
        return tuple(launch.stage for launch in self.launches)
