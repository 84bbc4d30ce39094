"""Which problems are held out: pairs of a training side and a test side."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, TypeVar

from convbench.errors import RequestError
from convbench.select.judging.table import Table

Split = tuple[list[int], list[int]]
"""Rows to learn from, and rows to judge by."""
Splitting = Callable[[Table, int, int], list[Split]]
"""From a table, a number of folds and a seed; a `RequestError` says why a table cannot be split so."""

Key = TypeVar("Key", bound=Hashable)


def by_layer(table: Table, folds: int, seed: int) -> list[Split]:
    """Folds of shapes: problems of the same shape are never on both sides."""
    return _folds(table.shapes, folds, seed, "different shape")


def at_random(table: Table, folds: int, seed: int) -> list[Split]:
    """Folds of rows; problems of the same shape may be on both sides."""
    return _folds(table.problems, folds, seed, "problem")


def by_network(table: Table, _folds: int, _seed: int) -> list[Split]:
    """Each network once: neither its problems nor others of the same shapes are learned from.

    Problems of no network are only learned from.
    """
    names = sorted(set(table.networks) - {""})
    splits = []
    for name in names:
        test = [row for row, network in enumerate(table.networks) if network == name]
        seen = {table.shapes[row] for row in test}
        train = [row for row, shape in enumerate(table.shapes) if shape not in seen]
        if train:
            splits.append((train, test))
    if len(splits) < 2:
        raise RequestError(
            f"the problems name {len(names)} network{'s' * (len(names) != 1)} with shapes of their own; holding out by "
            'network takes 2 or more, named as in n"alexnet:conv1"'
        )
    return splits


SPLITTINGS: Final[Mapping[str, Splitting]] = {"layer": by_layer, "network": by_network, "random": at_random}
"""Ways to hold out, by what is held out."""


def _folds(keys: Sequence[Key], folds: int, seed: int, what: str) -> list[Split]:
    """Rows with equal keys together, dealt in an order that the seed alone decides; as many folds as there are keys."""
    ordered = sorted(set(keys), key=str)
    if len(ordered) < 2:
        raise RequestError(f"there is only {len(ordered)} {what}; holding some out takes 2 or more")
    random.Random(seed).shuffle(ordered)
    count = min(folds, len(ordered))
    fold = {key: number % count for number, key in enumerate(ordered)}
    numbers = [fold[key] for key in keys]
    return [
        (
            [row for row, at in enumerate(numbers) if at != number],
            [row for row, at in enumerate(numbers) if at == number],
        )
        for number in range(count)
    ]
