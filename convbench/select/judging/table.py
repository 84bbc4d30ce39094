"""Measured times of problems by candidates: what a selection learns from, and what it is judged by."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from convbench.analysis.series import group
from convbench.problem import Problem
from convbench.results.record import Record

_AS_OURS: Final = re.compile("([^/]+)/[^/]+/[1-9][0-9]{0,5}")

Times = Mapping[Problem, Mapping[str, Sequence[float]]]
"""For each problem and each candidate's name the seconds that were measured, one or more; none where it cannot."""


@dataclass(frozen=True, eq=False)
class Table:
    """A row for each problem and a column for each candidate.

    Attributes:
        problems: The problems, each once; in every row at least one candidate was measured.
        candidates: Names of the candidates: "direct/threads/2" is one of ours (algorithm, executor, cores), any other
            name is somebody else's.
        seconds: Shape (problems, candidates): seconds of one call; NaN where the candidate cannot compute the problem,
            or was not measured. Read-only.
        left_out: Number of problems that were left out because none of their candidates was measured.
    """

    problems: tuple[Problem, ...]
    candidates: tuple[str, ...]
    seconds: NDArray[np.float64]
    left_out: int = 0

    @classmethod
    def of(cls, times: Times, candidates: Iterable[str] = ()) -> Table:
        """From times; of several times of one cell the median.

        Args:
            times: The times.
            candidates: Names of the first columns; those that only `times` has follow in its order.
        """
        names = tuple(dict.fromkeys((*candidates, *(name for row in times.values() for name in row))))
        place = {name: column for column, name in enumerate(names)}
        measured = {problem: row for problem, row in times.items() if any(row.values())}
        seconds = np.full((len(measured), len(names)), np.nan)
        for number, row in enumerate(measured.values()):
            for name, samples in row.items():
                if samples:
                    seconds[number, place[name]] = statistics.median(samples)
        seconds.flags.writeable = False
        return cls(tuple(measured), names, seconds, len(times) - len(measured))

    @cached_property
    def shapes(self) -> tuple[Problem, ...]:
        """For each row the problem without its name: equal where the same work has several names."""
        return tuple(dataclasses.replace(problem, name="") for problem in self.problems)

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """For each row the network: what the problem's name has before its first colon; empty if there is none."""
        return tuple(problem.network for problem in self.problems)

    @cached_property
    def counts(self) -> NDArray[np.float64]:
        """For each row how often its network has the layer, from 1 up."""
        return np.array([max(1, problem.count) for problem in self.problems], np.float64)

    @cached_property
    def able(self) -> NDArray[np.bool_]:
        """Shape (problems, candidates): whether there is a time."""
        return np.isfinite(self.seconds)

    @cached_property
    def fastest(self) -> NDArray[np.float64]:
        """For each row the least time."""
        least: NDArray[np.float64] = np.nanmin(self.seconds, axis=1, initial=np.inf)
        return least

    @cached_property
    def regrets(self) -> NDArray[np.float64]:
        """Shape (problems, candidates): time over the row's least time, minus 1; NaN where there is no time."""
        return self.seconds / self.fastest[:, np.newaxis] - 1

    def rows(self, which: Sequence[int] | NDArray[np.intp]) -> Table:
        """The table of some rows, in the order given."""
        return Table(tuple(self.problems[row] for row in which), self.candidates, self.seconds[np.asarray(which, int)])

    def ordered(self) -> Table:
        """The same rows in an order that does not depend on the order in which they were measured."""
        rows = sorted(range(len(self.problems)), key=lambda row: str(self.problems[row]))
        return dataclasses.replace(self.rows(rows), left_out=self.left_out)


def form_of(name: str) -> str:
    """The form that a candidate's name tells: the algorithm of one that is written as ours, otherwise the name."""
    match = _AS_OURS.fullmatch(name)
    return name if match is None else match[1]


def from_records(records: Iterable[Record]) -> Table:
    """The table of a sweep: of each cell the median over runs of the run's mean.

    Other libraries and cells that had fewer cores than they asked for are no candidates.
    """
    times: dict[Problem, dict[str, list[float]]] = {}
    columns: dict[str, None] = {}
    for series in group(records):
        for cores, cell in series.cells.items():
            if cell.peer or cell.bound or not cell.fit:
                continue
            name = f"{series.algorithm}/{series.executor}/{cores}"
            columns[name] = None
            times.setdefault(Problem.parse(cell.problem), {})[name] = list(cell.runs.values())
    return Table.of(times, columns)
