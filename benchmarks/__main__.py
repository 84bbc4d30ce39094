"""Compare this version's kernels with those of the last commit, in turns: `make bench`.

python -m benchmarks [--against REVISION] [--shapes NAMES] [--forms NAMES] [--runs N] [--time-limit SECONDS]

Exits 1 if a kernel became slower, beyond doubt, or fails. docs/performance.md says how far that can be relied on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks import commits, slower
from convbench.algorithms import ALGORITHMS
from convbench.errors import RequestError
from convbench.problem import Problem
from convbench.terminal import say, show_table, sweep_progress

NAMES = {Problem.parse(shape).name: shape for shape in slower.SHAPES}


@click.command()
@click.option("--against", metavar="REVISION", help="the other version  [default: the last commit that differs]")
@click.option("--shapes", metavar="NAMES", help=f"of {', '.join(NAMES)}, or descriptors  [default: all]")
@click.option("--forms", metavar="NAMES", help=f"of {', '.join(ALGORITHMS)}  [default: all but naive]")
@click.option("--runs", default=slower.SCREENING_RUNS, show_default=True, help="of every cell; twice as many confirm")
@click.option("--time-limit", default=570.0, show_default=True, metavar="SECONDS", help="begin no cell after that")
@click.option("--output", type=click.Path(path_type=Path), help="keep both sweeps there")
def main(
    against: str | None, shapes: str | None, forms: str | None, runs: int, time_limit: float, output: Path | None
) -> None:
    """Time every form on layers of networks in this version and in another one, in turns."""
    end = time.monotonic() + time_limit
    try:
        with tempfile.TemporaryDirectory() as temporary:
            sys.exit(_bench(against or commits.default_revision(), shapes, forms, runs, end, output or Path(temporary)))
    except RequestError as error:
        raise click.UsageError(str(error)) from None


def _bench(revision: str, shapes: str | None, forms: str | None, runs: int, end: float, directory: Path) -> int:
    chosen = slower.SHAPES if shapes is None else [NAMES.get(name, name) for name in shapes.split(",")]
    spec = slower.make(chosen, None if forms is None else forms.split(","), runs)
    python = commits.export(revision)
    say(f"compiling the tiles of this version and of {revision}")
    commits.compile_tiles(python, spec.cells())
    confirming = max(slower.CONFIRMING_RUNS, 2 * runs)
    with sweep_progress(None) as show:
        result = slower.measure(
            spec, str(python), directory, confirming, lambda share: share * (end - time.monotonic()), show
        )
    return _show(result, revision)


def _show(result: slower.Result, revision: str) -> int:
    show_table(slower.cells_table(result, f"time in this version over time in {revision}, measured in turns"))
    show_table(slower.forms_table(result.screened))
    for cell, reason in result.failed.items():
        say(f"failed: {' '.join(map(str, cell))}: {reason}")
    for one in result.slower:
        say(f"slower beyond doubt: {' '.join(map(str, one.cell))}: {one.ratio.value:.3f}")
    if result.same_code:
        say("both versions have the same sources, so that every difference is one of the measurement")
    if result.resolution is None:
        say(f"no screened ratio has an interval, which takes {slower.SCREENING_RUNS} runs")
    else:
        say(f"half of the screened ratios are known to ±{result.resolution:.1%} or better")
    say(f"{len(result.slower)} of {len(result.screened)} kernels are slower by more than {slower.THRESHOLD:.0%}")
    return int(bool(result.slower or result.failed))


if __name__ == "__main__":
    main()
