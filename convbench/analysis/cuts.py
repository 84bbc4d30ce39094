"""A problem cut for several nodes: the busiest node's share of the work, and the halo, the input that neighbours share.

In one dimension a problem is cut as `Problem.split` cuts it; blocks are cut in both directions in the way of rows. Of
input that two neighbours both read each has the half on its side, as the executor `mpi` has it (`executors.halo`), and
the other half is its halo. A halo grows with a part's surface, work with its volume (Fox, Johnson, Lyzenga, Otto,
Salmon and Walker, "Solving Problems on Concurrent Processors", 1988): a band of rows has a halo as wide as the image
however many bands there are, a block's shrinks with the root of their number.
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
from convbench.problem.split import cut_by_default

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
        first = _firsts(outputs, parts)
        if first.size == 2:  # of one part, which has what no output reads, too
            return cls(np.array([outputs]), np.array([size]), np.array([0]), np.array([0]))
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
        filters: Parts of the filters; each has all of the input's lines that its images, rows and columns read.
    """

    problem: Problem
    grid: Grid
    filters: int = 1

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

    @cached_property
    def channels(self) -> tuple[Counts, Counts]:
        """For each part of the filters, as `Problem.split` cuts them, how many it has and how many channels it reads.

        Parts are whole groups, or filters of one group where there are fewer groups than parts.
        """
        groups, channels, filters = self.problem.groups, self.problem.group_channels, self.problem.group_filters
        if groups >= self.filters:
            several = np.diff(_firsts(groups, self.filters))
            return several * filters, several * channels
        own = np.tile(np.diff(_firsts(filters, self.filters // groups)), groups)
        return own, np.full_like(own, channels)

    @property
    def parts(self) -> int:
        """How many nodes have something to do."""
        return math.prod(axis.outputs.size for axis in self.axes) * self.channels[0].size

    @property
    def busiest(self) -> float:
        """The share of the outputs, and so of the multiply-adds, that the busiest node computes."""
        most = math.prod(int(axis.outputs.max()) for axis in self.axes) * int(self.channels[0].max())
        return most / math.prod(self.problem.output_shape)

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
        return int(images.outputs.max()) * int((needed - owned).max()) * int(self.channels[1].max()) * self._item

    def distributed(self, *, with_halo: bool, apart: bool) -> tuple[int, int]:
        """Messages and bytes that leave whoever has the whole input, before a call; weights went with the plan, once.

        Args:
            with_halo: Whether each part travels with its halo, or as the lines that it owns.
            apart: Whether whoever has the whole is none of the nodes; otherwise the first part stays with it.
        """
        images, rows, columns = self.axes
        height, width = (axis.owned + (axis.halo if with_halo else 0) for axis in (rows, columns))
        lengths = (images.outputs, height, width, self.channels[1])
        every, stays = (math.prod(map(int, each)) for each in ((a.sum() for a in lengths), (a[0] for a in lengths)))
        return self.parts - (not apart), (every - (0 if apart else stays)) * self._item

    def gathered(self, *, apart: bool) -> tuple[int, int]:
        """Messages and bytes of the outputs that are brought back to it."""
        stays = math.prod(int(axis.outputs[0]) for axis in self.axes) * int(self.channels[0][0])
        every = math.prod(self.problem.output_shape)
        return self.parts - (not apart), (every - (0 if apart else stays)) * self._item

    @property
    def _item(self) -> int:
        return ITEM_SIZE[self.problem.dtype]


def cuts(problem: Problem, nodes: int, cutting: Cutting) -> Iterator[Cut]:
    """The cuts that a cutting may use on so many nodes.

    "rows" is the one of `Problem.split`, and so of the executors, in one dimension: images, rows or filters, into fewer
    parts than nodes where there is less to cut. "blocks" are all grids of as many parts as nodes, in three, and that.
    """
    axis, parts = cut_by_default(problem, nodes)
    if axis == "filters":
        yield Cut(problem, (1, 1, 1), parts)
    else:
        yield Cut(problem, (parts, 1, 1) if axis == "images" else (1, parts, 1))
    if cutting == "rows":
        return
    for images in _divisors(nodes):
        for bands in _divisors(nodes // images):
            yield Cut(problem, (images, bands, nodes // images // bands))


def _firsts(size: int, parts: int) -> Counts:
    """Where each of so many ranges of [0, size) begins, and the last one ends; the larger ones are first."""
    count = min(parts, size)
    length, longer = divmod(size, count)
    numbers: Counts = np.arange(count + 1, dtype=np.int64)
    return length * numbers + np.minimum(numbers, longer)


def _divisors(number: int) -> Iterator[int]:
    return (divisor for divisor in range(1, number + 1) if number % divisor == 0)
