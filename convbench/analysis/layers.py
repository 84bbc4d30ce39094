"""Networks layer by layer: the best of ours for each, the best library, totals in which a layer counts as it occurs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from convbench.analysis.fastest import rank
from convbench.analysis.places import Key, Place, cells_at, fastest, places
from convbench.analysis.series import Series
from convbench.analysis.statistics import Estimate, geometric_mean, mean_time
from convbench.analysis.times import CellTimes
from convbench.networks.parts import told_by_names
from convbench.problem import Problem

STAND_IN: Final = "direct"
"""The form that computes the layers which another one cannot."""
NO_COMMON_RUN: Final = "a total takes runs that have every layer"
Counted = Sequence[tuple[int, CellTimes]]
"""Cells, and how often each counts."""


@dataclass(frozen=True)
class Fastest:
    """The fastest of some cells that do the same work: its key, its times, and the keys that cannot be told from it."""

    key: Key
    cell: CellTimes
    tied: tuple[Key, ...]

    @classmethod
    def of(cls, cells: Mapping[Key, CellTimes], *, ours: bool) -> Self | None:
        """The fastest of ours, or of the libraries that compute all of the convolution; None if there is none."""
        ranking = fastest(cells, ours=ours)
        return None if ranking is None else cls(ranking.best[0], cells[ranking.best[0]], ranking.best[1:])


@dataclass(frozen=True)
class LayerTimes:
    """A layer of a network, and what was measured of it in one place.

    Attributes:
        problem: What it computes.
        count: How often the network has it.
        cells: What was measured, but for cells with fewer cores than they asked for.
    """

    problem: Problem
    count: int
    cells: Mapping[Key, CellTimes]

    @cached_property
    def ours(self) -> Fastest | None:
        """The fastest candidate of ours."""
        return Fastest.of(self.cells, ours=True)

    @cached_property
    def theirs(self) -> Fastest | None:
        """The fastest library."""
        return Fastest.of(self.cells, ours=False)

    def of_form(self, form: str) -> CellTimes | None:
        """The fastest cell of one of our forms, or of a library."""
        found = {key: cell for key, cell in self.cells.items() if key[0] == form and not cell.bound}
        return self.cells[rank(found).reference] if found else None


@dataclass(frozen=True)
class OneForm:
    """Every layer by one form.

    Attributes:
        form: Its name, or a library's.
        peer: Whether it is a library.
        cells: For each layer that any of ours computes how often it counts, and the form's fastest cell.
        stood_in: How many of them another form, `STAND_IN`, computes, since this one cannot.
    """

    form: str
    peer: bool
    cells: Counted
    stood_in: int


@dataclass(frozen=True)
class NetworkTimes:
    """A network in one place; its layers in the order of the network, measured there or not."""

    name: str
    place: Place
    layers: tuple[LayerTimes, ...]

    @property
    def computed(self) -> list[LayerTimes]:
        """The layers that were measured with any form of ours."""
        return [layer for layer in self.layers if layer.ours is not None]

    @property
    def best(self) -> list[tuple[int, CellTimes]]:
        """How often each of these counts, and the cell of its best form."""
        return [(layer.count, layer.ours.cell) for layer in self.layers if layer.ours is not None]

    @property
    def compared(self) -> list[tuple[int, CellTimes, CellTimes]]:
        """Of layers that a library computed, too: how often each counts, the best of ours, and the best library."""
        return [
            (layer.count, layer.ours.cell, layer.theirs.cell)
            for layer in self.layers
            if layer.ours is not None and layer.theirs is not None
        ]

    def by_one_form(self) -> Iterator[OneForm]:
        """For each form that computes all layers, alone or with `STAND_IN`, and for each library that does alone."""
        layers = self.computed
        kinds = {key[0]: cell.peer for layer in layers for key, cell in layer.cells.items() if not cell.bound}
        for form, peer in kinds.items():
            alone = [layer.of_form(form) for layer in layers]
            stand_ins = alone if peer else [layer.of_form(STAND_IN) for layer in layers]
            chosen = [own or other for own, other in zip(alone, stand_ins, strict=True)]
            cells = [(layer.count, cell) for layer, cell in zip(layers, chosen, strict=True) if cell is not None]
            if len(cells) == len(layers) and any(cell is not None for cell in alone):
                yield OneForm(form, peer, cells, sum(cell is None for cell in alone))


def networks_of(spec: Mapping[str, Any], by_problem: Mapping[Problem, Sequence[Series]]) -> Iterator[NetworkTimes]:
    """The networks of a sweep, each in every place where any of its layers was measured.

    Args:
        spec: That of the sweep, as sweep.json has it.
        by_problem: The series of each problem.
    """
    stored = spec.get("networks")
    parts = stored.items() if stored else told_by_names(map(Problem.parse, spec.get("problems", ())))
    for name, counts in parts:
        layers = [(Problem.parse(descriptor), count) for descriptor, count in dict(counts).items()]
        for place in places(series for problem, _ in layers for series in by_problem.get(problem, ())):
            found = (LayerTimes(problem, count, _fit(by_problem.get(problem, ()), place)) for problem, count in layers)
            network = NetworkTimes(name, place, tuple(found))
            if network.computed:
                yield network


def _fit(several: Sequence[Series], place: Place) -> dict[Key, CellTimes]:
    return {key: cell for key, cell in cells_at(several, place).items() if cell.fit}


def total(cells: Counted) -> Estimate:
    """The seconds of all together, mean over the runs that have all; without interval if no run has."""
    runs = totals_by_run(cells)
    if not runs:
        return Estimate(sum(count * cell.mean.value for count, cell in cells), None, None, 0, NO_COMMON_RUN)
    return mean_time(list(runs.values()))


def totals_by_run(cells: Counted) -> dict[int, float]:
    """The seconds of all together in each run that has all."""
    common = set.intersection(*(set(cell.runs) for _, cell in cells)) if cells else set()
    return {run: sum(count * cell.runs[run] for count, cell in cells) for run in sorted(common)}


def ratio_of_totals(one: Counted, other: Counted) -> Estimate | None:
    """Geometric mean over runs of one total over another; None if no run has both."""
    ours, theirs = totals_by_run(one), totals_by_run(other)
    inside = [ours[run] / theirs[run] for run in ours if run in theirs]
    return geometric_mean(inside) if inside else None


def mean_ratio(ratios: Iterable[Mapping[int, float]]) -> Estimate | None:
    """Geometric mean over layers of a ratio, computed in each run that has it for every layer, then over runs."""
    every = list(ratios)
    complete = [run for run in (every[0] if every else ()) if all(run in ratio for ratio in every)]
    together = [geometric_mean([ratio[run] for ratio in every]).value for run in complete]
    return geometric_mean(together) if together else None
