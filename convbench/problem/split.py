"""Cutting a problem into parts that are computed apart, on other cores or other machines.

A part is a problem of its own with no reference to the whole: who computes it needs the part's slice of the input, its
slice of the weights and nothing else, and returns its slice of the output. `part.problem.bytes` is what that moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from convbench.arguments import one_of, whole_number
from convbench.errors import RequestError
from convbench.integers import ceil_div

Slices = tuple[slice, slice, slice, slice]
Range = tuple[int, int]  # [first, last)

_ALL: Final = slice(None)


class Whole(Protocol):
    """What has to be known of a problem to cut it: a dataclass with these fields and properties."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def direction(self) -> str:
        """Of the convolution."""

    @property
    def batch(self) -> int:
        """Images."""

    @property
    def channels(self) -> int:
        """Of the input."""

    @property
    def out_channels(self) -> int:
        """Of the output."""

    @property
    def groups(self) -> int:
        """Of channels."""

    @property
    def group_channels(self) -> int:
        """Channels of a group."""

    @property
    def group_filters(self) -> int:
        """Filters of a group."""

    @property
    def height(self) -> int:
        """Rows of the input."""

    @property
    def output_height(self) -> int:
        """Rows of the output."""

    @property
    def stride(self) -> tuple[int, int]:
        """Vertical and horizontal."""

    @property
    def padding(self) -> tuple[Range, Range]:
        """(top, bottom) and (left, right)."""

    @property
    def kernel_extent(self) -> tuple[int, int]:
        """Rows and columns that a dilated kernel spans."""


P = TypeVar("P", bound=Whole)


@dataclass(frozen=True)
class Part(Generic[P]):
    """One part of a problem.

    For an input `x`, weights `w` and an output `out` of the whole problem, `out[part.output]` is the convolution
    `part.problem` of `x[part.input]` and `w[part.weights]`; the shapes are those of `part.problem`.

    Attributes:
        problem: The part as a problem of its own.
        input: Slices (batch, channels, rows, columns) of the input that the part reads.
        weights: Slice of the weights' first axis.
        output: Slices (batch, out_channels, rows, columns) of the output that the part computes.
    """

    problem: P
    input: Slices
    weights: slice
    output: Slices


def split(problem: P, parts: int, axis: str | None = None) -> tuple[Part[P], ...]:
    """Cut a forward problem into at most `parts` parts whose outputs tile the output.

    Args:
        problem: The whole.
        parts: How many parts are wanted, from 1 up. There are fewer where the axis has less to cut.
        axis: "images", "rows" (of the output) or "filters" (whole groups where there are as many groups as parts); by
            default the first of these that gives as many parts as are wanted, or else the one that gives the most.

    Returns:
        The parts in the order of their outputs; their sizes along the axis differ by one image, row, group or filter at
        most.

    Raises:
        RequestError: The direction is not forward, or an argument is wrong.
    """
    if problem.direction != "forward":
        raise RequestError(f"direction={problem.direction!r} cannot be split; only forward problems can")
    count = whole_number("parts", parts, least=1)
    if axis is not None:
        return tuple(_CUTS[one_of("axis", axis, _CUTS)](problem, count))
    return tuple(_CUTS[cut_by_default(problem, count)[0]](problem, count))


def cut_by_default(problem: Whole, parts: int) -> tuple[str, int]:
    """The axis that `split` cuts where none is said, and into how many parts, without making them.

    Args:
        problem: The whole.
        parts: How many are wanted.
    """
    counts = {
        "images": min(parts, problem.batch),
        "rows": min(parts, _most_row_parts(problem)),
        "filters": parts
        if problem.groups >= parts
        else problem.groups * min(problem.group_filters, parts // problem.groups),
    }
    axis = max(counts, key=lambda name: counts[name])  # the first of equal ones
    return axis, counts[axis]


def _images(problem: P, parts: int) -> Iterator[Part[P]]:
    """Parts of whole images; every part needs all weights."""
    for first, last in _ranges(problem.batch, parts):
        images = slice(first, last)
        part = replace(problem, batch=last - first)
        yield Part(part, (images, _ALL, _ALL, _ALL), _ALL, (images, _ALL, _ALL, _ALL))


def _rows(problem: P, parts: int) -> Iterator[Part[P]]:
    """Parts of output rows in all images; neighbours share the input rows that kernels of both reach."""
    count = min(parts, _most_row_parts(problem))
    if count == 1:
        yield Part(problem, (_ALL, _ALL, _ALL, _ALL), _ALL, (_ALL, _ALL, _ALL, _ALL))
        return
    stride, extent = problem.stride[0], problem.kernel_extent[0]
    (top, _), columns = problem.padding
    for first, last in _ranges(problem.output_height, count):
        begin, end = first * stride - top, (last - 1) * stride - top + extent  # in rows of the image; beyond: padding
        low, high = max(0, begin), min(problem.height, end)
        part = replace(problem, height=high - low, padding=((low - begin, end - high), columns))
        yield Part(part, (_ALL, _ALL, slice(low, high), _ALL), _ALL, (_ALL, _ALL, slice(first, last), _ALL))


def _filters(problem: P, parts: int) -> Iterator[Part[P]]:
    """Parts of whole groups, or where there are fewer groups than parts, of filters of one group."""
    channels, filters = problem.group_channels, problem.group_filters
    if problem.groups >= parts:
        for first, last in _ranges(problem.groups, parts):
            groups = last - first
            part = replace(problem, groups=groups, channels=groups * channels, out_channels=groups * filters)
            yield _of_filters(part, first * channels, first * filters)
        return
    for group in range(problem.groups):
        for first, last in _ranges(filters, parts // problem.groups):
            part = replace(problem, groups=1, channels=channels, out_channels=last - first)
            yield _of_filters(part, group * channels, group * filters + first)


def _of_filters(part: P, channel: int, filter_: int) -> Part[P]:
    """The part that begins at a channel of the input and at a filter."""
    filters = slice(filter_, filter_ + part.out_channels)
    channels = slice(channel, channel + part.channels)
    return Part(part, (_ALL, channels, _ALL, _ALL), filters, (_ALL, filters, _ALL, _ALL))


def _ranges(size: int, parts: int) -> Iterator[Range]:
    """Cut [0, size) into `parts` ranges, or `size` where that is less, the larger ones first."""
    parts = min(parts, size)
    length, longer = divmod(size, parts)
    for part in range(parts):
        first = part * length + min(part, longer)
        yield first, first + length + (part < longer)


def _most_row_parts(problem: Whole) -> int:
    """How many ranges of output rows there can be such that the kernels of each range reach the image.

    Rows of outputs whose kernels lie wholly in the padding are no part of their own, since a problem has one row of
    input at least. So the first range must end behind the rows above the image, and the last one begin before the rows
    below it.
    """
    rows, stride, (top, _) = problem.output_height, problem.stride[0], problem.padding[0]
    above = max(0, (top - problem.kernel_extent[0]) // stride + 1)  # output rows whose kernels end before the image
    below = max(0, rows - ceil_div(problem.height + top, stride))  # output rows whose kernels begin behind it
    shortest_last = rows // (below + 1)  # the last of n ranges has rows // n rows
    return max(1, min(shortest_last, (rows - 1) // above if above else rows))  # the first has ceil(rows / n)


_CUTS: Final[Mapping[str, Callable[[Any, int], Iterator[Part[Any]]]]] = {
    "images": _images,
    "rows": _rows,
    "filters": _filters,
}
AXES: Final = tuple(_CUTS)
