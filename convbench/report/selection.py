"""Which form wins where, and how well a selection would choose: the report card."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from convbench.errors import RequestError
from convbench.report.content import Column, Figure, Material, Section, Table, Value
from convbench.select.judging.report_card import CLOSE, TIE, Marks, ReportCard, report_card
from convbench.select.judging.splittings import SPLITTINGS
from convbench.select.judging.table import Table as Times
from convbench.select.judging.table import from_records

WAYS: Final[Mapping[str, str]] = {"layer": "by layer", "network": "by network", "random": "at random"}
LEAST_SHAPES: Final = 5  # of which some are held out
TEXT: Final = (
    "How well a candidate (form, executor and cores) is chosen for problems that were not measured: models and "
    "baselines learn from a part of the problems and pick for the others. Regret is the time of the pick over that of "
    f"the fastest candidate, minus 1. Top-1 counts picks that are the fastest or within {TIE:.0%} of it, since two "
    "measurements of the same code differ by as much. Of oracle is the time that the fastest candidates take together "
    "over the time that the picks take. A problem counts once; in the weighted mean, as often as its network has the "
    "layer. Held out by layer, the same shape is never on both sides; by network, none of its shapes is learned from; "
    "at random, they may be."
)

CAPTION: Final = (
    f"A mark for each problem, at its shape: the form of the fastest candidate; hollow where another form is within "
    f"{CLOSE:.0%} of it. Problems of the same place lie around it."
)


def section(material: Material) -> Section:
    """Tables and a picture where several problems were measured with several candidates of ours; nothing otherwise."""
    from convbench.report import winners  # loads matplotlib, which tables at a terminal do without

    title = "Which form wins"
    times = from_records(() if material.scaled else material.sweep.records)
    if len(set(times.shapes)) < LEAST_SHAPES or len(times.candidates) < 2:
        return Section(title)
    cards = list(_cards(times))
    tables = [card_table(card) for card in cards] + [table for card in cards[:1] for table in worst_tables(card)]
    pictures = []
    if any(winners.marks(times)):
        caption = f"{material.titled('Which form wins')}. {CAPTION}"
        pictures.append(Figure("which-form-wins", caption, partial(winners.draw, times)))
    return Section(title, [TEXT] if cards else [], tables, pictures)


def card_table(card: ReportCard) -> Table:
    """A row for each model, then one for each baseline."""
    columns = [
        *(Column("chosen by"), Column("top-1", ".1%"), Column(f"within {CLOSE:.0%}", ".1%")),
        *(Column("mean", ".1%"), Column("worst", ".1%"), Column("weighted", ".1%"), Column("of oracle", ".1%")),
    ]
    rows = [_row(name, marks) for name, marks in (*card.models.items(), *card.baselines.items())]
    title = f"Held out {WAYS[card.held_out]}: {card.marks.card.problems} problems in {card.splits} parts; regrets"
    return Table(f"report-card-{card.held_out}", title, columns, rows)


def worst_tables(card: ReportCard) -> list[Table]:
    """A table of the first model's worst picks; none if there are none."""
    columns = [Column("problem"), Column("picked"), Column("fastest"), Column("regret", ".1%")]
    rows: list[list[Value]] = [
        [str(miss.problem), miss.picked, miss.fastest, miss.regret] for miss in card.marks.misses
    ]
    title = f"The worst picks of {next(iter(card.models))}, held out {WAYS[card.held_out]}"
    return [Table(f"worst-picks-{card.held_out}", title, columns, rows)] if rows else []


def _cards(times: Times) -> Iterator[ReportCard]:
    """The report card for each way to hold out that there is enough for."""
    for held_out in SPLITTINGS:
        with contextlib.suppress(RequestError):  # such as that there is one network alone
            yield report_card(times, held_out)


def _row(name: str, marks: Marks) -> list[Value]:
    card = marks.card
    regrets = [card.mean_regret, card.worst_regret, marks.weighted.mean_regret]
    return [name, card.top_1, card.within_5_percent, *regrets, card.of_oracle]
