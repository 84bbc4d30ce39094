"""Direct convolution on the host: of the ways to fill vectors, the one that is estimated to take the fewest cycles.

Vectors hold pixels of a row (`pixels`) or filters (`filters`): rows of few columns fill vectors of pixels badly, and
few filters those of filters. Groups, few filters and few taps are read where they lie, down columns of vectors of
pixels (`columns`). Kernels of one tap are matrix products (`product`).
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from types import ModuleType
from typing import Any, Final

from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.algorithms.direct import columns, filters, pixels, product
from convbench.epilogue import Epilogue
from convbench.kernels.output import is_far
from convbench.kernels.tile import Work
from convbench.kernels.tuning import tuning
from convbench.problem import ITEM_SIZE, Problem

DENSE: Final = (product, filters, pixels)
WAITS: Final = 1.12  # times as long as estimated with as many taps as filters in the lanes add at a time, or more
SHORT: Final = 20_000  # cycles of a call, of which two cores save half, and take as long to begin and end it together
RATE: Final = 8  # bytes of input and output that a call reads, pads and writes in a cycle beside
LEAVES: Final = 1.25  # likewise with one tap of each channel, where outputs leave the caches ...
LEAVING: Final = 48  # ... with so many taps, at least: with fewer, filters in the lanes transpose more than they add
BANDS: Final = 8000  # cycles by which filling bands takes longer
SPREADS: Final = 1.6  # likewise where columns of vectors have one tap, and so write to many planes after little work


def way(problem: Problem) -> ModuleType:
    """The module whose blocking of a problem takes the fewest cycles."""
    able = (columns, *DENSE) if columns.suits(problem) else DENSE
    return min(able, key=partial(_cycles, problem))


def _cycles(problem: Problem, one: ModuleType) -> float:
    """Estimated cycles of a way; where there are few registers, with what its own estimate leaves out."""
    cycles: float = one.blocking(problem).cycles
    most = tuning().part_taps
    if not most or one is filters:
        return cycles
    if one is columns:
        return cycles * (SPREADS if problem.taps == problem.group_channels else 1.0)
    waits: float = WAITS ** min(1.0, problem.taps / most)
    if problem.taps == problem.group_channels >= LEAVING and is_far(problem):
        waits *= LEAVES
    return cycles * waits + (BANDS if one is pixels else 0)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Work:
    """Pack the weights for the micro-kernel, followed by the biases."""
    taken = way(problem)
    work: Work = taken.prepare(problem, weights, epilogue)
    moved = (math.prod(problem.input_shape) + math.prod(problem.output_shape)) * ITEM_SIZE[problem.dtype]
    return dataclasses.replace(work, is_short=taken.blocking(problem).cycles + moved / RATE < SHORT)


def footprint(problem: Problem) -> Footprint:
    """Scratch, workspace and the packed weights."""
    needed: Footprint = way(problem).footprint(problem)
    return needed
