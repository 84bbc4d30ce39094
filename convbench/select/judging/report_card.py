"""The report card of a selection: how far its picks are from the fastest candidates, on problems it has not seen.

Pure functions of a table of measured times. A problem that only one candidate can compute leaves nothing to choose: it
is learned from, but not judged by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from convbench.arguments import one_of, whole_number
from convbench.errors import RequestError
from convbench.problem import Problem
from convbench.select.judging.baselines import baselines, best_single
from convbench.select.judging.picker import Pick, Picker, models
from convbench.select.judging.splittings import SPLITTINGS, Split
from convbench.select.judging.table import Table

TIE: Final = 0.01
"""Regret up to which a pick counts as the fastest: two measurements of the same code differ by as much."""
CLOSE: Final = 0.05
FOLDS: Final = 10
MOST_FOLDS: Final = 1000
WORST: Final = 5
"""How many of the worst picks are named."""
ORACLE: Final = "oracle"


@dataclass(frozen=True)
class Card:
    """How good picks are. Regret is the pick's time over the fastest one's, minus 1: 0.02 is 2 %.

    Attributes:
        problems: Number of problems.
        top_1: Share of problems whose pick is the fastest, or ties with it, see `TIE`.
        within_5_percent: Share of problems whose regret is at most `CLOSE`.
        mean_regret: Mean over problems.
        worst_regret: The largest.
        of_oracle: The fastest candidates' times together over the picks' times together.
        of_oracle_geometric: Geometric mean over problems of the fastest one's time over the pick's.
    """

    problems: int
    top_1: float
    within_5_percent: float
    mean_regret: float
    worst_regret: float
    of_oracle: float
    of_oracle_geometric: float

    @classmethod
    def of(cls, taken: NDArray[np.float64], fastest: NDArray[np.float64], counts: NDArray[np.float64]) -> Self:
        """From seconds of the picks and of the fastest candidates, at least one, each problem as often as `counts`."""
        weights = counts / counts.sum()
        regrets = taken / fastest - 1
        return cls(
            problems=len(taken),
            top_1=float(weights @ (taken <= fastest * (1 + TIE))),
            within_5_percent=float(weights @ (taken <= fastest * (1 + CLOSE))),
            mean_regret=float(weights @ regrets),
            worst_regret=float(regrets.max()),
            of_oracle=float((weights @ fastest) / (weights @ taken)),
            of_oracle_geometric=float(np.exp(-(weights @ np.log1p(regrets)))),
        )


@dataclass(frozen=True)
class Miss:
    """A pick that was not the fastest: problem, names of both candidates, regret."""

    problem: Problem
    picked: str
    fastest: str
    regret: float


@dataclass(frozen=True)
class Marks:
    """What one way to choose gets.

    Attributes:
        card: Each problem once.
        weighted: Each problem as often as its network has it.
        misses: The `WORST` largest regrets, the largest first.
        declined: Number of problems for which it had no answer, and the best single candidate was taken.
    """

    card: Card
    weighted: Card
    misses: tuple[Miss, ...]
    declined: int


@dataclass(frozen=True)
class ReportCard:
    """The marks of every model and every baseline for one way to hold out.

    Attributes:
        held_out: What was held out, a name of `SPLITTINGS`.
        splits: How many times.
        models: Marks of each model; the first is the one that the report card is about.
        baselines: Marks of each baseline, the oracle last.
    """

    held_out: str
    splits: int
    models: Mapping[str, Marks]
    baselines: Mapping[str, Marks]

    @property
    def marks(self) -> Marks:
        """Those of the model that it is about."""
        return next(iter(self.models.values()))


def report_cards(
    table: Table,
    held_out: str = "layer",
    *,
    folds: int = FOLDS,
    seed: int = 0,
    judged: Collection[Problem] | None = None,
) -> dict[str, ReportCard | str]:
    """The card for each way to hold out, that of `held_out` first; the reason in place of one that cannot be had.

    Raises:
        RequestError: That of `held_out` cannot be had, or an argument is invalid.
    """
    chosen = one_of("held-out", held_out, SPLITTINGS)
    cards: dict[str, ReportCard | str] = {chosen: report_card(table, chosen, folds=folds, seed=seed, judged=judged)}
    for name in SPLITTINGS:
        if name != chosen:
            try:
                cards[name] = report_card(table, name, folds=folds, seed=seed, judged=judged)
            except RequestError as error:
                cards[name] = str(error)
    return cards


def report_card(  # over 40 lines: the documentation of its arguments
    table: Table,
    held_out: str,
    *,
    folds: int = FOLDS,
    seed: int = 0,
    judged: Collection[Problem] | None = None,
    pickers: Mapping[str, Picker] | None = None,
) -> ReportCard:
    """Judge models and baselines.

    Args:
        table: The times.
        held_out: What is held out, a name of `SPLITTINGS`.
        folds: In how many parts, each of which is held out once; fewer where there is less to hold out.
        seed: Decides which problem is in which part.
        judged: Problems whose shapes are judged by; the others are only learned from. Default: all.
        pickers: The models, the one that the card is about first; default: those listed.

    Raises:
        RequestError: The table has too little to choose from or to hold out, or an argument is invalid.
    """
    splitting = SPLITTINGS[one_of("held-out", held_out, SPLITTINGS)]
    folds, seed = whole_number("folds", folds, least=2, most=MOST_FOLDS), whole_number("seed", seed, least=0)
    if len(table.candidates) < 2:
        names = ", ".join(table.candidates) or "none"
        raise RequestError(f"a choice takes 2 candidates or more, and there is {names}; measure others, too")
    table = table.ordered()
    splits = _judged(table, splitting(table, folds, seed), judged)
    rows = [row for _, test in splits for row in test]
    if not rows:
        which = "no problem" if judged is None else f"none of the {len(judged)} problems to judge by"
        raise RequestError(
            f"{which} has the times of 2 candidates or more, so there is nothing to choose; measure more"
        )
    every = models() if pickers is None else pickers
    oracle = _marks(table, rows, np.nanargmin(table.seconds[rows], axis=1), 0)
    return ReportCard(
        held_out,
        len(splits),
        {name: _judge(table, splits, picker) for name, picker in every.items()},
        {**{name: _judge(table, splits, picker) for name, picker in baselines(table).items()}, ORACLE: oracle},
    )


def as_data(cards: Mapping[str, ReportCard | str]) -> dict[str, Any]:
    """Report cards as JSON has them: the model's marks for the first card at the top, then all marks of each card."""
    chosen = next(iter(cards.values()))
    if isinstance(chosen, str):
        raise TypeError(f"the first card is none: {chosen}")
    return {
        "held_out": chosen.held_out,
        "model": next(iter(chosen.models)),
        **asdict(chosen.marks.card),
        "baselines": {name: asdict(marks.card) for name, marks in chosen.baselines.items()},
        "splittings": {
            name: {"reason": card} if isinstance(card, str) else _card_data(card)
            for name, card in sorted(cards.items(), key=lambda pair: list(SPLITTINGS).index(pair[0]))
        },
    }


