"""Padded planes: channels of an image with zeros around them, or a band of their rows.

Rows are copied by whole vectors with masks, so that short rows cost little. And thinned planes: of a channel, only the
pixels that a kernel of one tap reads.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from convbench.kernels.clock import lap, ticks
from convbench.kernels.copying import pad_row
from convbench.kernels.fields import unpacker
from convbench.kernels.tile import inlined, jit

STAGES: Final = ("pad",)
GATHER: Final = 4  # cycles of a pixel of a thinned plane


class Planes(NamedTuple):
    """The size of padded planes.

    Attributes:
        height: Rows of a plane, or of a band of it.
        width: Columns.
        top: Rows of zeros above the image.
        left: Columns of zeros left of the image.
    """

    height: int
    width: int
    top: int
    left: int


unpack = unpacker(Planes)


class Thinned(NamedTuple):
    """The size of thinned planes.

    Attributes:
        height: Rows of a plane.
        width: Columns.
        row_step: Rows of the image from one row to the next.
        column_step: Columns of the image from one pixel to the next.
    """

    height: int
    width: int
    row_step: int
    column_step: int


unpack_thinned = unpacker(Thinned)


@inlined
def pad_plane(lanes, x, flat, image, channel, planes, first_row, target, target_begin):  # type: ignore[no-untyped-def]
    """Write `planes.height` padded rows of one channel to `target`, from row `first_row` of the padded image on.

    Args:
        lanes: Elements of a vector.
        x: The input, shape (batch, channels, height, width).
        flat: The same, 1-D.
        image: Number of the image.
        channel: Number of the channel.
        planes: The size.
        first_row: Row of the padded image.
        target: 1-D.
        target_begin: Index in `target` of the first element.
    """
    height, width = x.shape[2], x.shape[3]
    begin = (image * x.shape[1] + channel) * height
    for number in range(planes.height):
        row = first_row + number - planes.top
        inside = 0 <= row < height
        pad_row(
            lanes=lanes,
            source=flat,
            source_begin=(begin + row) * width if inside else 0,
            count=width if inside else 0,
            left=planes.left,
            target=target,
            target_begin=target_begin + number * planes.width,
            padded=planes.width,
        )


def make_tile(lanes: int) -> Any:
    """The tile that pads whole planes to the workspace; `parameters` are `Planes`."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is one channel of one image."""
        planes, flat = unpack(parameters), x.reshape(x.size)
        for unit in range(first, last):
            since = ticks()
            image, channel = divmod(unit, x.shape[1])
            pad_plane(lanes, x, flat, image, channel, planes, 0, workspace, unit * planes.height * planes.width)
            lap(clock, 0, since)

    return tile


def make_thinning_tile() -> Any:
    """The tile that writes thinned planes to the workspace; `parameters` are `Thinned`."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        """A unit is one channel of one image."""
        p, flat = unpack_thinned(parameters), x.reshape(x.size)
        image_row = p.row_step * x.shape[3]
        for unit in range(first, last):
            since = ticks()
            source, target = unit * x.shape[2] * x.shape[3], unit * p.height * p.width
            for _ in range(p.height):
                for column in range(p.width):
                    workspace[target + column] = flat[source + column * p.column_step]
                source, target = source + image_row, target + p.width
            lap(clock, 0, since)

    return tile
