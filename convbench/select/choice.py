"""The answer of a selection: a candidate, what it is expected to take, and why it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Final

from convbench.html import table
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select.words import seconds_in_words

SOURCES = ("measured", "model", "default")
"""Where a prediction comes from: this very problem was measured; a model of this machine; neither."""


TITLES: Final = ("algorithm", "executor", "cores", "expected", "90 % of calls", "memory")


@dataclass(frozen=True)
class Prediction:
    """What a candidate is expected to take.

    Attributes:
        candidate: The candidate.
        seconds: Seconds of one call, and of packing the weights where they are packed at every call; None if unknown.
        interval: Seconds between which 90 % of such calls are expected to lie; None if unknown.
        memory: Bytes needed in addition to input, unpacked weights and output.
    """

    candidate: Candidate
    seconds: float | None = None
    interval: tuple[float, float] | None = None
    memory: int = 0


@dataclass(frozen=True)
class Choice:
    """The candidate for a problem, and why.

    Attributes:
        problem: The problem.
        ranked: Every candidate that supports the problem within the limits, the chosen one first.
        source: Where the predictions come from, one of `SOURCES`.
        reasons: Why, a sentence each.
    """

    problem: Problem
    ranked: tuple[Prediction, ...]
    source: str
    reasons: tuple[str, ...] = ()

    @property
    def candidate(self) -> Candidate:
        """The chosen candidate."""
        return self.ranked[0].candidate

    @property
    def runners_up(self) -> tuple[Prediction, ...]:
        """The other candidates, the best first."""
        return self.ranked[1:]

    @property
    def algorithm(self) -> str:
        """Name of the chosen algorithm."""
        return self.candidate.algorithm

    @property
    def executor(self) -> str:
        """Name of the chosen executor."""
        return self.candidate.executor

    @property
    def cores(self) -> int:
        """Number of cores of the chosen candidate."""
        return self.candidate.cores

    @property
    def predicted_seconds(self) -> float | None:
        """Seconds that a call is expected to take; None if unknown."""
        return self.ranked[0].seconds

    @property
    def interval(self) -> tuple[float, float] | None:
        """Seconds between which 90 % of such calls are expected to lie; None if unknown."""
        return self.ranked[0].interval

    def explain(self) -> str:
        """The choice and its reasons in words, a few lines."""
        expected = "" if self.predicted_seconds is None else f", {seconds_in_words(self.predicted_seconds)} expected"
        return "\n".join([f"{self.candidate} ({self.source}){expected}", *(f"- {reason}" for reason in self.reasons)])

    def rows(self) -> list[list[str]]:
        """A row of texts for each candidate, under `TITLES`, the chosen one first."""
        return [_row(each) for each in self.ranked]

    def _repr_html_(self) -> str:
        """The choice as a notebook shows it."""
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        candidates = table("Candidates, the best first", TITLES, self.rows(), right=range(2, len(TITLES)))
        return f"<p><b>{escape(str(self.candidate))}</b> ({self.source})</p><ul>{reasons}</ul>{candidates}"

    def as_data(self) -> dict[str, Any]:
        """The choice as JSON can hold it."""
        first, *others = map(_as_data, self.ranked)
        return {
            "problem": str(self.problem),
            **first,
            "source": self.source,
            "reasons": list(self.reasons),
            "runners_up": others,
        }


def _row(each: Prediction) -> list[str]:
    return [
        *(each.candidate.algorithm, each.candidate.executor, str(each.candidate.cores)),
        "" if each.seconds is None else seconds_in_words(each.seconds),
        "" if each.interval is None else " to ".join(map(seconds_in_words, each.interval)),
        f"{each.memory / 2**20:.3g} MiB",
    ]


def _as_data(each: Prediction) -> dict[str, Any]:
    return {
        "algorithm": each.candidate.algorithm,
        "executor": each.candidate.executor,
        "cores": each.candidate.cores,
        "predicted_seconds": each.seconds,
        "interval": None if each.interval is None else list(each.interval),
        "memory_bytes": each.memory,
    }
