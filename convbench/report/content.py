"""The content of a report: tables, figures and sections, independent of their presentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from convbench.analysis.layers import NetworkTimes, networks_of
from convbench.analysis.series import Series, group
from convbench.analysis.statistics import Estimate
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.report.labels import labels, slugs
from convbench.results.store import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

Value = str | int | float | Estimate | None
ALLOWED: Final = {TF32.name: "TF32 allowed on GPUs"}
"""In titles, a precision that products may be computed in, where "NAME allowed" does not say all."""


@dataclass(frozen=True)
class Column:
    """A column's heading, and the format of its numbers; an interval gets two more columns in a CSV file."""

    title: str
    spec: str = ""


@dataclass(frozen=True)
class Table:
    """A table of values at full precision.

    Attributes:
        name: Stem of its CSV file.
        title: Its content, with units.
        columns: Headings and formats.
        rows: A value for each column; None is an empty place.
        summary_rows: How many of the last rows summarise the others.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    summary_rows: int = 0

    @property
    def note(self) -> str:
        """Why some values have no interval, and what is needed for one; empty where all have one."""
        lacking = (value.lacks for row in self.rows for value in row if isinstance(value, Estimate))
        reasons = ", ".join(dict.fromkeys(filter(None, lacking)))
        return f"Where there is no interval: {reasons}." if reasons else ""


@dataclass(frozen=True)
class Figure:
    """A figure that is drawn on demand: the stem of its files, its caption, and the function that draws it."""

    name: str
    caption: str
    draw: Callable[[], MatplotlibFigure]


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Material:
    """The data that sections are made from."""

    sweep: Sweep
    spec: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def series(self) -> list[Series]:
        """Every series of the sweep, in the order of its request."""
        return group(self.sweep.records, self.order)

    @property
    def order(self) -> list[list[str]]:
        """Problems, algorithms and executors in the order of the request."""
        algorithms = [*self.spec.get("algorithms", ()), *self.spec.get("peers", ())]
        return [list(self.spec.get("problems", ())), algorithms, list(self.spec.get("executors", ()))]

    @cached_property
    def _labels(self) -> dict[Problem, str]:
        """Labels of all problems, measured or not."""
        asked = self.spec.get("problems", ())
        return labels(map(Problem.parse, (*asked, *dict.fromkeys(r.base or r.problem for r in self.sweep.records))))

    @cached_property
    def _slugs(self) -> dict[Problem, str]:
        return slugs(self._labels)

    def label(self, problem: Problem) -> str:
        """The label of a problem in a table, different for each problem of a sweep."""
        return self._labels[problem]

    def slug(self, problem: Problem) -> str:
        """The same as part of a file name."""
        return self._slugs[problem]

    def titled(self, title: str) -> str:
        """The title of a table or figure of measured times, with the manner of measuring."""
        manner = [f"{self.spec['cache']} caches"] if "cache" in self.spec else []
        manner += ["weak scaling"] if self.scaled else []
        allowed = arithmetic(self.spec)
        manner += [] if allowed == EXACT.name else [ALLOWED.get(allowed, f"{allowed} allowed")]
        return f"{title} ({', '.join(manner)})" if manner else title

    @property
    def scaled(self) -> bool:
        """Whether problems grow with the cores."""
        return self.spec.get("scaling") == "weak"

    @cached_property
    def networks(self) -> list[NetworkTimes]:
        """Each network in each place; none where problems grow with the cores."""
        return [] if self.scaled else list(networks_of(self.spec, self.by_problem()))

    @cached_property
    def layers(self) -> frozenset[Problem]:
        """The layers of all networks."""
        return frozenset(layer.problem for network in self.networks for layer in network.layers)

    @property
    def is_one_network(self) -> bool:
        """Whether all problems that were measured are layers of one network."""
        return len({network.name for network in self.networks}) == 1 and self.by_problem().keys() <= self.layers

    def by_problem(self) -> dict[Problem, list[Series]]:
        """The series of each problem."""
        found: dict[Problem, list[Series]] = {}
        for series in self.series:
            found.setdefault(Problem.parse(series.problem), []).append(series)
        return found


def arithmetic(spec: Mapping[str, Any]) -> str:
    """The name of the precision that a sweep's products may be computed in; sweeps of before knew TF32 alone."""
    return str(spec.get("arithmetic") or (TF32.name if spec.get("allow_tf32") else EXACT.name))


def written(value: Value, column: Column) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, Estimate):
        if value.low is None or value.high is None:
            return f"{value.value:{column.spec}}"
        return f"{value.value:{column.spec}} [{value.low:{column.spec}}, {value.high:{column.spec}}]"
    return value if isinstance(value, str) else f"{value:{column.spec}}"


def seconds_spec(values: Iterable[float]) -> str:
    """The format that shows the smallest of some times to four digits, and large ones as in the paper."""
    smallest = min(values)
    return f".{4 + max(0, -math.floor(math.log10(smallest)) - 1)}f"
