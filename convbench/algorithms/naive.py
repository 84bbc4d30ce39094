"""The textbook loops, as in the multicore experiment: for each kernel, each pixel, each tap."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from convbench.algorithms import Algorithm, Footprint, Implementation, forward_only
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.kernels.tile import TileName, Work, geometry, jit, unpack
from convbench.problem import Problem
from convbench.rounding import of_sums


@jit
def tile(x, weights, out, parameters, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """A unit is one row of one output channel of one image."""
    groups, kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, top, left = unpack(parameters)
    _, _, height, width = x.shape
    _, out_channels, rows, columns = out.shape
    channels = x.shape[1] // groups
    for unit in range(first, last):
        image, rest = divmod(unit, out_channels * rows)
        kernel, row = divmod(rest, rows)
        first_channel = kernel // (out_channels // groups) * channels
        for column in range(columns):
            total = x.dtype.type(0)
            tap = kernel * channels * kernel_height * kernel_width
            for channel in range(first_channel, first_channel + channels):
                for a in range(kernel_height):
                    y = row * stride_y - top + a * dilation_y
                    for b in range(kernel_width):
                        z = column * stride_x - left + b * dilation_x
                        if 0 <= y < height and 0 <= z < width:
                            total += x[image, channel, y, z] * weights[tap]
                        tap += 1
            out[image, kernel, row, column] = total


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> Work:
    """The weights as they are; nothing is packed."""
    return Work(
        tile=TileName(__name__, "tile"),
        units=problem.batch * problem.out_channels * problem.output_height,
        weights=weights.ravel(),
        parameters=geometry(problem),
        errors=of_sums(problem),
    )


NAIVE = Algorithm(
    supports=forward_only,
    implementations=(Implementation("numba", prepare, footprint=lambda _: Footprint(0, 0)),),
)
