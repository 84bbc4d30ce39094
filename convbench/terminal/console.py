"""Text and tables at a terminal."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from convbench.report.content import Column, Table, Value

WHOLE_WORD: Final = 24  # characters of a word that is not broken at the end of a line; problems' descriptors are
HEADING: Final = 9  # characters of a line of a heading; more where a number or a word takes more
WIDE: Final = 0.5  # an interval that reaches further than this share is written as a factor


class Terminal(Console):
    """A console that leaves it to the command line what to do where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise."""
        raise BrokenPipeError


def say(text: str) -> None:
    """A line on standard error, as it is."""
    Terminal(stderr=True, soft_wrap=True, highlight=False).print(Text(_printable(text)))


def _printable(text: str) -> str:
    """The text with what a terminal would obey, or could not show, written out."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def show_table(table: Table) -> None:
    """A table on standard output."""
    headed = any(column.title for column in table.columns)
    shown = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        show_header=headed,
    )
    rows = [[_printable(_brief(*pair)) for pair in zip(row, table.columns, strict=True)] for row in table.rows]
    for place, column in enumerate(table.columns):
        numeric = bool(column.spec)
        words = " ".join([column.title, *(row[place] for row in rows)]).split()
        longest = max(map(len, words), default=0)
        widest = max(HEADING, *map(len, column.title.split() or [""]), *(len(row[place]) for row in rows))
        shown.add_column(
            "\n".join(textwrap.wrap(column.title, widest)) if numeric else column.title,
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric or longest == widest <= WHOLE_WORD,
            min_width=longest if longest <= WHOLE_WORD else None,
        )
    for row in rows:
        shown.add_row(*map(Text, row))
    console = Terminal(highlight=False)
    console.print(Text(_printable(table.title), style="bold"))
    console.print(shown)
    if table.note:
        console.print(Text(table.note, style="dim"))


def _brief(value: Value, column: Column) -> str:
    """A value in few characters: an interval as the share by which it reaches to its further side.

    A wide one is written as a factor to multiply and to divide by: it reaches down to a part of the value, not to zero.
    """
    from convbench.report.content import written

    if isinstance(value, str | int | float | None) or value.value <= 0:
        return written(value, column)
    reach = value.reach
    if reach is None or value.low is None or value.high is None:
        return f"{value.value:{column.spec}}"
    if reach <= WIDE:
        return f"{value.value:{column.spec}} ±{reach:.0%}"
    factor = max(value.high / value.value, value.value / value.low) if value.low > 0 else math.inf
    return f"{value.value:{column.spec}} ×÷{min(factor, 99):.1f}"  # noqa: RUF001  # the sign, not the letter
