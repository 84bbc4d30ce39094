"""The epilogue as a separate phase, for algorithms that do not fuse it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from convbench.epilogue import Epilogue
from convbench.kernels.fields import pack, unpacker
from convbench.kernels.tile import Phase, TileName, Work, jit
from convbench.problem import Problem


class Parameters(NamedTuple):
    """The parameters of the tile.

    Attributes:
        biases: Index in the weights of the first filter's bias.
        relu: Whether ReLU is applied.
    """

    biases: int
    relu: int


unpack = unpacker(Parameters)


@jit
def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """A unit is one output channel of one image."""
    p = unpack(parameters)
    for unit in range(first, last):
        image, channel = divmod(unit, out.shape[1])
        bias, plane = weights[p.biases + channel], out[image, channel]
        for row in range(plane.shape[0]):
            for column in range(plane.shape[1]):
                value = plane[row, column] + bias
                plane[row, column] = 0 if p.relu and value < 0 else value


def with_epilogue(work: Work, problem: Problem, epilogue: Epilogue) -> Work:
    """Append the epilogue to a work as a last phase, and the biases to its weights."""
    biases = epilogue.biases(problem, problem.group_filters).ravel()
    parameters = Parameters(work.weights.size, epilogue.relu)
    phase = Phase(TileName(__name__, "tile"), problem.batch * problem.out_channels, pack(parameters))
    return dataclasses.replace(work, phases=(*work.phases, phase), weights=np.concatenate([work.weights, biases]))
