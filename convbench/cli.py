"""The command line: each command parses, calls and prints."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from convbench import __version__
from convbench.algorithms import ALGORITHMS
from convbench.arguments import path, real_number, share, texts, whole_numbers
from convbench.errors import ConvbenchError, RequestError
from convbench.executors import EXECUTORS
from convbench.peers import PEERS
from convbench.registry import Table

REPORTS_DIRECTORY = Path("reports")


class Names(click.ParamType[tuple[str, ...]]):
    """Names from a table, separated by commas."""

    name = "LIST"

    def __init__(self, table: Table[Any]) -> None:
        self._table = table

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> tuple[str, ...]:
        """Split and look up."""
        return tuple(map(self._table.check, texts(param.name if param else "LIST", value)))


class Share(click.ParamType[float]):
    """A share, written as 1% or 0.01."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> float:
        """Read."""
        return share((param and param.name) or "share", value)


class Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 up, separated by commas."""

    name = "LIST"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> tuple[int, ...]:
        """Split and read; how many there may be, the spec says."""
        return whole_numbers("cores", value, least=1)


class Place(click.ParamType[Path]):
    """A file or directory."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Nothing is no place; Python would take it for the current folder."""
        return path((param and param.name) or "path", value)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="convbench")
def cli() -> None:
    """Measure the 2-D convolution primitive over algorithms, executors and cores."""


@cli.command()
@click.option("--image", metavar="FILE", help="Any picture that Pillow reads.  [default: the photograph in images/]")
@click.option("--kernels", metavar="gabor|random|FILE.npy", help="The bank of kernels.  [default: gabor]")
@click.option(
    "--problem",
    "problems",
    metavar="DESC",
    multiple=True,
    help="A problem in benchdnn's notation; repeatable.",
)
@click.option(
    "--algorithms",
    type=Names(ALGORITHMS),
    help=f"From {', '.join(ALGORITHMS)}.  [default: {','.join(ALGORITHMS.defaults)}]",
)
@click.option("--executors", type=Names(EXECUTORS), help=f"From {', '.join(EXECUTORS)}.  [default: all]")
@click.option("--peers", type=Names(PEERS), help=f"Other libraries, from {', '.join(PEERS)}.  [default: none]")
@click.option("--cores", type=Counts(), help="Core counts.  [default: 1,2,4,... up to this machine's]")
@click.option("--runs", type=int, help="Fresh processes that measure everything once.  [default: 10; 12 in turns]")
@click.option(
    "--precision",
    type=Share(),
    metavar="PERCENT",
    help="Add runs, to 15 or more, until every interval is as tight as this.",
)
@click.option("--scaling", metavar="strong|weak", help="weak has the image grow with the cores.  [default: strong]")
@click.option("--cache", metavar="hot|cold", help="cold empties the caches before every sample.  [default: hot]")
@click.option(
    "--allow-tf32", is_flag=True, default=None, help="Let GPUs round float32's products to TF32.  [default: exact]"
)
@click.option("--seed", type=int, help="Of the random order and of random data.  [default: 0]")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Begin no measurement after this.")
@click.option("--output", metavar="DIR", type=Place(), help="Where to.  [default: reports/TIME]")
@click.option("--resume", is_flag=True, help="Go on with the sweep in --output.")
@click.option(
    "--against", metavar="PYTHON", help="Measure in turns with the convbench of another environment's python."
)
@click.option("--fail-above", type=float, metavar="PERCENT", help="With --against, exit 1 as compare does.")
def sweep(
    output: Path | None,
    *,
    resume: bool,
    time_limit: float | None,
    against: str | None,
    fail_above: float | None,
    **request: Any,
) -> None:
    """Measure algorithms on executors and core counts.

    Every run is a fresh process that measures every combination once, in random order. With --against, two versions of
    convbench measure all of it in turns, and this version's time over that of PYTHON's is printed; the other sweep is
    in DIR/against.
    """
    from convbench import terminal
    from convbench.analysis.series import widest_interval
    from convbench.measure.spec import make_spec
    from convbench.measure.sweep import resume_sweep, run_sweep
    from convbench.measure.turns import is_pair

    if time_limit is not None:
        real_number("time-limit", time_limit, least=0)
    directory = output or _new_directory()
    given = {name: value for name, value in request.items() if value not in (None, ())}
    how: dict[str, Any] = {"time_limit": time_limit, "width": widest_interval}
    if resume and output is None:
        raise RequestError("--resume goes on with the sweep in --output; give the directory")
    if against is not None or (resume and is_pair(directory)):
        how["allowed"] = None if fail_above is None else _share(fail_above)
        sys.exit(_sweep_in_turns(directory, against, given, how, resume=resume))
    if fail_above is not None:
        raise RequestError(f"fail_above={fail_above:g} is of two versions of convbench; give --against PYTHON, too")
    with terminal.sweep_progress(directory) as progress:
        how["on_progress"] = progress
        finished = resume_sweep(directory, given, **how) if resume else run_sweep(make_spec(**given), directory, **how)
    sys.exit(terminal.show_sweep(finished))


