"""Matrix products on a GPU: chooses the thread blocks of `cuda/product.cuh` and `cuda/product_tf32.cuh`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

from convbench.cuda import SOURCES, card
from convbench.cuda.launch import SHARED_BYTES
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.integers import ceil_div
from convbench.precision import Precision
from convbench.problem import ITEM_SIZE

WEIGHTS: Final = SOURCES / "weights.cuh"
PADDING: Final = 16  # maximum padding of a row of each factor in shared memory, in elements
OWN_ROWS: Final = 8  # rows (and below, columns) of the result of a thread, as in the source
OWN_COLUMNS: Final = {"float32": 8, "float64": 4}
WARP: Final = 32
PREFETCH_REGISTERS: Final = 24  # elements of the next step that a thread can hold in registers
MOST_SPLITS: Final = 16
LEAST_STEPS: Final = 8  # minimum steps of a split


@dataclass(frozen=True)
class Tried:
    """What thread blocks of a product may be, on the GPUs of one compute capability.

    Attributes:
        threads: Threads of a thread block.
        depths: Terms of a step; None for those of the precision.
    """

    threads: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] | None = None


WINNERS: Final[Mapping[int, Tried]] = {
    # An H100, on the layers of ResNet-50 at batch 32: docs/performance.md, "On a GPU". Eight warps wait for one another
    # longer than four, and 16 terms a step cost registers.
    90: Tried(threads=(64, 128), depths=(8,)),
}
"""What won a measured search (`benchmarks/gpu_search.py`), by ten times the compute capability."""

# Cost model for choosing thread blocks: cycles of one multiprocessor of a large GPU.
MULTIPROCESSORS: Final = 132
BUSY_WARPS: Final = 8  # warps that saturate a multiprocessor
LOAD: Final = 8  # instructions to load an input element, address computation included
STEP: Final = 40  # further instructions of a step, waiting at the barrier included
BYTES: Final = 16  # memory bandwidth of a multiprocessor, in bytes per cycle
LAUNCH: Final = 5000  # cycles of a launch


@dataclass(frozen=True)
class Blocks:
    """The thread blocks of a product of (filters x terms) and (terms x columns).

    Attributes:
        filters: Rows of a thread block.
        columns: Columns of a thread block.
        depth: Terms of a step.
        lanes_y: Lanes of a warp along the rows of the result.
        threads: Threads of a thread block.
        splits: Parts of the terms of a sum (split-K), each computed by a separate thread block.
    """

    filters: int
    columns: int
    depth: int
    lanes_y: int
    threads: int
    splits: int = 1
    shared_bytes: ClassVar[int] = 0  # beside what the source sets aside
    architecture: ClassVar[str] = ""  # any

    @property
    def macros(self) -> dict[str, int]:
        """The macros of the source of the product."""
        return {"FILTERS": self.filters, "COLUMNS": self.columns, "LANES_Y": self.lanes_y, "DEPTH": self.depth}

    def number(self, filters: int, columns: int) -> int:
        """Number of thread blocks of one product, not counting splits."""
        return ceil_div(filters, self.filters) * ceil_div(columns, self.columns)


@dataclass(frozen=True)
class Products:
    """A batch of matrix products of one shape.

    Attributes:
        filters: Rows of each result.
        columns: Columns of each result.
        terms: Terms of each sum.
        number: Number of products.
        dtype: Dtype of all elements.
    """

    filters: int
    columns: int
    terms: int
    number: int
    dtype: str

    @property
    def results(self) -> int:
        """Number of elements of all results."""
        return self.filters * self.columns * self.number


def product_sources(precision: Precision) -> tuple[Path, ...]:
    """The sources of a product in a precision."""
    return GPU_PRECISIONS[precision.name].source, WEIGHTS


def best_blocks(products: Products, precision: Precision, *, may_split: bool) -> Blocks:
    """The thread blocks with the least estimated time on a large GPU.

    Args:
        products: The products.
        precision: Precision of the products, one in `GPU_PRECISIONS`.
        may_split: Whether sums may be computed in parts (split-K), which an additional launch adds.
    """
    return min(
        (
            replace(blocks, splits=splits)
            for blocks in shapes(products, precision, WINNERS.get(card.capability(), Tried()))
            for splits in possible_splits(products.terms, blocks.depth, may_split=may_split)
        ),
        key=lambda blocks: cycles(blocks, products),
    )


def possible_splits(terms: int, depth: int, *, may_split: bool = True) -> list[int]:
    """Into how many parts of at least `LEAST_STEPS` steps the terms of a sum may be cut, so that no part is empty."""
    steps = ceil_div(terms, depth)
    most = min(MOST_SPLITS, max(1, steps // LEAST_STEPS)) if may_split else 1
    return [splits for splits in range(1, most + 1) if (splits - 1) * ceil_div(steps, splits) < steps]


def shapes(products: Products, precision: Precision, tried: Tried) -> list[Blocks]:
    """Thread blocks that fit shared memory and have less than twice the rows that are needed; none is split."""
    found, known = [], GPU_PRECISIONS[precision.name]
    heights, depths, dtype = known.filters, tried.depths or known.depths, products.dtype
    largest = max(heights[0], 1 << (products.filters - 1).bit_length())
    for rows, threads, depth in itertools.product(heights, tried.threads, depths):
        lanes_y = min(4, rows // OWN_ROWS)
        warps_x = threads // WARP * lanes_y * OWN_ROWS // rows
        columns = warps_x * (WARP // lanes_y) * OWN_COLUMNS[dtype]
        elements = depth * (rows + columns)
        fits = 2 * (elements + depth * PADDING) * ITEM_SIZE[dtype] <= SHARED_BYTES and (
            elements <= PREFETCH_REGISTERS * threads or depth == depths[-1]
        )
        if rows <= largest and columns and fits:
            found.append(Blocks(rows, columns, depth, lanes_y, threads))
    return found


def cycles(blocks: Blocks, products: Products) -> float:
    """Estimated cycles of the busiest multiprocessor of a large GPU."""
    steps = math.ceil(ceil_div(products.terms, blocks.depth) / blocks.splits)
    number = blocks.number(products.filters, products.columns) * products.number * blocks.splits
    warps = math.ceil(number / MULTIPROCESSORS) * blocks.threads // WARP
    loads = blocks.depth * (blocks.columns * LOAD + blocks.filters / 2) / blocks.threads
    of_a_step = blocks.depth * OWN_ROWS * OWN_COLUMNS[products.dtype] + loads + STEP
    result_bytes = products.results * ITEM_SIZE[products.dtype]
    summing = result_bytes * (2 * blocks.splits + 1) / (MULTIPROCESSORS * BYTES) + LAUNCH
    computing = max(warps, BUSY_WARPS) / 4 * of_a_step * steps
    return computing + (summing if blocks.splits > 1 else 0)
