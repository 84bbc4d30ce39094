"""Which problems `convbench tune` measures, and in what order.

First the layers of the listed networks, the experiment and a representative sample of the `timm` list; then further
layers of that, drawn by how often they occur, in turns with problems that fill the space of shapes up; and every few
problems one on which the model is least sure.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from convbench import networks
from convbench.errors import ConvbenchError
from convbench.problem import Problem
from convbench.results.paper import PROBLEM as EXPERIMENT
from convbench.select.contenders import able, core_counts, name_of
from convbench.select.likeness import coordinates, distances
from convbench.select.model import Model

LIST: Final = "timm"
LARGEST_WORK: Final = 2e10  # multiply-adds of a problem that is measured; a second or so on one core
LARGEST_BYTES: Final = 2**29  # of its arrays
SAMPLE: Final = 200  # listed layers that are measured on every machine
FILLED: Final = 3  # listed layers for each problem that fills the space up
UNSURE: Final = 8  # problems of the design for each on which the model is least sure
POOL: Final = 400  # problems among which the least sure is looked for
CLOSE: Final = 0.25  # log of the ratio of the two best candidates at which it is clear which is faster


def design(seed: int = 0) -> Iterator[Problem]:
    """Problems to measure, endless, without names; the same for the same seed."""
    draw = random.Random(seed)
    seen: set[Problem] = set()
    suites = [name for name in networks.NETWORKS if name != LIST]
    yield from _new((layer.problem for name in suites for layer in networks.load(name)), seen)
    yield from _new([EXPERIMENT], seen)
    yield from _new((layer.problem for layer in networks.load(LIST, layers=SAMPLE)), seen)
    drawn, filling = drawn_by_occurrence(draw), _filling(draw)
    while True:
        listed = [problem for _, problem in zip(range(FILLED), drawn, strict=False)]
        yield from _new([*listed, next(filling)], seen)


def drawn_by_occurrence(draw: random.Random) -> Iterator[Problem]:
    """The layers of the list in random order, those that occur often first.

    Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    """
    layers = networks.load(LIST)
    order = sorted(layers, key=lambda layer: draw.random() ** (1 / layer.count), reverse=True)
    return (layer.problem for layer in order)


def _filling(draw: random.Random) -> Iterator[Problem]:
    """Random problems over the space of shapes, sizes by their logarithms."""
    while True:
        problem = random_problem(draw)
        if problem is not None:
            yield problem


def random_problem(draw: random.Random) -> Problem | None:
    """A problem that networks or image processing might have; None if the draw does not fit together."""

    def size(least: int, most: int) -> int:
        return round(least * math.exp(math.log(most / least) * draw.random()))

    rows = draw.choice((1, 1, 3, 3, 3, 5, 7, size(1, 15), 11))
    columns = draw.choice((rows, rows, rows, rows, 1, size(1, 15)))
    stride = draw.choice((1, 1, 1, 2, 2, 4))
    groups = draw.choice((1, 1, 1, size(2, 32), size(8, 512)))
    depthwise = groups > 1 and draw.random() < 0.7
    channels, filters = (groups, groups) if depthwise else (groups * size(1, 512), groups * size(1, 512))
    height = size(1, 256) if draw.random() < 0.8 else size(128, 1024)
    try:
        return Problem(
            height=height,
            width=max(1, round(height * draw.choice((1, 1, 1, 16 / 9, 0.5)))),
            channels=draw.choice((channels, channels, channels, 1, 3)) if groups == 1 else channels,
            out_channels=filters,
            kernel_height=rows,
            kernel_width=columns,
            groups=groups,
            batch=draw.choice((1, 1, 1, 1, size(2, 16))),
            stride=stride,
            dilation=draw.choice((1, 1, 1, 1, 1, 2)),
            padding=draw.choice((0, (rows // 2, columns // 2), "same")),
            dtype=draw.choice(("float32", "float32", "float32", "float64")),
        )
    except ConvbenchError:
        return None


def _new(problems: Iterable[Problem], seen: set[Problem]) -> Iterator[Problem]:
    """Problems that have not been seen and are not too large, without names."""
    for problem in problems:
        bare = replace(problem, name="")
        if bare not in seen and is_measurable(bare):
            seen.add(bare)
            yield bare


def is_measurable(problem: Problem) -> bool:
    """Whether a problem is small enough to be measured in seconds."""
    return problem.multiply_adds <= LARGEST_WORK and problem.bytes <= LARGEST_BYTES


def least_sure(model: Model, pool: Sequence[Problem], cores: int) -> Problem:
    """The problem whose two best candidates are hardest to tell apart, far from what was measured before others."""

    def doubt(problem: Problem) -> float:
        names = [name_of(one) for one in able(problem, "numba", core_counts(cores))]
        times = sorted(estimate.seconds for estimate in model.predict(problem, names).values())
        if len(times) < 2:
            return 0.0
        apart = float(distances(model.points, coordinates(problem)).min(initial=9.0))
        return apart * float(np.exp(-np.log(times[1] / times[0]) / CLOSE))

    return max(pool, key=doubt)
