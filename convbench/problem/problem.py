"""One convolution problem: its shapes, stride, padding, dilation and groups. No arrays, and no way to compute it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from convbench.arguments import LARGEST, Sides, checked_name, one_of, pair, sides, whole_number
from convbench.errors import RequestError
from convbench.problem.axis import output_length, padding_after, same_padding
from convbench.problem.notation import read, write
from convbench.problem.split import Part, split

__all__ = ["DIRECTIONS", "ITEM_SIZE", "DType", "Direction", "Padding", "Problem", "Sides"]

DType = Literal["float32", "float64"]
Direction = Literal["forward", "backward_data", "backward_weights"]
Padding = int | Sequence[int] | Sequence[Sequence[int]] | Literal["valid", "same"]

ITEM_SIZE: Final[Mapping[str, int]] = {"float32": 4, "float64": 8}
DIRECTIONS: Final = ("forward", "backward_data", "backward_weights")


@dataclass(frozen=True, init=False, slots=True)
class Problem:
    """A 2-D convolution: out[n,k,i,j] = sum over c,a,b of in[n, c, i*sh + a*dh - top, j*sw + b*dw - left] * w[k,c,a,b].

    Filters are not flipped (cross-correlation, as in every deep-learning framework).

    Args:
        height: Rows of the input image.
        width: Columns of the input image.
        out_channels: Number of filters, K.
        kernel_height: Rows of a filter.
        kernel_width: Columns of a filter.
        batch: Number of images, N.
        channels: Number of input channels, C.
        groups: Groups of channels and filters; a filter reads the `channels // groups` channels of its group.
        stride: Step in pixels between neighbouring outputs: one number, or (vertical, horizontal).
        padding: Zeros around the image: n, (vertical, horizontal), ((top, bottom), (left, right)), "valid" (none)
            or "same" (the output is ceil(input / stride); an odd zero goes to the bottom and right). Padding that
            no output reads is dropped, so that two ways to write one problem compare equal.
        dilation: Distance in pixels between neighbouring taps of a filter (1: dense): one number or a pair.
        dtype: "float32" or "float64".
        direction: "forward", "backward_data" or "backward_weights".
        name: Shown in tables, such as "alexnet:conv1"; a trailing "*4" says that a network has the layer four times.

    Raises:
        RequestError: A value is of the wrong type or out of range, a filter does not fit into the padded image, or an
            array would have more than 2**63 - 1 bytes.
    """

    height: int
    width: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    batch: int
    channels: int
    groups: int
    stride: tuple[int, int]
    padding: Sides
    dilation: tuple[int, int]
    dtype: DType
    direction: Direction
    name: str

    def __init__(
        self,
        *,
        height: int,
        width: int,
        out_channels: int,
        kernel_height: int,
        kernel_width: int,
        batch: int = 1,
        channels: int = 1,
        groups: int = 1,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        dtype: DType = "float32",
        direction: Direction = "forward",
        name: str = "",
    ) -> None:
        sizes = {
            "height": height,
            "width": width,
            "out_channels": out_channels,
            "kernel_height": kernel_height,
            "kernel_width": kernel_width,
            "batch": batch,
            "channels": channels,
            "groups": groups,
        }
        for field, value in sizes.items():
            object.__setattr__(self, field, whole_number(field, value, least=1))
        object.__setattr__(self, "stride", pair("stride", stride))
        object.__setattr__(self, "dilation", pair("dilation", dilation))
        object.__setattr__(self, "dtype", one_of("dtype", dtype, ITEM_SIZE))
        object.__setattr__(self, "direction", one_of("direction", direction, DIRECTIONS))
        object.__setattr__(self, "name", checked_name(name))
        self._check_groups()
        object.__setattr__(self, "padding", self._necessary_padding(padding))
        self._check_arrays()

    def _check_groups(self) -> None:
        for field, count in (("channels", self.channels), ("out_channels", self.out_channels)):
            if count % self.groups:
                raise RequestError(
                    f"{field}={count} does not fall into groups={self.groups}; make it a multiple of {self.groups}"
                )

    def _check_arrays(self) -> None:
        arrays = {"input": self.input_shape, "weights": self.weights_shape, "output": self.output_shape}
        for array, shape in arrays.items():
            if (needed := math.prod(shape) * ITEM_SIZE[self.dtype]) > LARGEST:
                raise RequestError(f"the {array} of shape {shape} has {needed} bytes; an array has at most {LARGEST}")

    def _necessary_padding(self, padding: Padding) -> Sides:
        """The padding that was given, without the zeros that no output reads."""
        axes = (
            ("height", self.height, self.kernel_extent[0], self.stride[0]),
            ("width", self.width, self.kernel_extent[1], self.stride[1]),
        )
        found = []
        for (axis, size, extent, stride), asked in zip(axes, sides(padding), strict=True):
            before, after = same_padding(size, extent, stride) if asked == "same" else asked
            if size + before + after < extent:
                raise RequestError(
                    f"a filter that spans {extent} pixels of {axis} does not fit into {axis}={size} with padding "
                    f"{(before, after)}; use a smaller filter or dilation, a larger image, or more padding"
                )
            output = output_length(size, extent, stride, before, after)
            if output == output_length(size, extent, stride, before, before):
                after = before
            else:
                after = max(0, padding_after(size, output, extent, stride, before))
            found.append((before, after))
        return (found[0], found[1])

    def grown(self, times: int) -> Problem:
        """The problem with a higher image, so that there are `times` as many output rows, and so as much work."""
        height = self.height + (times - 1) * self.output_height * self.stride[0]
        return replace(self, height=height)

    def split(self, parts: int, axis: str | None = None) -> tuple[Part[Problem], ...]:
        """Cut a forward problem into at most `parts` parts whose outputs tile the output; see `problem.split.split`.

        Args:
            parts: How many are wanted, from 1 up; there are fewer where the axis has less to cut.
            axis: "images", "rows" (of the output) or "filters"; by default the first that gives as many parts.

        Raises:
            RequestError: The direction is not forward, or an argument is wrong.
        """
        return split(self, parts, axis)

    @property
    def kernel_extent(self) -> tuple[int, int]:
        """(rows, columns) of the input that a dilated filter spans."""
        return (
            (self.kernel_height - 1) * self.dilation[0] + 1,
            (self.kernel_width - 1) * self.dilation[1] + 1,
        )

    @property
    def output_height(self) -> int:
        """Rows of the output."""
        return output_length(self.height, self.kernel_extent[0], self.stride[0], *self.padding[0])

    @property
    def output_width(self) -> int:
        """Columns of the output."""
        return output_length(self.width, self.kernel_extent[1], self.stride[1], *self.padding[1])

    @property
    def group_channels(self) -> int:
        """Input channels of a group, which are the channels of every filter."""
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        """Filters, and so output channels, of a group."""
        return self.out_channels // self.groups

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(batch, channels, height, width)."""
        return (self.batch, self.channels, self.height, self.width)

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """(out_channels, channels // groups, kernel_height, kernel_width)."""
        return (self.out_channels, self.group_channels, self.kernel_height, self.kernel_width)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(batch, out_channels, output_height, output_width)."""
        return (self.batch, self.out_channels, self.output_height, self.output_width)

    @property
    def taps(self) -> int:
        """Products summed into one output element."""
        return self.group_channels * self.kernel_height * self.kernel_width

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the direct form, products with padding zeros counted, in any direction."""
        return self.batch * self.out_channels * self.output_height * self.output_width * self.taps

    @property
    def flops(self) -> int:
        """Floating-point operations of the direct form: two for each multiply-add."""
        return 2 * self.multiply_adds

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output together: the least memory traffic."""
        elements = sum(math.prod(shape) for shape in (self.input_shape, self.weights_shape, self.output_shape))
        return ITEM_SIZE[self.dtype] * elements

    @property
    def count(self) -> int:
        """Number of times that the layer occurs in its network: 4 for the name "res2a*4", 1 without a star."""
        _, star, count = self.name.rpartition("*")
        return int(count) if star and count.isdecimal() else 1

    @property
    def network(self) -> str:
        """The network that the name tells, "alexnet" of "alexnet:conv1*2"; empty if it tells none."""
        network, colon, _ = self.name.partition(":")
        return network if colon else ""

    @property
    def label(self) -> str:
        """Its title in tables: the name, or the descriptor where there is no name."""
        return self.name or str(self)

    def __str__(self) -> str:
        output = {"output_height": self.output_height, "output_width": self.output_width}
        return write({field: getattr(self, field) for field in self.__dataclass_fields__} | output)

    @classmethod
    def parse(cls, descriptor: str) -> Problem:
        """Read a problem in benchdnn's notation, with the options `--dir=`, `--dt=` and `--mb=N` before it, if any.

        Raises:
            RequestError: The descriptor cannot be read, or its entries contradict each other.
        """
        return cls(**read(descriptor))
