"""Choices and tuning at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from convbench.report.content import Column, Table
from convbench.select.choice import TITLES
from convbench.terminal.console import Terminal, say, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from convbench.select import Choice
    from convbench.select.tuning import Progress as TuneProgress
    from convbench.select.tuning import Tuned

EACH = 60.0  # seconds between lines where there is no terminal


def show_choice(choice: Choice) -> None:
    """The choice in words, and a table of all candidates."""
    for line in choice.explain().splitlines():
        click.echo(line)
    show_table(choice_table(choice))


def choice_table(choice: Choice) -> Table:
    """A row for each candidate, the chosen one first."""
    return Table("candidates", "Candidates, the best first", [Column(title) for title in TITLES], choice.rows())


@contextmanager
def tune_progress(budget: float) -> Iterator[Callable[[TuneProgress], None]]:
    """A bar on a terminal; elsewhere a line now and then. An interrupt says what becomes of what was measured."""
    console = Terminal(stderr=True)
    try:
        if console.is_terminal:
            with _bar(console, budget) as update:
                yield update
        else:
            yield _Lines()
    except KeyboardInterrupt:
        say("interrupted: what was measured is kept, and the model was fitted to it; convbench tune goes on")
        raise


class _Lines:
    """A line for each `EACH` seconds of the budget."""

    def __init__(self) -> None:
        self._next = EACH

    def __call__(self, progress: TuneProgress) -> None:
        if progress.seconds >= self._next:
            self._next = progress.seconds + EACH
            say(_line(progress))


@contextmanager
def _bar(console: Terminal, budget: float) -> Iterator[Callable[[TuneProgress], None]]:
    columns = TextColumn("tuning"), BarColumn(None), TimeElapsedColumn(), TextColumn("{task.fields[words]}")
    # It is drawn after each problem, and not in between: that would take the processor from what is measured.
    with Progress(*columns, console=console, transient=True, expand=True, auto_refresh=False) as bar:
        task = bar.add_task("tuning", total=budget, words="")

        def update(progress: TuneProgress) -> None:
            bar.update(task, completed=min(budget, progress.seconds), words=_line(progress))
            bar.refresh()

        yield update


def _line(progress: TuneProgress) -> str:
    compiling = f", and {progress.compiling:.0f} s of compiling" if progress.compiling >= 1 else ""
    return f"{progress.problems} problems, {progress.seconds:.0f} s{compiling}"


def show_tuned(tuned: Tuned) -> None:
    """What was fitted, and where it is."""
    click.echo(
        f"a model of {len(tuned.model.rates)} candidates, fitted to {tuned.problems} measured problems "
        f"({tuned.measured} of them now): {tuned.path}"
    )
    say("convbench evaluate says how good it is, convbench choose DESC what it chooses")
