"""Commands that read what was measured: report, compare, evaluate and export; and machine, which describes where."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convbench.cli.options import REPORTS_DIRECTORY, Place, share_of
from convbench.errors import RequestError

if TYPE_CHECKING:
    from convbench.select.judging.table import Table


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=Place())
@click.option(
    "--output",
    metavar="DIR",
    type=Place(),
    help="Where to.  [default: beside the results]",
)
def report(directory: Path | None, output: Path | None) -> None:
    """Turn a sweep into tables and figures.

    DIR is where it is.  [default: the newest in reports/]
    """
    from convbench import terminal
    from convbench.report.write import write_report
    from convbench.results.store import load, newest

    sweep = load(directory or newest(REPORTS_DIRECTORY))
    for page in write_report(sweep, output or sweep.directory):
        click.echo(page)
    if sweep.faults:
        raise RequestError(
            f"{terminal.faults(sweep)}: mend or delete the line; sweep --resume then measures again what it held"
        )


@click.command()
@click.argument("before", metavar="DIR", type=Place())
@click.argument("after", metavar="DIR", type=Place())
@click.option("--fail-above", type=float, metavar="PERCENT", default=5.0, show_default=True, help="Exit 1 above this.")
def compare(before: Path, after: Path, fail_above: float) -> None:
    """Say cell by cell whether the second sweep is faster or slower than the first.

    Exits 1 if a cell is slower, beyond doubt, by more than PERCENT.
    """
    from convbench import terminal
    from convbench.results.store import load

    allowed = share_of(fail_above)
    sys.exit(terminal.show_comparison(load(before), load(after), allowed))


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=Place())
@click.option("--table", metavar="CSV", type=Place(), help="A table of times: problem, then seconds of each candidate.")
@click.option(
    "--held-out", metavar="layer|network|random", default="layer", show_default=True, help="What is not learned from."
)
@click.option("--folds", type=int, metavar="K", default=10, show_default=True, help="In how many parts it is held out.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Which problem is in which part.")
@click.option("--network", "networks", multiple=True, metavar="NAME|PATH", help="Judge on these layers; repeatable.")
@click.option("--layers", type=int, metavar="N", help="On so many of each network's, a representative sample.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def evaluate(
    directory: Path | None,
    table: Path | None,
    *,
    held_out: str,
    folds: int,
    seed: int,
    networks: tuple[str, ...],
    layers: int | None,
    as_json: bool,
) -> None:
    """Say how well candidates are chosen for problems that were not measured.

    DIR is a sweep.  [default: what convbench tune has measured]
    """
    from convbench import terminal
    from convbench.networks import problems_of
    from convbench.select.judging.report_card import as_data, report_cards

    times = _times(directory, table)
    judged = problems_of(networks, layers=layers) if networks else None
    cards = report_cards(times, held_out, folds=folds, seed=seed, judged=judged)
    if as_json:
        click.echo(json.dumps(as_data(cards), indent=1))
    else:
        terminal.show_report_cards(times, cards)


def _times(directory: Path | None, table: Path | None) -> Table:
    """The times to judge by: of a file, of a sweep, or of this machine's tuning."""
    from convbench import terminal
    from convbench.results.store import load
    from convbench.select.judging.table import from_records
    from convbench.select.judging.table_file import read_table
    from convbench.select.judging.tuned import tuned_table

    if directory is not None and table is not None:
        raise RequestError(f"{directory} and --table {table} are both times to judge by; give one of them")
    if table is not None:
        return read_table(table)
    if directory is None:
        return tuned_table()
    sweep = load(directory)
    terminal.say_faults(sweep)
    return from_records(sweep.records)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def machine(*, as_json: bool) -> None:
    """Describe this machine and measure its limits."""
    from convbench import machine as facts
    from convbench import terminal
    from convbench.analysis.limits import Limits
    from convbench.measure.process import WorkerProcess
    from convbench.measure.spec import Timing
    from convbench.report.conditions import machine_table
    from convbench.report.limits import gpu_reason, gpu_table, limits_table

    found, versions = facts.describe(), facts.versions()
    found["peaks"] = WorkerProcess.peaks({1, facts.usable_cores()}, Timing.peak_repetitions)
    if as_json:
        click.echo(json.dumps({**found, "versions": versions}, indent=1))
        return
    terminal.show_table(machine_table(found, versions))
    if "reason" in found["peaks"]:
        terminal.say(f"the limits could not be measured: {found['peaks']['reason']}")
    else:
        terminal.show_table(limits_table(Limits.of(found)))
    if (of_gpu := Limits.of_gpu(found)).rates:
        terminal.show_table(gpu_table(of_gpu))
    if reason := gpu_reason(found):
        terminal.say(f"not all of the GPU's limits could be measured: {reason}")


@click.command()
@click.argument("directory", metavar="DIR", type=Place())
@click.option("--format", "form", metavar="csv|json|pyperf", required=True, help="What to write.")
@click.option(
    "--output",
    metavar="PATH",
    type=Place(),
    help="Where to.  [default: standard output; for pyperf DIR/pyperf]",
)
def export(directory: Path, form: str, output: Path | None) -> None:
    """Write a sweep for other programs.

    DIR is where it is. In pyperf's format there is a file for each executor and core count, so that `python -m pyperf
    compare_to threads-1.json threads-2.json` prints the speedup.
    """
    from convbench import terminal
    from convbench.results.export import write
    from convbench.results.store import load

    sweep = load(directory)
    for line in write(sweep, form, output):
        click.echo(line, nl=False)
    terminal.say_faults(sweep)
