"""The grid of a phase's units: the mapping from a unit's number to its part of the output."""

from __future__ import annotations

from typing import NamedTuple

from convbench.kernels.tile import inlined


class Grid(NamedTuple):
    """Number of parts of the output along each axis; every combination is a unit.

    Attributes:
        images: Images of the batch.
        groups: Groups of channels and filters.
        bands: Bands of rows of an image.
        segments: Segments of columns of an image.
        filter_blocks: Filter blocks of a group.
    """

    images: int
    groups: int
    bands: int
    segments: int
    filter_blocks: int

    @property
    def units(self) -> int:
        """Number of units of the grid."""
        return self.positions * self.filter_blocks

    @property
    def positions(self) -> int:
        """Number of units for one filter block."""
        return self.images * self.groups * self.bands * self.segments


class Place(NamedTuple):
    """The part of the output that a unit computes: its index along each axis of the grid."""

    image: int
    group: int
    band: int
    segment: int
    filter_block: int


@inlined
def locate(grid, unit):  # type: ignore[no-untyped-def]
    """The `Place` of a unit; the filter block varies fastest, then the segment, band, group and image."""
    rest, filter_block = divmod(unit, grid.filter_blocks)
    rest, segment = divmod(rest, grid.segments)
    rest, band = divmod(rest, grid.bands)
    image, group = divmod(rest, grid.groups)
    return Place(image, group, band, segment, filter_block)


@inlined
def at_position(grid, unit, last, most):  # type: ignore[no-untyped-def]
    """How many of the units from `unit` to `last` differ from the first by their filter block alone, and at most."""
    return min(most, last - unit, grid.filter_blocks - unit % grid.filter_blocks)
