"""Which of several cells is the fastest, and which others cannot be told apart from it.

Cells are compared by the ratio of their times inside each run, as everywhere. Only cells that do the same work may be
compared so.
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
    """Cells by how many times as long as the fastest of some of them, the reference, they took.

    Attributes:
        reference: What the others are compared with: the fastest of those that may be one.
        ratios: Time over the reference's, a geometric mean over the runs that have both, in ascending order; that of
            the reference is exactly 1. Cells without a run in common with it have None and come last.
    """

    reference: Key
    ratios: Mapping[Key, Estimate | None]

    @property
    def tied(self) -> tuple[Key, ...]:
        """Those that cannot be told apart from the reference: the interval of the ratio holds 1, or there is none."""
        return tuple(
            key
            for key, found in self.ratios.items()
            if key != self.reference and (found is None or found.bounds is None or found.bounds[0] <= 1)
        )

    @property
    def best(self) -> tuple[Key, ...]:
        """What may be called the fastest: the reference and those tied with it; it alone where too little is known."""
        return (self.reference, *self.tied) if self.known else (self.reference,)

    @property
    def known(self) -> bool:
        """Whether there are runs enough to tell any other from the reference."""
        others = [found for key, found in self.ratios.items() if key != self.reference]
        return not others or any(found is not None and found.runs >= LEAST_RUNS for found in others)


def rank(cells: Mapping[Key, CellTimes], references: Iterable[Key] | None = None) -> Ranking[Key]:
    """Order cells by their ratio to the fastest.

    Ratios over different runs need not agree with one another where cells are missing in some runs. The reference is
    one than which none of the others that may be one is faster in the runs that both have, wherever there is such a
    one; the order is that of the ratios to it.

    Args:
        cells: At least one; all do the same work.
        references: Which of them may be the reference; default: all. At least one.
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
    """The reference comes first, so that a cell that is exactly as fast is no faster."""
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
