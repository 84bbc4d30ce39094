"""The layers of a network: each once, with how often the network has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from convbench.arguments import LONGEST_NAME
from convbench.problem import Problem

LONGEST_STEM: Final = 80  # characters of a file's name in the name of a layer


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        problem: What it computes; the name ends in "*count" where the count is more than one.
        count: How many layers of the network compute this.
    """

    problem: Problem
    count: int


@dataclass(frozen=True)
class Suite:
    """The layers of a network.

    Attributes:
        name: Of the network, or the path of the files.
        layers: Distinct ones, in the order of the file.
        skipped: Reasons for which problems of the files were left out, and how many were.
    """

    name: str
    layers: tuple[Layer, ...]
    skipped: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, name: str, problems: Iterable[Problem], skipped: Mapping[str, int]) -> Suite:
        """The suite of some problems; one that has no name is called by its place, such as "timm:17*3"."""
        stem = re.sub(r"[^\w.+-]", "_", Path(name).name)[:LONGEST_STEM]
        layers = [
            Layer(_named(layer.problem, _base(layer.problem) or f"{stem}:{place}", layer.count), layer.count)
            for place, layer in enumerate(merged(problems), 1)
        ]
        return cls(name, tuple(layers), tuple(skipped.items()))

    @property
    def occurrences(self) -> int:
        """How many layers the network has, each as often as it occurs."""
        return sum(layer.count for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers, each as often as it occurs."""
        return sum(layer.count * layer.problem.multiply_adds for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes of input, weights and output of all layers, each as often as it occurs."""
        return sum(layer.count * layer.problem.bytes for layer in self.layers)

    def with_batch(self, batch: int) -> Suite:
        """The same layers for so many images."""
        return replace(self, layers=merged(with_batch(layer.problem, batch) for layer in self.layers))

    def sample(self, number: int) -> Suite:
        """So many of the layers, or all where there are fewer, such that kinds and sizes are there in proportion.

        It is a systematic sample with probability proportional to size, where the size of a layer is how often it
        occurs (Madow, "On the theory of systematic sampling, II", 1949). Layers are put in order by kind (dense,
        grouped, depthwise; 1 x 1 or larger filters; strided or not) and by multiply-adds, each as long as its count,
        and taken at equal distances; those that are longer than the distance are taken first. So a kind that makes up a
        tenth of the occurrences makes up a tenth of the sample, small and large layers alike, but for layers that occur
        so often that they would be drawn more than once. Nothing is random.
        """
        if number >= len(self.layers):
            return self
        taken: set[Problem] = set()
        left = sorted(self.layers, key=lambda layer: (*_kind(layer.problem), layer.problem.multiply_adds))
        while longer := _longer(left, number - len(taken)):
            taken.update(layer.problem for layer in longer)
            left = [layer for layer in left if layer.problem not in taken]
        taken.update(layer.problem for layer in _systematic(left, number - len(taken)))
        return replace(self, layers=tuple(layer for layer in self.layers if layer.problem in taken))


def merged(problems: Iterable[Problem]) -> tuple[Layer, ...]:
    """Each distinct problem once, with the first name that it has and how often it occurs in all."""
    names: dict[Problem, str] = {}
    counts: dict[Problem, int] = {}
    for problem in problems:
        plain = replace(problem, name="")
        names[plain] = names.get(plain) or _base(problem)
        counts[plain] = counts.get(plain, 0) + max(1, problem.count)
    return tuple(Layer(_named(plain, names[plain], count), count) for plain, count in counts.items())


def with_batch(problem: Problem, batch: int | None) -> Problem:
    """The problem for so many images; None leaves it as it is."""
    return problem if batch is None else replace(problem, batch=batch)


def _base(problem: Problem) -> str:
    """The name without its multiplicity."""
    base, star, count = problem.name.rpartition("*")
    return base if star and count.isdecimal() else problem.name


def _named(problem: Problem, base: str, count: int) -> Problem:
    end = f"*{count}" if count > 1 else ""
    return replace(problem, name=base[: LONGEST_NAME - len(end)] + end)


def _kind(problem: Problem) -> tuple[bool, bool, bool, bool]:
    """Grouped, depthwise, 1 x 1, strided."""
    grouped = problem.groups > 1
    pointwise = problem.kernel_height == problem.kernel_width == 1
    return grouped, grouped and problem.group_channels == 1, pointwise, problem.stride != (1, 1)


def _longer(layers: list[Layer], number: int) -> list[Layer]:
    """The layers that are at least as long as the distance between so many."""
    total = sum(layer.count for layer in layers)
    return [layer for layer in layers if layer.count * number >= total]


def _systematic(layers: list[Layer], number: int) -> list[Layer]:
    """So many of the layers at equal distances, the first of them half a distance from the beginning."""
    total = sum(layer.count for layer in layers)
    taken: list[Layer] = []
    end = 0
    for layer in layers:
        end += layer.count
        if (2 * len(taken) + 1) * total < 2 * number * end:
            taken.append(layer)
    return taken
