"""Report cards at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convbench.terminal.console import say, show_table

if TYPE_CHECKING:
    from convbench.select.judging.report_card import ReportCard
    from convbench.select.judging.table import Table


def show_report_cards(table: Table, cards: Mapping[str, ReportCard | str]) -> None:
    """The table of each card, and the worst picks of the first; a line for each that cannot be had."""
    from convbench.report.selection import WAYS, card_table, worst_tables

    given = [card for card in cards.values() if not isinstance(card, str)]
    for shown in [*map(card_table, given), *worst_tables(given[0])]:
        show_table(shown)
    for name, card in cards.items():
        if isinstance(card, str):
            say(f"not held out {WAYS[name]}: {card}")
    if table.left_out:
        say(f"left out: {_problems(table.left_out)} without any time")
    if lone := int((table.able.sum(axis=1) == 1).sum()):
        say(f"not judged by: {_problems(lone)} with the time of one candidate alone, so that there is no choice")


def _problems(count: int) -> str:
    return f"{count} problem{'s' if count != 1 else ''}"