def _sweep_in_turns(
    directory: Path, python: str | None, request: dict[str, Any], how: dict[str, Any], *, resume: bool
) -> int:
    """Measure this version and another one in turns; the exit status."""
    from convbench import terminal
    from convbench.analysis.compare import widest_ratio
    from convbench.measure.spec import make_spec
    from convbench.measure.turns import RUNS, TIMING, resume_in_turns, run_in_turns

    how["width"] = widest_ratio
    allowed = how.pop("allowed")
    with terminal.sweep_progress(directory) as progress:
        if resume:
            pair = resume_in_turns(directory, request, python, on_progress=progress, **how)
        else:
            spec = dataclasses.replace(make_spec(**{"runs": RUNS, **request}), timing=TIMING)
            pair = run_in_turns(spec, directory, str(python), on_progress=progress, **how)
    return terminal.show_in_turns(*pair, allowed)


@cli.command()
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


@cli.command()
@click.option("--problem", "problems", metavar="DESC", multiple=True, help="As for sweep; repeatable.")
@click.option("--peers", type=Names(PEERS), help=f"From {', '.join(PEERS)}.  [default: all]")
@click.option("--cores", type=Counts(), help="Core counts.  [default: 1 and all of this machine's]")
@click.option("--runs", type=int, default=5, show_default=True, help="Fresh processes.")
@click.option("--allow-tf32", is_flag=True, help="Let GPUs round float32's products to TF32.  [default: exact]")
@click.option("--output", metavar="DIR", type=Place(), help="Where to.  [default: reports/TIME]")
def versus(output: Path | None, cores: tuple[int, ...] | None, peers: tuple[str, ...] | None, **request: Any) -> None:
    """Measure our algorithms beside other libraries in one run, and on a GPU too where there is one.

    A library that is not installed is one line that says how to install it.
    """
    from convbench import machine, terminal
    from convbench.measure.spec import make_spec
    from convbench.measure.sweep import run_sweep

    counts = cores or tuple(sorted({1, machine.usable_cores()}))
    executors = ("threads",) if EXECUTORS["gpu"].available() else ("threads", "gpu")
    spec = make_spec(**request, executors=executors, peers=peers or tuple(PEERS), cores=counts)
    directory = output or _new_directory()
    with terminal.sweep_progress(directory) as progress:
        finished = run_sweep(spec, directory, on_progress=progress)
    sys.exit(terminal.show_versus(finished))


@cli.command()
@click.argument("before", metavar="DIR", type=Place())
@click.argument("after", metavar="DIR", type=Place())
@click.option("--fail-above", type=float, metavar="PERCENT", default=5.0, show_default=True, help="Exit 1 above this.")
def compare(before: Path, after: Path, fail_above: float) -> None:
    """Say cell by cell whether the second sweep is faster or slower than the first.

    Exits 1 if a cell is slower, beyond doubt, by more than PERCENT.
    """
    from convbench import terminal
    from convbench.results.store import load

    allowed = _share(fail_above)
    sys.exit(terminal.show_comparison(load(before), load(after), allowed))


def _share(percent: float) -> float:
    """What --fail-above allows, as a share."""
    if not 0 <= percent < float("inf"):
        raise RequestError(f"fail_above={percent:g} is not allowed; give a percentage from 0 up")
    return percent / 100


def _new_directory() -> Path:
    return REPORTS_DIRECTORY / datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")


@cli.command()
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


@cli.command()
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


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end; what was measured is kept, as it is when Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def main() -> None:
    """Run the command line; a wrong request is one line on standard error and exit status 2."""
    _hear_signals()
    try:
        status = _status()
        sys.stdout.flush()
        sys.exit(status)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "convbench"
        _fail(f"{error.format_message().removesuffix('.')}; see {command} --help")
    except click.ClickException as error:
        _fail(error.format_message())
    except ConvbenchError as error:
        _fail(str(error))
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        _forget_output()
        sys.exit(128 + 13)
    except OSError as error:  # of what is not answered elsewhere: standard output on a disk that is full
        _forget_output()
        _fail(f"{error.filename or 'the output'} cannot be used ({error.strerror or error})")
    except (KeyboardInterrupt, click.Abort) as interrupt:
        cause = interrupt.__cause__ or interrupt
        sys.exit(cause.status if isinstance(cause, Stopped) else 130)


def _status() -> Any:
    """Run the command; its exit status."""
    try:
        return cli(standalone_mode=False)
    except SystemExit as end:
        return end.code


def _forget_output() -> None:
    """Let what is flushed on the way out go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _hear_signals() -> None:
    """Have signals that end programs end this one as Ctrl-C does, so that no worker outlives it."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # and not told to ignore it, as by nohup
            signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def _fail(message: str) -> None:
    click.echo("convbench: error: " + " ".join(message.split()), err=True)
    sys.exit(2)
