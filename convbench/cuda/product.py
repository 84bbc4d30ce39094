"""A matrix product on a GPU: into which blocks it is cut for `cuda/product.cuh`."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Final

from convbench.cuda import SOURCES
from convbench.cuda.launch import SHARED_BYTES
from convbench.integers import ceil_div
from convbench.problem import ITEM_SIZE

EXACT: Final = (SOURCES / "product.cuh", SOURCES / "weights.cuh")
TF32: Final = (SOURCES / "product_tf32.cuh", SOURCES / "weights.cuh")
PADDING: Final = 16  # numbers at most, of a row of each factor in shared memory
OWN_ROWS: Final = 8  # of a thread, as in the source
OWN_COLUMNS: Final = {"float32": 8, "float64": 4}
WARP: Final = 32
ON_THEIR_WAY: Final = 24  # numbers of a step that a thread has registers for
DEPTHS: Final = (16, 8, 4)  # terms of a step, where shared memory holds two steps; the last is always taken
HEIGHTS: Final = (8, 16, 32, 64, 128)  # of a block, in kernels
THREADS: Final = (64, 128, 256)  # of a block
MOST_SPLITS: Final = 16
LEAST_STEPS: Final = 8  # of a split

# What the choice of blocks goes by: a large GPU, and cycles of one of its processors.
PROCESSORS: Final = 132
BUSY_WARPS: Final = 8  # of a processor; fewer leave it waiting
LOAD: Final = 8  # instructions for a number of the inputs, with its address
STEP: Final = 40  # instructions of a step beside, the barrier's wait among them
BYTES: Final = 16  # a cycle and processor, to memory
LAUNCH: Final = 5000  # cycles that another launch costs


@dataclass(frozen=True)
class Blocks:
    """How a product of (kernels x terms) and (terms x columns) is cut into blocks.

    Attributes:
        kernels: Rows of a block.
        columns: Columns of a block.
        depth: Terms of a step.
        lanes_y: Lanes of a warp below each other.
        threads: Of a block.
        splits: Parts that the terms of one sum are cut into.
    """

    kernels: int
    columns: int
    depth: int
    lanes_y: int
    threads: int
    splits: int = 1

    @property
    def macros(self) -> dict[str, int]:
        """What the source leaves open."""
        return {"KERNELS": self.kernels, "COLUMNS": self.columns, "LANES_Y": self.lanes_y, "DEPTH": self.depth}

    def number(self, kernels: int, columns: int) -> int:
        """Blocks of one product, splits not counted."""
        return ceil_div(kernels, self.kernels) * ceil_div(columns, self.columns)


def best_blocks(
    kernels: int, columns: int, terms: int, products: int, dtype: str, *, may_split: bool, tf32: bool = False
) -> Blocks:
    """The blocks for `products` such products at once that a large GPU has computed soonest.

    Args:
        kernels: Rows of the result.
        columns: Columns of the result.
        terms: Of each sum.
        products: Computed at the same time.
        dtype: Of all numbers.
        may_split: Whether sums may be computed in parts, which are added up afterwards.
        tf32: For tensor cores, whose tiles have a least size.
    """
    return min(
        (
            replace(blocks, splits=splits)
            for blocks in _shapes(kernels, dtype, tf32=tf32)
            for splits in range(1, _most_splits(terms, blocks.depth) + 1 if may_split else 2)
        ),
        key=lambda blocks: _cycles(blocks, kernels, columns, terms, products, dtype),
    )


def _most_splits(terms: int, depth: int) -> int:
    return min(MOST_SPLITS, max(1, ceil_div(terms, depth) // LEAST_STEPS))


def _shapes(kernels: int, dtype: str, *, tf32: bool) -> list[Blocks]:
    """Blocks that fit shared memory; none has twice the rows that are needed."""
    found = []
    heights, depths = (HEIGHTS[1:], DEPTHS[:-1]) if tf32 else (HEIGHTS, DEPTHS)  # tensor cores have tiles of 16 x 8
    largest = max(heights[0], 1 << (kernels - 1).bit_length())
    for rows, threads, depth in itertools.product(heights, THREADS, depths):
        lanes_y = min(4, rows // OWN_ROWS)
        warps_x = threads // WARP * lanes_y * OWN_ROWS // rows
        columns = warps_x * (WARP // lanes_y) * OWN_COLUMNS[dtype]
        numbers = depth * (rows + columns)
        fits = 2 * (numbers + depth * PADDING) * ITEM_SIZE[dtype] <= SHARED_BYTES and (
            numbers <= ON_THEIR_WAY * threads or depth == depths[-1]
        )
        if rows <= largest and columns and fits:
            found.append(Blocks(rows, columns, depth, lanes_y, threads))
    return found


def _cycles(blocks: Blocks, kernels: int, columns: int, terms: int, products: int, dtype: str) -> float:
    """About how long the busiest processor of a large GPU takes."""
    steps = math.ceil(ceil_div(terms, blocks.depth) / blocks.splits)
    number = blocks.number(kernels, columns) * products * blocks.splits
    of_a_processor = math.ceil(number / PROCESSORS)
    warps = of_a_processor * blocks.threads // WARP
    loads = blocks.depth * (blocks.columns * LOAD + blocks.kernels / 2) / blocks.threads
    of_a_step = blocks.depth * OWN_ROWS * OWN_COLUMNS[dtype] + loads + STEP
    summing = kernels * columns * products * ITEM_SIZE[dtype] * (2 * blocks.splits + 1) / (PROCESSORS * BYTES) + LAUNCH
    computing = max(warps, BUSY_WARPS) / 4 * of_a_step * steps
    return computing + (summing if blocks.splits > 1 else 0)
