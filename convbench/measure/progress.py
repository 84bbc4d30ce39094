"""How far a sweep is, and how long it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from convbench.measure.spec import Job
from convbench.results.record import Cell, Record


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        done: Cells that have a record.
        total: Cells of all runs.
        runs: How many runs there are to be.
        record: The record that was just written; None before the first.
        seconds_left: Estimated from what the same cells took before; None before the first.
    """

    done: int
    total: int
    runs: int
    record: Record | None
    seconds_left: float | None


class TimeLeft:
    """The time left, if cells take as long as before, and new cells as long as others.

    It is asked after every record, while the next cell is measured, so it keeps sums.
    """

    def __init__(self, records: Iterable[Record], jobs: Iterable[Job]) -> None:
        self._took: dict[Cell, tuple[float, int]] = {}
        self._left = Counter(cell for job in jobs for _, cell in job)
        self._all = (0.0, 0)
        for record in records:
            self._add(record)

    def more(self, cells: Iterable[Cell]) -> None:
        """Add the cells of another run."""
        self._left.update(cells)

    def after(self, record: Record) -> float:
        """Seconds left after a record."""
        self._add(record)
        self._left[record.cell] -= 1
        typical = self._all[0] / self._all[1]
        return sum(count * self._mean(cell, typical) for cell, count in self._left.items())

    def _add(self, record: Record) -> None:
        seconds, count = self._took.get(record.cell, (0.0, 0))
        self._took[record.cell] = (seconds + record.wall_seconds, count + 1)
        self._all = (self._all[0] + record.wall_seconds, self._all[1] + 1)

    def _mean(self, cell: Cell, typical: float) -> float:
        seconds, count = self._took.get(cell, (typical, 1))
        return seconds / count
