"""The textbook loops, as a reference for comparison with the other forms."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from convbench.algorithms import Algorithm, Footprint, Implementation, forward_only
from convbench.epilogue import Epilogue
from convbench.kernels.fields import pack, unpacker
from convbench.kernels.grid import Grid, locate
from convbench.kernels.tile import Phase, TileName, Work, jit
from convbench.problem import Problem
from convbench.rounding import of_sums


class Parameters(NamedTuple):
    """The parameters of the tile: the grid of units, and the problem's geometry."""

    grid: Grid
    kernel_height: int
    kernel_width: int
    stride_y: int
    stride_x: int
    dilation_y: int
    dilation_x: int
    top: int
    left: int


unpack = unpacker(Parameters)


@jit
def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """A unit is one row of one output channel of one image."""
    p = unpack(parameters)
    channels = x.shape[1] // p.grid.groups
    for unit in range(first, last):
        place = locate(p.grid, unit)
        out_channel, row = place.group * p.grid.filter_blocks + place.filter_block, place.band
        for column in range(out.shape[3]):
            total = x.dtype.type(0)
            tap = out_channel * channels * p.kernel_height * p.kernel_width
            for channel in range(place.group * channels, (place.group + 1) * channels):
                for a in range(p.kernel_height):
                    y = row * p.stride_y - p.top + a * p.dilation_y
                    for b in range(p.kernel_width):
                        z = column * p.stride_x - p.left + b * p.dilation_x
                        if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                            total += x[place.image, channel, y, z] * weights[tap]
                        tap += 1
            out[place.image, out_channel, row, column] = total


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """The work, with unpacked weights."""
    grid = Grid(problem.batch, problem.groups, problem.output_height, segments=1, filter_blocks=problem.group_filters)
    (top, _), (left, _) = problem.padding
    kernel = problem.kernel_height, problem.kernel_width
    parameters = Parameters(grid, *kernel, *problem.stride, *problem.dilation, top, left)
    return Work(
        phases=(Phase(TileName(__name__, "tile"), grid.units, pack(parameters)),),
        weights=weights.ravel(),
        errors=of_sums(problem),
    )


NAIVE = Algorithm(
    supports=forward_only,
    implementations=(Implementation("numba", prepare, footprint=lambda _: Footprint(0, 0)),),
)
