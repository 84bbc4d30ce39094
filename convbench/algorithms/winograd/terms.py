"""The blocks of taps that count at each point.

The point at infinity takes the last tap of a block. Where a kernel does not fill its last block, that tap is zero, and
so is every product with it: of three blocks of four taps for a kernel of 11, 23 of 24 products remain along each axis.
Blocks are ordered such that those that remain follow one another at every point.
"""

from __future__ import annotations

from dataclasses import dataclass

from convbench.algorithms.winograd.nested import Axis
from convbench.problem import Problem


@dataclass(frozen=True)
class Terms:
    """The products of which the sum at a point consists, by the order of blocks of taps.

    Attributes:
        order: Place of each block in that order, by its number: vertical blocks, each with all horizontal ones.
        begins: The first place that counts, for each point.
        ends: The place after the last one that counts, for each point.
    """

    order: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]


def terms(problem: Problem, y: Axis, x: Axis) -> Terms:
    """The products that count; with several channels, whose blocks follow one another by channel, all of them."""
    blocks = y.blocks * x.blocks
    if problem.group_channels > 1:
        return Terms(tuple(range(blocks)), (0,) * (y.points * x.points), (blocks,) * (y.points * x.points))
    places = [(a, b) for a in range(y.blocks) for b in range(x.blocks)]
    last_row, last_column = y.blocks - 1, x.blocks - 1
    ordered = [  # without the first and the last of these, or without the last two, the others are side by side
        *(place for place in places if place[0] == last_row and place[1] < last_column),
        *(place for place in places if place[0] < last_row and place[1] < last_column),
        *(place for place in places if place[0] < last_row and place[1] == last_column),
        (last_row, last_column),
    ]
    begins, ends = [], []
    for point in range(y.points * x.points):
        row, column = divmod(point, x.points)
        no_last_row = row == y.points - 1 and is_short(problem.kernel_height, y)
        no_last_column = column == x.points - 1 and is_short(problem.kernel_width, x)
        begins.append(last_column if no_last_row else 0)
        ends.append(blocks - y.blocks if no_last_column else blocks - no_last_row)
    return Terms(tuple(ordered.index(place) for place in places), tuple(begins), tuple(ends))


def counts(problem: Problem, y: Axis, x: Axis) -> tuple[int, int, int, int]:
    """Numbers of terms at points, of all channels: in the last row and column of points there can be fewer.

    Returns:
        Those of points in neither, in the last row, in the last column, and in both.
    """
    found = terms(problem, y, x)
    each = [(end - begin) * problem.group_channels for begin, end in zip(found.begins, found.ends, strict=True)]
    return each[0], each[-x.points], each[x.points - 1], each[-1]


def is_short(kernel: int, axis: Axis) -> bool:
    """Whether a kernel leaves a part of its last block empty."""
    return axis.blocks > 1 and axis.blocks * axis.taps > kernel


def products(problem: Problem, y: Axis, x: Axis) -> int:
    """How many products of a channel count, over all points: those of `terms`, without listing them."""
    along_y, along_x = y.points * y.blocks, x.points * x.blocks
    if problem.group_channels == 1:
        along_y -= is_short(problem.kernel_height, y)
        along_x -= is_short(problem.kernel_width, x)
    return along_y * along_x
