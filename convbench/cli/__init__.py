"""The command line: each command parses, calls and prints."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from convbench import __version__
from convbench.cli import measuring, networks, reading, selecting
from convbench.errors import ConvbenchError
from convbench.runtime.ranks import place


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="convbench")
def cli() -> None:
    """Measure the 2-D convolution primitive over algorithms, executors and cores."""


for command in (
    measuring.sweep,
    reading.report,
    measuring.versus,
    reading.compare,
    selecting.tune,
    selecting.choose,
    reading.evaluate,
    reading.machine,
    networks.networks,
    reading.export,
):
    cli.add_command(command)


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end; what was measured is kept, as it is when Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def main() -> None:
    """Run the command line; a wrong request is one line on standard error and exit status 2."""
    _hear_signals()
    _let_one_rank_speak()
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


def _let_one_rank_speak() -> None:
    """Have what all ranks of an MPI job but the first say go nowhere, since the first says the same."""
    if (where := place()) is not None and where[0] > 0:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
