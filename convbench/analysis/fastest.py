"""The fastest of several cells, and the cells that cannot be distinguished from it.

Cells are compared by the ratio of their times inside each run, as everywhere. Only cells that do the same work are
compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from convbench.analysis.statistics import LEAST_RUNS, Estimate
from convbench.analysis.times import CellTimes, ratio

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Ranking(Generic[Key]):
    """Cells by the ratio of their time to that of the reference, the fastest of some of them.

    Attributes:
        reference: The fastest of those that may be the reference.
        ratios: Time over the reference's, a geometric mean over the runs that have both, in ascending order; that of
            the reference is exactly 1. Cells without a run in common with it have None and come last.
    """

    reference: Key
    ratios: Mapping[Key, Estimate | None]

    @property
    def tied(self) -> tuple[Key, ...]:
        """Cells that cannot be distinguished from the reference: the ratio's interval holds 1, or there is none."""
        return tuple(
            key
            for key, found in self.ratios.items()
            if key != self.reference and (found is None or found.bounds is None or found.bounds[0] <= 1)
        )

    @property
    def best(self) -> tuple[Key, ...]:
        """The cells to call the fastest: the reference and those tied with it; it alone where runs are too few."""
        return (self.reference, *self.tied) if self.known else (self.reference,)

    @property
    def known(self) -> bool:
        """Whether there are enough runs to distinguish any other cell from the reference."""
        others = [found for key, found in self.ratios.items() if key != self.reference]
        return not others or any(found is not None and found.runs >= LEAST_RUNS for found in others)


def rank(cells: Mapping[Key, CellTimes], references: Iterable[Key] | None = None) -> Ranking[Key]:
    """Order cells by their ratio to the fastest.

    Where cells are missing in some runs, ratios over different runs need not be consistent. The reference is a cell
    such that none of the other candidates is faster in the runs that both have, if there is such a cell. The order is
    that of the ratios to it.

    Args:
        cells: At least one; all do the same work.
        references: The candidates for the reference, at least one; default: all.
    """
    allowed = list(cells if references is None else references)
    reference, seen = _first_guess({key: cells[key] for key in allowed}), set[Key]()
    while reference not in seen:
        seen.add(reference)
        faster = {key: found.value for key, found in _ratios(cells, allowed, reference).items() if found is not None}
        reference = min(faster, key=lambda key: faster[key])  # of equal ones the first
    ratios = _ratios(cells, cells, reference)

    def place(key: Key) -> tuple[float, float]:
        found = ratios[key]
        return (math.inf, cells[key].mean.value) if found is None else (found.value, 0.0)

    return Ranking(reference, {key: ratios[key] for key in sorted(cells, key=place)})


def _ratios(cells: Mapping[Key, CellTimes], keys: Iterable[Key], reference: Key) -> dict[Key, Estimate | None]:
    """The ratio of each cell to the reference, which comes first, so that an equally fast cell does not replace it."""
    one = Estimate(1.0, 1.0, 1.0, len(cells[reference].runs))
    found: dict[Key, Estimate | None] = {reference: one}
    found |= {key: ratio(cells[key], cells[reference]) for key in keys if key != reference}
    return found


def _first_guess(cells: Mapping[Key, CellTimes]) -> Key:
    """The least geometric mean over the runs that all have, or over all of their runs where there is no such run."""
    common = set.intersection(*(set(cell.runs) for cell in cells.values()))
    return min(
        cells,
        key=lambda key: statistics.fmean(math.log(t) for run, t in cells[key].runs.items() if run in (common or {run})),
    )
