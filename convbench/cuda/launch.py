"""The interface between algorithms and executors on a GPU: CUDA kernels and the order of their launches.

An algorithm turns a problem and its weights into `GpuWork`, whose launches are its phases. All kernels have one
signature, `kernel(const real* x, const real* weights, real* out, real* scratch)`; all other values are known when a
kernel is compiled, and are passed as macros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.integers import ceil_div
from convbench.problem import Problem
from convbench.rounding import Errors

REAL: Final = {"float32": "float", "float64": "double"}
MOST_FILTERS: Final = {"float32": 8, "float64": 4}  # maximum filters of a thread, whose sums fit its registers
THREAD_BLOCKS: Final = 2048  # minimum number, where the problem allows it: a few waves of a large GPU
MOST_OFFSET: Final = 2**31 - 1  # largest offset of 32 bits; wider ones in a plane would cost registers
SHARED_BYTES: Final = 48 * 2**10  # shared memory of a thread block that needs no opt-in on any NVIDIA GPU


Matrix = tuple[tuple[Fraction, ...], ...]


def geometry_macros(problem: Problem) -> dict[str, int]:
    """The macros of every forward kernel."""
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    (top, bottom), (left, right) = problem.padding
    return {
        "BATCH": problem.batch,
        "GROUPS": problem.groups,
        "CHANNELS": problem.group_channels,
        "GROUP_FILTERS": problem.group_filters,
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


def macros_of(sizes: Mapping[str, int], prefix: str = "") -> dict[str, int]:
    """Sizes as macros, with upper-case names."""
    return {f"{prefix}{name.upper()}": value for name, value in sizes.items()}


def beyond_offsets(problem: Problem) -> str | None:
    """Why 32-bit offsets in a plane, and numbers of planes, do not suffice for a problem; None if they do."""
    largest = max(
        problem.height * problem.width,
        problem.output_height * problem.output_width,
        problem.batch * max(problem.channels, problem.out_channels),
    )
    return None if largest <= MOST_OFFSET else "more than 2 G planes, or pixels of one, are beyond its 32-bit offsets"


def thread_filters(problem: Problem) -> int:
    """Number of filters of a thread: a power of two, bounded by registers and by the filters of a group."""
    return min(MOST_FILTERS[problem.dtype], 1 << (problem.group_filters - 1).bit_length())


def filter_blocks_each(filter_blocks: int, places: int) -> int:
    """Number of filter blocks that a thread block computes in sequence, chosen to give enough thread blocks.

    Args:
        filter_blocks: Filter blocks of a group.
        places: Number of thread blocks if each computed all filter blocks.
    """
    parts = min(filter_blocks, max(1, ceil_div(THREAD_BLOCKS, places)))
    return ceil_div(filter_blocks, parts)


def _as_code(name: str, matrix: Matrix) -> str:
    rows = ", ".join("{" + ", ".join(f"real({float(entry)!r})" for entry in row) + "}" for row in matrix)
    return f"static __device__ const real {name}[{len(matrix)}][{len(matrix[0])}] = {{{rows}}};\n"


@dataclass(frozen=True)
class Launch:
    """One kernel launch of a work.

    Attributes:
        sources: Files of the kernel's source, concatenated in this order.
        name: The kernel's name in the source.
        macros: Macros that the source expects, by name.
        blocks: Number of thread blocks.
        threads: Threads of a thread block.
        stage: Name of the stage that the kernel computes.
        matrices: Constant matrices that the source expects, by name.
        shared_bytes: Shared memory of a thread block that the launch sets aside, beside what the source does.
        architecture: The compiler's name of the one architecture that has the source's instructions; "" if it compiles
            for any.
    """

    sources: tuple[Path, ...]
    name: str
    macros: tuple[tuple[str, int], ...]
    blocks: int
    threads: int
    stage: str
    matrices: tuple[tuple[str, Matrix], ...] = ()
    shared_bytes: int = 0
    architecture: str = ""

    @property
    def code(self) -> str:
        """The matrices and the sources as one text."""
        matrices = (_as_code(name, matrix) for name, matrix in self.matrices)
        return "".join([*matrices, *(source.read_text(encoding="utf-8") for source in self.sources)])

    def options(self, dtype: str) -> tuple[str, ...]:
        """The compiler options: language standard and macros."""
        macros = (f"-D{name}={value}" for name, value in self.macros)
        return ("--std=c++17", f"-Dreal={REAL[dtype]}", *macros)


@dataclass(frozen=True)
class GpuWork:
    """The work that an executor runs on a GPU.

    Attributes:
        launches: The phases in their order; each begins when the previous one has ended.
        weights: Packed as the kernels read them, 1-D, of the problem's dtype.
        scratch_size: Elements of the problem's dtype that a call needs in addition to input, weights and output,
            shared by all phases.
        errors: Rounding errors of the outputs; None if unknown.
        variant: Choices made for the problem, such as tile sizes and threads, by name.
    """

    launches: tuple[Launch, ...]
    weights: NDArray[Any]
    scratch_size: int = 0
    errors: Errors | None = None
    variant: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights, output and scratch."""
        return self.weights.dtype

    @property
    def stages(self) -> tuple[str, ...]:
        """The launches' stages, in their order."""
        return tuple(launch.stage for launch in self.launches)
