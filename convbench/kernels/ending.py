"""The epilogue as a separate phase, for algorithms that do not fuse it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from convbench.epilogue import Epilogue
from convbench.kernels.fields import Table, pack, unpacker
from convbench.kernels.tile import Phase, TileName, Work, jit
from convbench.problem import Problem


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        relu: Whether ReLU is applied.
        biases: Biases of the output channels, as bits of float64, so that the weights need no copy.
    """

    relu: int
    biases: Table


unpack = unpacker(Parameters)


@jit
def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """A unit is one output channel of one image."""
    p = unpack(parameters)
    biases = p.biases.view(np.float64)
    for unit in range(first, last):
        image, channel = divmod(unit, out.shape[1])
        bias, plane = out.dtype.type(biases[channel]), out[image, channel]
        for row in range(plane.shape[0]):
            for column in range(plane.shape[1]):
                value = plane[row, column] + bias
                plane[row, column] = 0 if p.relu and value < 0 else value


def with_epilogue(work: Work, problem: Problem, epilogue: Epilogue) -> Work:
    """Append the epilogue to a work as a last phase."""
    biases = epilogue.biases(problem, problem.group_filters).ravel().astype(np.float64)
    parameters = Parameters(epilogue.relu, biases.view(np.int64))
    phase = Phase(TileName(__name__, "tile"), problem.batch * problem.out_channels, pack(parameters))
    return dataclasses.replace(work, phases=(*work.phases, phase))
