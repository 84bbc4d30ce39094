"""Tiles that compute on other arrays than the call's: on parts of the workspace, or on the same memory, of other shape.

So a phase of the work for one problem serves another problem, whose arrays are made of the first one's.
"""

from __future__ import annotations

from dataclasses import replace
from types import FunctionType
from typing import Any, Final, NamedTuple

import numpy as np

from convbench.kernels.fields import pack, unpacker
from convbench.kernels.tile import Phase, TileName, borrowed, jit

ALIGNMENT: Final = 64  # elements: where an array in the workspace begins


class Place(NamedTuple):
    """Where an array lies in the workspace, and its shape."""

    begin: int
    images: int
    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.images * self.channels * self.height * self.width

    @property
    def end(self) -> int:
        """The first element after it at which an array may begin."""
        return self.begin + -(-self.size // ALIGNMENT) * ALIGNMENT


class Parameters(NamedTuple):
    """The parameters of a tile on parts of the workspace; those of the tile inside follow them.

    Attributes:
        x: Its input.
        out: Its output.
        workspace: Where its own workspace begins.
    """

    x: Place
    out: Place
    workspace: int


unpack = unpacker(Parameters)
FIELDS: Final = 11  # integers of `Parameters`


inside: Any = None  # in the tiles below, the tile inside: a global name of theirs, see `_made`


def make_tile(module: str, name: str, *arguments: int | str) -> Any:
    """A tile whose input and output are parts of the workspace."""
    return _made(tile_on_parts, TileName(module, name, arguments))


def make_turned(module: str, name: str, *arguments: int | str) -> Any:
    """A tile for rows, on maps of one column."""
    return _made(tile_on_rows, TileName(module, name, arguments))


def _made(function: Any, name: TileName) -> Any:
    """A tile around another one.

    The other one is no closure: Numba looks machine code up on disk by what a closure holds, and a compiled function in
    it is another one in every process.
    """
    names = {**function.__globals__, "inside": name.make()}
    return jit(FunctionType(function.__code__, names, function.__name__))


def tile_on_parts(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """The units of the tile inside."""
    p, shared = unpack(parameters), borrowed(workspace)
    source, target = p.x, p.out
    size = source.images * source.channels * source.height * source.width
    given = shared[source.begin : source.begin + size]
    size = target.images * target.channels * target.height * target.width
    found = shared[target.begin : target.begin + size]
    inside(
        given.reshape((source.images, source.channels, source.height, source.width)),
        weights,
        found.reshape((target.images, target.channels, target.height, target.width)),
        parameters[FIELDS:],
        shared[p.workspace :],
        scratch,
        clock,
        first,
        last,
    )


def tile_on_rows(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """The units of the tile inside."""
    row = x.reshape((x.shape[0], x.shape[1], x.shape[3], x.shape[2]))
    out_row = out.reshape((out.shape[0], out.shape[1], out.shape[3], out.shape[2]))
    inside(row, weights, out_row, parameters, workspace, scratch, clock, first, last)


def on_parts(phase: Phase, parameters: Parameters) -> Phase:
    """The phase, with input, output and workspace in parts of a larger workspace."""
    tile = phase.tile
    inside = TileName(__name__, "make_tile", (tile.module, tile.name, *(tile.arguments or ())))
    return replace(phase, tile=inside, parameters=np.concatenate([pack(parameters), phase.parameters]))


def turned(phase: Phase) -> Phase:
    """The phase, for maps of one column instead of one row."""
    tile = phase.tile
    return replace(phase, tile=TileName(__name__, "make_turned", (tile.module, tile.name, *(tile.arguments or ()))))
