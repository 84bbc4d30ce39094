"""How far a sweep is, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from convbench.results.store import holds_records
from convbench.terminal.console import Terminal, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from convbench.measure.progress import Progress as SweepProgress


@contextmanager
def sweep_progress(directory: Path | None) -> Iterator[Callable[[SweepProgress], None]]:
    """A bar with time left on a terminal; elsewhere, such as in a log, a line for each run.

    An interrupt says in which directory the measurements are and how to go on, and passes on.
    """
    console = Terminal(stderr=True)
    try:
        if console.is_terminal:
            with _bar(console) as update:
                yield update
        else:
            yield _line_for_each_run
    except KeyboardInterrupt:
        if directory is not None and holds_records(directory):
            say(f"interrupted: what was measured is in {directory}; go on with: {_go_on(directory)}")
        raise


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[SweepProgress], None]]:
    columns = (
        *(TextColumn("measuring"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn()),
        TextColumn("{task.fields[left]}"),
    )
    # It is drawn after each cell, and not in between: that would take the processor from what is measured.
    with Progress(*columns, console=console, transient=True, expand=True, auto_refresh=False) as bar:
        task = bar.add_task("measuring", total=None, left="")

        def update(progress: SweepProgress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, left=_time_left(progress))
            bar.refresh()

        yield update


def _line_for_each_run(progress: SweepProgress) -> None:
    cells = progress.total // progress.runs
    if progress.record is not None and progress.done % cells == 0:
        run = f"run {progress.record.run + 1} of {progress.runs}"
        say(f"{run}: {progress.done} of {progress.total} cells measured, {_time_left(progress)}")


def _go_on(directory: Path) -> str:
    return f"convbench sweep --resume --output {directory}"


def _time_left(progress: SweepProgress) -> str:
    """Such as "about 4 min left"."""
    seconds = progress.seconds_left
    if seconds is None:
        return "starting"
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
