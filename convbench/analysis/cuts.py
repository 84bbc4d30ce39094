"""A problem cut for several nodes: the busiest node's share of the work, and the halo, the input that neighbours share.

Rows of outputs are cut as `Problem.split` cuts them; blocks are cut in both directions in the same way. Of input that
two neighbours both read each has the half on its side, as the executor `mpi` has it (`executors.halo`), and the other
half is its halo. A halo grows with a part's surface, work with its volume (Fox, Johnson, Lyzenga, Otto, Salmon and
Walker, "Solving Problems on Concurrent Processors", 1988): a band of rows has a halo as wide as the image however many
bands there are, a block's shrinks with the root of their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from convbench.problem import ITEM_SIZE, Problem

Cutting = Literal["rows", "blocks"]
CUTTINGS: Final[tuple[Cutting, ...]] = ("rows", "blocks")
Grid = tuple[int, int, int]
"""Parts of the images, of the rows and of the columns."""
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """One axis of a problem cut into parts: for each part, in lines (images, rows or columns).

    Attributes:
        outputs: That it computes.
        owned: Of the input that it has before a call.
        halo: Of the input that its outputs read and others have.
        owners: How many others have those.
    """

    outputs: Counts
    owned: Counts
    halo: Counts
    owners: Counts

    @classmethod
    def of(cls, size: int, outputs: int, parts: int, *, stride: int = 1, extent: int = 1, before: int = 0) -> Self:
        """Cut an axis into as many parts as are wanted, or as there are outputs; the larger ones are first.

        Args:
            size: Lines of the input.
            outputs: Lines of the output.
            parts: Wanted.
            stride: Lines of the input from one output to the next.
            extent: Lines that a filter spans.
            before: Lines of padding before the input.
        """
        numbers = np.arange(min(parts, outputs) + 1)
        length, longer = divmod(outputs, numbers[-1])
        first = numbers * length + np.minimum(numbers, longer)
        begin = np.clip(first[:-1] * stride - before, 0, size)  # of what each part reads
        end = np.clip((first[1:] - 1) * stride - before + extent, 0, size)
        if (begin == begin[0]).all() and (end == end[0]).all():
            return cls(np.diff(first), end - begin, np.zeros_like(begin), np.zeros_like(begin))
        middle = (begin[1:] + end[:-1]) // 2
        shared = begin[1:] <= end[:-1]
        low = np.concatenate([begin[:1], np.where(shared, middle, begin[1:])])
        high = np.concatenate([np.where(shared, middle, end[:-1]), end[-1:]])
        owned = np.maximum(0, high - low)
        owning = np.concatenate([[0], np.cumsum(owned > 0)])  # parts before each that own anything
        reached = owning[np.searchsorted(low, end, "left")] - owning[np.searchsorted(high, begin, "right")]
        return cls(np.diff(first), owned, np.maximum(0, end - begin - owned), reached - (owned > 0))


@dataclass(frozen=True)
class Cut:
    """A forward problem cut into a grid of parts, one for each node; nodes without a part have nothing to do.

    Attributes:
        problem: The whole.
        grid: Parts of the images, of the rows and of the columns that are wanted.
    """

    problem: Problem
    grid: Grid

    @cached_property
    def axes(self) -> tuple[Lines, Lines, Lines]:
        """Images, rows and columns."""
        problem = self.problem
        (top, _), (left, _) = problem.padding
        (stride_y, stride_x), (extent_y, extent_x) = problem.stride, problem.kernel_extent
        images, rows, columns = self.grid
        return (
            Lines.of(problem.batch, problem.batch, images),
            Lines.of(problem.height, problem.output_height, rows, stride=stride_y, extent=extent_y, before=top),
            Lines.of(problem.width, problem.output_width, columns, stride=stride_x, extent=extent_x, before=left),
        )

    @property
    def parts(self) -> int:
        """How many nodes have something to do."""
        images, rows, columns = (axis.outputs.size for axis in self.axes)
        return images * rows * columns

    @property
    def busiest(self) -> float:
        """The share of the outputs, and so of the multiply-adds, that the busiest node computes."""
        _, _, height, width = self.problem.output_shape
        images, rows, columns = (int(axis.outputs.max()) for axis in self.axes)
        return images * rows * columns / (self.problem.batch * height * width)

    @property
    def messages(self) -> int:
        """The most messages that a node gets its halo in: one from each node that has any of it."""
        _, rows, columns = self.axes
        return (int(rows.owners.max()) + 1) * (int(columns.owners.max()) + 1) - 1

    @property
    def halo_bytes(self) -> int:
        """The most bytes that a node's halo has."""
        images, rows, columns = self.axes
        height = np.add.outer(rows.owned + rows.halo, np.zeros_like(columns.owned))
        needed, owned = height * (columns.owned + columns.halo), np.multiply.outer(rows.owned, columns.owned)
        return int(images.outputs.max()) * int((needed - owned).max()) * self._line_bytes

    def distributed(self, *, with_halo: bool, apart: bool) -> tuple[int, int]:
        """Messages and bytes that leave whoever has the whole input, before a call; weights went with the plan, once.

        Args:
            with_halo: Whether each part travels with its halo, or as the lines that it owns.
            apart: Whether whoever has the whole is none of the nodes; otherwise the first part stays with it.
        """
        images, rows, columns = self.axes
        height, width = (axis.owned + (axis.halo if with_halo else 0) for axis in (rows, columns))
        every = self.problem.batch * int(height.sum()) * int(width.sum())
        stays = 0 if apart else int(images.outputs[0]) * int(height[0]) * int(width[0])
        return self.parts - (not apart), (every - stays) * self._line_bytes

    def gathered(self, *, apart: bool) -> tuple[int, int]:
        """Messages and bytes of the outputs that are brought back to it."""
        _, filters, height, width = self.problem.output_shape
        every = self.problem.batch * height * width
        stays = 0 if apart else math.prod(int(axis.outputs[0]) for axis in self.axes)
        return self.parts - (not apart), (every - stays) * filters * ITEM_SIZE[self.problem.dtype]

    @property
    def _line_bytes(self) -> int:
        """Bytes of all channels of a pixel."""
        return self.problem.channels * ITEM_SIZE[self.problem.dtype]


def grids(problem: Problem, nodes: int, cutting: Cutting) -> Iterator[Grid]:
    """The grids that a cutting may use on so many nodes.

    "rows" is the one grid of `Problem.split`, in one dimension: images where there are as many as nodes, otherwise
    rows, or images if there are more of them than rows. "blocks" are all grids of as many parts as nodes, in three.
    """
    rows = problem.output_height
    if cutting == "rows":
        by_images = problem.batch >= min(nodes, rows)
        yield (nodes, 1, 1) if by_images else (1, nodes, 1)
        return
    for images in _divisors(nodes):
        for bands in _divisors(nodes // images):
            yield images, bands, nodes // images // bands


def _divisors(number: int) -> Iterator[int]:
    return (divisor for divisor in range(1, number + 1) if number % divisor == 0)
