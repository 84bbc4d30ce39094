"""How often `convbench compare` is right: sweeps of the same code, and of code that is slower on purpose, in turns.

python -m benchmarks.verdicts [SWEEPS [RUNS]]

Every second sweep does 5 % more work in each cell (an image with 5 % more rows of outputs) and is compared as if it did
not. Neighbouring sweeps of the same code are compared with each other, and each slowed one with the one before it.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from convbench.analysis.compare import Comparison, compare
from convbench.analysis.series import Series, group
from convbench.analysis.statistics import geometric_mean
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.problem import Problem
from convbench.report.content import Column, Table
from convbench.results.record import Record
from convbench.terminal import show_table

ALGORITHMS = ("direct", "unrolled", "winograd", "fft")
PROBLEM = Problem.parse("mb1ic1ih210iw300oc32kh11kw11")
STEADY = 0.02
SLOWED = dataclasses.replace(PROBLEM, height=PROBLEM.height + PROBLEM.output_height // 20)


def measured(problem: Problem, runs: int, directory: Path) -> tuple[Record, ...]:
    """A sweep's records under one name, whichever of the two problems it was of."""
    spec = make_spec([problem], algorithms=ALGORITHMS, executors=("serial",), cores=(1,), runs=runs)
    sweep = run_sweep(dataclasses.replace(spec, timing=Timing(peak_repetitions=0)), directory)
    return tuple(dataclasses.replace(record, problem=str(PROBLEM)) for record in sweep.records)


def deviation(series: Series) -> float:
    """Of a cell's runs, as a share of their mean."""
    times = list(series.cells[1].runs.values())
    return statistics.stdev(times) / statistics.fmean(times)


def row(name: str, found: Sequence[Comparison]) -> list[str | float]:
    """How often each verdict was given, and the geometric mean of the ratios."""
    verdicts = Counter(one.verdict for one in found)
    counts = [verdicts[verdict] for verdict in ("faster", "slower", "no difference seen", "cannot tell")]
    return [name, len(found), *counts, geometric_mean([one.ratio.value for one in found]).value]


def main(sweeps: int, runs: int) -> None:
    """Measure, compare and print; every comparison is of one algorithm."""
    same: list[Comparison] = []
    slowed: list[Comparison] = []
    steady: list[Comparison] = []  # of the slowed ones, those whose runs vary by no more than `STEADY`
    spreads: list[float] = []
    before: tuple[Record, ...] = ()
    with tempfile.TemporaryDirectory() as directory:
        for number in range(sweeps):
            records = measured(PROBLEM, runs, Path(directory) / f"same-{number}")
            slower = measured(SLOWED, runs, Path(directory) / f"slowed-{number}")
            same += compare(before, records) if before else []
            deviations = {
                series.algorithm: max(deviation(series), deviation(other))
                for series, other in zip(group(records), group(slower), strict=True)
            }
            spreads += deviations.values()
            found = compare(records, slower)
            slowed += found
            steady += [one for one in found if deviations[one.cell[1]] <= STEADY]
            before = records
            print(f"{number + 1} of {sweeps}", file=sys.stderr, flush=True)
    columns = [Column("sweeps of"), Column("comparisons", "d")]
    columns += [Column(title, "d") for title in ("faster", "slower", "no difference", "cannot tell")]
    rows = [row("same code", same), row("5 % slower", slowed)]
    rows += [row("... steady", steady)] if steady else []
    title = f"verdicts on {len(ALGORITHMS)} cells of some milliseconds, {runs} runs a sweep"
    show_table(Table("verdicts", title, [*columns, Column("mean ratio", ".4f")], rows))
    Console().print(f"steady: runs of both sweeps with a standard deviation of {STEADY:.0%} or less")
    Console().print(f"standard deviation of a cell's runs: {statistics.median(spreads):.1%} (median over cells)")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    main(*(numbers + [51, 10][len(numbers) :]))
