"""The grid of a phase's units: which part of the output each of them fills."""

from __future__ import annotations

from typing import NamedTuple

from convbench.kernels.tile import inlined


class Grid(NamedTuple):
    """How many parts the output is cut into in each direction; every combination is a unit.

    Attributes:
        images: Of the batch.
        groups: Of filters.
        bands: Of rows.
        segments: Of columns.
        filter_blocks: Of a group's filters.
    """

    images: int
    groups: int
    bands: int
    segments: int
    filter_blocks: int

    @property
    def units(self) -> int:
        """Units of the grid."""
        return self.positions * self.filter_blocks

    @property
    def positions(self) -> int:
        """Units for one block of filters."""
        return self.images * self.groups * self.bands * self.segments


class Place(NamedTuple):
    """The part that a unit fills: its index in each direction of the grid."""

    image: int
    group: int
    band: int
    segment: int
    filter_block: int


@inlined
def locate(grid, unit):  # type: ignore[no-untyped-def]
    """The `Place` of a unit; neighbouring units differ in the filter block, then in the segment."""
    rest, filter_block = divmod(unit, grid.filter_blocks)
    rest, segment = divmod(rest, grid.segments)
    rest, band = divmod(rest, grid.bands)
    image, group = divmod(rest, grid.groups)
    return Place(image, group, band, segment, filter_block)
