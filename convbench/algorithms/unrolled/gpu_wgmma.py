"""Unrolled convolution in TF32 on compute capability 9.0: chooses the sizes of `cuda/unrolled_wgmma.cu`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from convbench.cuda import SOURCES
from convbench.cuda.product import MULTIPROCESSORS, possible_splits
from convbench.integers import ceil_div

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.cuda.product import Products
    from convbench.problem import Problem

SOURCE: Final = SOURCES / "unrolled_wgmma.cu"
PRODUCT: Final = SOURCES / "product_wgmma.cuh"
CAPABILITY: Final = 90
DEPTH: Final = 32  # terms of a step: rows of 128 bytes
STAGES: Final = 3  # steps in shared memory
CHUNK: Final = 4  # elements that are moved as one
SWIZZLED: Final = 8  # rows and chunks among which chunks are swapped
GROUP_THREADS: Final = 128
GROUP_ROWS: Final = 64


@dataclass(frozen=True)
class Groups:
    """The thread blocks of a product of (filters x terms) and (terms x columns) by warpgroups.

    Attributes:
        filters: Rows of a thread block.
        columns: Columns of a thread block.
        group_columns: Columns of a warpgroup.
        blocks: Thread blocks of a multiprocessor, whose registers they share.
        splits: Parts of the terms of a sum (split-K), each computed by a separate thread block.
    """

    filters: int
    columns: int
    group_columns: int
    blocks: int
    splits: int = 1
    architecture: ClassVar[str] = "sm_90a"  # the instructions are in no other

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return GROUP_THREADS * (self.filters // GROUP_ROWS) * (self.columns // self.group_columns)

    @property
    def depth(self) -> int:
        """Terms of a step."""
        return DEPTH

    def number(self, filters: int, columns: int) -> int:
        """Number of thread blocks of one product, not counting splits."""
        return ceil_div(filters, self.filters) * ceil_div(columns, self.columns)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a thread block: some steps of both factors."""
        return STAGES * (self.filters + self.columns) * DEPTH * 4

    @property
    def macros(self) -> dict[str, int]:
        """The macros of the source of the product."""
        return {
            "FILTERS": self.filters,
            "COLUMNS": self.columns,
            "GROUP_COLUMNS": self.group_columns,
            "BLOCKS_PER_MULTIPROCESSOR": self.blocks,
            "DEPTH": DEPTH,
        }


@dataclass(frozen=True)
class Pace:
    """How long thread blocks of one shape take for a step, measured on an H100.

    Attributes:
        alone: Microseconds of the only thread block of a multiprocessor.
        together: Microseconds of each of several.
    """

    alone: float
    together: float


SHAPES: Final[Mapping[Groups, Pace]] = {
    Groups(128, 128, 128, blocks=2): Pace(0.62, 0.55),
    Groups(128, 64, 64, blocks=3): Pace(0.50, 0.40),
    Groups(64, 64, 64, blocks=4): Pace(0.45, 0.25),
}
"""What won a search on the layers of ResNet-50 at batch 32: docs/performance.md, "On a GPU"."""
LAUNCH: Final = 6.0  # microseconds of adding parts, beside its traffic
BYTES: Final = 4.3e6  # of parts and sums in a microsecond, written and read


def best_groups(products: Products) -> Groups:
    """The thread blocks with the least estimated time on an H100."""
    return min(
        (replace(shape, splits=splits) for shape in SHAPES for splits in possible_splits(products.terms, DEPTH)),
        key=lambda cut: microseconds(cut, products),
    )


def microseconds(cut: Groups, products: Products) -> float:
    """Estimated time of the busiest multiprocessor, and of adding parts."""
    steps, pace = math.ceil(ceil_div(products.terms, DEPTH) / cut.splits), SHAPES[replace(cut, splits=1)]
    number = cut.number(products.filters, products.columns) * products.number * cut.splits
    busiest = ceil_div(number, MULTIPROCESSORS)
    adding = LAUNCH + 2 * cut.splits * products.results * 4 / BYTES if cut.splits > 1 else 0.0
    return max(pace.alone, pace.together * busiest) * steps + adding


def pack(problem: Problem, weights: NDArray[Any], cut: Groups) -> NDArray[Any]:
    """Round and pack the weights: 1-D, (groups, filter blocks, steps, filters, terms of a step), as in shared memory.

    Chunk c of row r lies at chunk c ^ (r % 8). Missing filters and terms are zeros.
    """
    groups, channels, filters = problem.groups, problem.group_channels, problem.group_filters
    places = problem.kernel_height * problem.kernel_width
    terms = weights.reshape(groups, filters, channels, places)
    if channels % DEPTH == 0:  # a step has the channels of one place
        terms = terms.reshape(groups, filters, channels // DEPTH, DEPTH, places).swapaxes(3, 4)
    steps, blocks = ceil_div(problem.taps, DEPTH), ceil_div(filters, cut.filters)
    padded = np.zeros((groups, blocks * cut.filters, steps * DEPTH), problem.dtype)
    padded[:, :filters, : problem.taps] = rounded_to_tf32(terms.reshape(groups, filters, -1))
    chunks = padded.reshape(groups, blocks, cut.filters // SWIZZLED, SWIZZLED, steps, DEPTH // CHUNK, CHUNK)
    by_step = chunks.transpose(0, 1, 4, 2, 3, 5, 6)
    swapped = np.arange(SWIZZLED)[:, None] ^ np.arange(DEPTH // CHUNK)
    rows = np.arange(SWIZZLED)[:, None]
    return np.ascontiguousarray(by_step[:, :, :, :, rows, swapped]).ravel()


def rounded_to_tf32(numbers: NDArray[Any]) -> NDArray[Any]:
    """Round float32 to 11 bits of significand, to nearest, ties away from zero; what is not finite stays."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(numbers), rounded, numbers).astype(np.float32)
