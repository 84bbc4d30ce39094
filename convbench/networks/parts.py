"""Which of some problems each network has, and how often: of a request, and as the problems' names tell it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from convbench.arguments import LARGEST
from convbench.networks import Suite, load
from convbench.problem import Problem

Parts = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
"""The name of each network, and with it descriptors of its layers and how often it has each."""


def told_by_names(problems: Iterable[Problem]) -> Parts:
    """Networks as the names of problems tell them, see `Problem.network` and `Problem.count`."""
    found: dict[str, dict[str, int]] = {}
    for problem in problems:
        if problem.network:
            found.setdefault(problem.network, {})[str(problem)] = min(max(1, problem.count), LARGEST)
    return tuple((name, tuple(layers.items())) for name, layers in found.items())


def parts_of(problems: Sequence[Problem], suites: Sequence[Suite], mb: int | None, layers: int | None) -> Parts:
    """The networks of a request whose layers are among `problems`; empty where the problems' names tell the same.

    They do not where a problem is a layer of two networks, or of a network and asked for by itself, since it is
    measured once, by one name; or where layers of a file have no network in their names.
    """
    place = {_plain(problem): str(problem) for problem in problems}
    found: dict[str, tuple[tuple[str, int], ...]] = {}
    for suite in suites:
        name = _name(suite)
        which = load(suite, mb, layers)
        found[name if name not in found else f"{name} ({len(found) + 1})"] = tuple(
            (place[_plain(layer.problem)], layer.count) for layer in which
        )
    parts = tuple(found.items())
    return () if parts == told_by_names(problems) else parts


def _plain(problem: Problem) -> Problem:
    return dataclasses.replace(problem, name="")


def _name(suite: Suite) -> str:
    """What the layers' names tell of their network, or else the last part of the suite's own name."""
    told = {layer.problem.network for layer in suite.layers}
    own = re.sub(r"[^\w.+-]", "_", Path(suite.name).name) or "network"
    return told.pop() or own if len(told) == 1 else own
