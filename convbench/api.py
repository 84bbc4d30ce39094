"""The library interface: sweeps without the command line, and their results."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convbench.analysis.series import group, widest_interval
from convbench.analysis.statistics import Estimate
from convbench.arguments import path
from convbench.errors import RequestError, UnavailableError, shown
from convbench.measure.progress import Progress
from convbench.measure.spec import spec_of
from convbench.measure.sweep import run_sweep
from convbench.request import Call
from convbench.request.field import Field, called_with
from convbench.results import export, store
from convbench.results.record import Cell, Record

if TYPE_CHECKING:
    import pandas as pd


def _of_one_argument(name: str, value: Callable[[Progress], None]) -> Callable[[Progress], None]:
    if not callable(value):
        raise RequestError(f"{name}={shown(value)} cannot be called; give a function of one argument")
    return value


@dataclass(unsafe_hash=True, kw_only=True)
class SweepCall(Call):
    """The arguments of `sweep`."""

    on_progress: Field[Callable[[Progress], None], Callable[[Progress], None]] = Field(
        _of_one_argument, lambda _: None, "Called before the first measurement and after each."
    )


@called_with(SweepCall)
def sweep(call: SweepCall) -> Results:
    """Measure problems, or the multicore experiment if none is given, as `convbench sweep` does.

    Returns:
        The results.

    Raises:
        RequestError: A value is invalid, or the directory cannot be used.
    """
    measure = partial(
        run_sweep,
        spec_of(call),
        time_limit=call.time_limit,
        width=widest_interval,
        on_progress=call.on_progress,
    )
    return Results(_measured_in_passing(measure) if call.output is None else measure(call.output))


def _measured_in_passing(measure: Callable[[Path], store.Sweep]) -> store.Sweep:
    """Measure into a temporary directory, which is kept only if an error occurs after the first measurement."""
    directory = Path(tempfile.mkdtemp(prefix="convbench-"))
    try:
        measured = measure(directory)
    except BaseException as error:
        if not store.holds_records(directory):
            shutil.rmtree(directory, ignore_errors=True)
            raise
        note = (
            f"what was measured is in {directory}: convbench.load({str(directory)!r}) reads it, and "
            f"convbench sweep --resume --output {shlex.quote(str(directory))} goes on with it"
        )
        error.add_note(note)
        if sys.stderr is not None:
            print(f"convbench: {note}", file=sys.stderr)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    return measured


def load(directory: str | Path) -> Results:
    """Read the results of a sweep; `Results.faults` lists unreadable lines.

    Raises:
        RequestError: The directory holds no sweep.
    """
    return Results(store.load(path("directory", directory)))


@dataclass(frozen=True)
class Results:
    """A sweep's records, and quantities derived from them."""

    sweep: store.Sweep

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order of measurement."""
        return self.sweep.records

    @property
    def faults(self) -> tuple[str, ...]:
        """Unreadable lines of the results file."""
        return self.sweep.faults

    def _repr_html_(self) -> str:
        """The summary as a notebook shows it."""
        from convbench.html import table
        from convbench.report.content import Material, written
        from convbench.report.summary import section

        return "".join(
            table(
                shown.title,
                [column.title for column in shown.columns],
                [[written(*pair) for pair in zip(row, shown.columns, strict=True)] for row in shown.rows],
                [place for place, column in enumerate(shown.columns) if column.spec],
            )
            for shown in section(Material(self.sweep, dict(self.sweep.header["spec"]))).tables
        )

    def speedups(self, base: int = 1) -> dict[Cell, Estimate]:
        """Speedup of each cell over `base` cores of its algorithm and executor.

        Computed inside each run; the value is the geometric mean over runs, with a 95 % interval.
        """
        return {
            (series.cells[cores].problem, series.algorithm, series.executor, cores): speedup
            for series in group(self.records)
            if base in series.cells
            for cores in series.cells
            if (speedup := series.speedup(base, cores)) is not None
        }

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas DataFrame with a row for each sample, and one for each record without samples.

        Raises:
            UnavailableError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UnavailableError("pandas is not installed; pip install 'convbench[dataframe]'") from None
        return pd.DataFrame(list(export.rows(self.sweep)), columns=list(export.COLUMNS))
