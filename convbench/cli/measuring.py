"""Commands that measure: sweep and versus."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Final

import click

from convbench.cli.options import new_directory, options, said, share_of, with_networks
from convbench.errors import RequestError
from convbench.executors import EXECUTORS
from convbench.peers import PEERS
from convbench.request import Call

BESIDE_PEERS: Final = ("threads", "gpu")
"""What our algorithms are measured on beside other libraries, which compute on their threads or on a GPU."""


@click.command()
@options(Call)
@click.option("--resume", is_flag=True, help="Go on with the sweep in --output.")
@click.option(
    "--against", metavar="PYTHON", help="Measure in turns with the convbench of another environment's python."
)
@click.option("--fail-above", type=float, metavar="PERCENT", help="With --against, exit 1 as compare does.")
def sweep(**request: Any) -> None:
    """Measure algorithms on executors and core counts.

    Every run is a fresh process that measures every combination once, in random order. With --against, two versions of
    convbench measure all of it in turns, and this version's time over that of PYTHON's is printed; the other sweep is
    in DIR/against.
    """
    from convbench.measure.starting import leading

    with leading(request["executors"] or EXECUTORS.defaults, max(request["cores"] or (1,))):
        status = _sweep(**request)
    sys.exit(status)


def _sweep(
    output: Path | None,
    *,
    resume: bool,
    time_limit: float | None,
    against: str | None,
    fail_above: float | None,
    **request: Any,
) -> int:
    """Measure; the exit status."""
    from convbench import terminal
    from convbench.analysis.series import widest_interval
    from convbench.measure.spec import make_spec
    from convbench.measure.sweep import resume_sweep, run_sweep
    from convbench.measure.turns import is_pair
    from convbench.select.from_sweeps import learn

    directory, given = output or new_directory(), with_networks(said(request))
    how: dict[str, Any] = {"time_limit": time_limit, "width": widest_interval}
    if resume and output is None:
        raise RequestError("--resume goes on with the sweep in --output; give the directory")
    if against is not None or (resume and is_pair(directory)):
        how["allowed"] = None if fail_above is None else share_of(fail_above)
        return _sweep_in_turns(directory, against, given, how, resume=resume)
    if fail_above is not None:
        raise RequestError(f"fail_above={fail_above:g} is of two versions of convbench; give --against PYTHON, too")
    with terminal.sweep_progress(directory) as progress:
        how["on_progress"] = progress
        finished = resume_sweep(directory, given, **how) if resume else run_sweep(make_spec(**given), directory, **how)
    status = terminal.show_sweep(finished)
    if learned := learn(finished):
        terminal.say(f"the selection model of this machine has learned from {learned} problems of this sweep")
    return status


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


@click.command()
@options(
    *(Call, "problems", "network", "mb", "layers", "peers", "cores", "runs", "allow_tf32"),
    *("memory_limit", "output"),
    defaults={"problems": "", "peers": "all", "cores": "1 and all of this machine's", "runs": "5"},
)
def versus(output: Path | None, **request: Any) -> None:
    """Measure our algorithms beside other libraries in one run, and on a GPU too where there is one.

    A library that is not installed is one line that says how to install it.
    """
    from convbench import machine, terminal
    from convbench.measure.spec import make_spec
    from convbench.measure.sweep import run_sweep

    executors = [name for name in BESIDE_PEERS if EXECUTORS[name].available() is None]
    unsaid = {"runs": 5, "peers": tuple(PEERS), "cores": sorted({1, machine.usable_cores()}), "executors": executors}
    spec = make_spec(**{**unsaid, **with_networks(said(request))})
    directory = output or new_directory()
    with terminal.sweep_progress(directory) as progress:
        finished = run_sweep(spec, directory, on_progress=progress)
    sys.exit(terminal.show_versus(finished))