def _card_data(card: ReportCard) -> dict[str, Any]:
    return {
        "splits": card.splits,
        "models": {name: _marks_data(marks) for name, marks in card.models.items()},
        "baselines": {name: _marks_data(marks) for name, marks in card.baselines.items()},
    }


def _marks_data(marks: Marks) -> dict[str, Any]:
    worst = [{**asdict(miss), "problem": str(miss.problem)} for miss in marks.misses]
    return {**asdict(marks.card), "weighted": asdict(marks.weighted), "declined": marks.declined, "worst": worst}


def _judged(table: Table, splits: list[Split], judged: Collection[Problem] | None) -> list[Split]:
    """The splits with only those test problems that leave something to choose, of those that are to be judged by."""
    choice = table.able.sum(axis=1) > 1
    if judged is not None:
        shapes = {replace(problem, name="") for problem in judged}
        choice &= np.array([shape in shapes for shape in table.shapes])
    kept = [(train, [row for row in test if choice[row]]) for train, test in splits]
    return [(train, test) for train, test in kept if test]


def _judge(table: Table, splits: list[Split], picker: Picker) -> Marks:
    """Learn from the one side of each split, and pick for the other."""
    rows, picks, declined = list[int](), list[int](), 0
    for train, test in splits:
        training = table.rows(train)
        pick = picker(training)
        instead: Pick | None = None
        for row in test:
            able = np.flatnonzero(table.able[row]).tolist()
            picked = pick(table.problems[row], able)
            if picked is None:
                declined += 1
                instead = instead or best_single(training)
                picked = instead(table.problems[row], able)
            if picked not in able:
                raise ValueError(f"column {picked} was picked for {table.problems[row]}, where only {able} can")
            rows.append(row)
            picks.append(picked)
    return _marks(table, rows, np.array(picks), declined)


def _marks(table: Table, rows: list[int], picks: NDArray[np.intp], declined: int) -> Marks:
    """The marks for what was picked for some rows."""
    by_row = np.argsort(rows, kind="stable")  # so that sums do not depend on the order of the folds
    chosen, picks = np.array(rows)[by_row], picks[by_row]
    taken, fastest, counts = table.seconds[chosen, picks], table.fastest[chosen], table.counts[chosen]
    regrets = taken / fastest - 1
    worst = [place for place in np.argsort(-regrets, kind="stable")[:WORST] if regrets[place] > 0]
    misses = tuple(
        Miss(
            table.problems[chosen[place]],
            table.candidates[picks[place]],
            table.candidates[int(np.nanargmin(table.seconds[chosen[place]]))],
            float(regrets[place]),
        )
        for place in worst
    )
    ones = np.ones_like(counts)
    return Marks(Card.of(taken, fastest, ones), Card.of(taken, fastest, counts), misses, declined)
