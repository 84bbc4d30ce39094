"""Which kernels are slower than in another version: all are screened, and those that look slower are measured again.

Screening has no error rate of its own: it only says what is worth measuring again. The verdict rests on the runs that
come after it, which know nothing of the choice, so it is one of a few cells instead of a hundred.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convbench import machine
from convbench.analysis.compare import Comparison, compare, slower_beyond
from convbench.analysis.evidence import InTurns
from convbench.measure.progress import Progress
from convbench.measure.spec import Spec, make_spec
from convbench.measure.turns import TIMING, run_in_turns
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.results.record import Cell
from convbench.results.store import Sweep

SHAPES = (
    'mb1ic1ih720iw1280oc128kh11kw11n"multicore"',
    'mb1ic3ih227oc96kh11sh4ph0n"alexnet:conv1"',
    'mb1ic64ih112oc128kh3ph1n"vgg:conv2_1"',
    'mb1ic3ih224oc64oh112kh7sh2ph3n"resnet:conv1"',
    'mb1ic64ih56oc64kh3ph1n"resnet:conv2"',
    'mb1ic128ih28oc128kh3ph1n"resnet:conv3"',
    'mb1ic256ih14oc256kh3ph1n"resnet:conv4"',
    'mb1ic512ih7oc512kh3ph1n"resnet:conv5"',
    'mb1ic256ih56oc64kh1ph0n"resnet:1x1"',
    'mb1ic16ih28oc32kh5ph2n"googlenet:5x5"',
    'g128mb1ic128ih56oc128kh3ph1n"mobilenet:depthwise"',
)
EXECUTORS = ("serial", "threads")
THRESHOLD = 0.03  # see docs/performance.md, "make bench"
SCREENING_RUNS = 6  # the fewest of which a cell has an interval
CONFIRMING_RUNS = 12
MOST_SUSPECTS = 12  # cells that are measured again: so many runs can tell one among them
ALONE = 0.05  # level of the interval of a cell that was screened
BRIEFLY = dataclasses.replace(
    TIMING, min_seconds=0.08, max_seconds=0.3, max_warmups=3, warmup_seconds=0.3, peak_repetitions=0
)

Show = Callable[[Progress], None]


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        screened: Every cell in the first runs: this version's time over the other one's.
        confirmed: The cells that looked slower, in runs of their own.
        slower: Those of them that are slower by more than the threshold, beyond doubt.
        failed: Cells that this version failed to measure, and why.
        same_code: Whether both versions have the same sources, so that whatever is found is a false alarm.
    """

    screened: tuple[Comparison, ...]
    confirmed: tuple[Comparison, ...]
    slower: tuple[Comparison, ...]
    failed: dict[Cell, str]
    same_code: bool

    @property
    def resolution(self) -> float | None:
        """Median of half the width of the screened cells' intervals, as a share; None with too few runs."""
        known = [(low, high) for low, high in map(_alone, self.screened) if low is not None and high is not None]
        return statistics.median((high - low) / 2 for low, high in known) if known else None


def make(shapes: Sequence[str], forms: Sequence[str] | None, runs: int) -> Spec:
    """What is screened."""
    spec = make_spec(shapes, algorithms=forms, executors=EXECUTORS, cores=machine.usable_cores(), runs=runs)
    return dataclasses.replace(spec, timing=BRIEFLY)


def of_cells(spec: Spec, only: Sequence[Cell], **changes: Any) -> Spec:
    """The spec, with some fields changed, of some of its cells.

    Workers, which may be of an older version, are told which cells to measure; so its JSON is that of all cells.
    """

    class Some(Spec):
        def cells(self) -> list[Cell]:
            return [cell for cell in super().cells() if cell in only]

    fields = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return Some(**fields | changes)


def suspects(screened: Sequence[Comparison], threshold: float = THRESHOLD, most: int = MOST_SUSPECTS) -> list[Cell]:
    """The cells that look slower by more than the threshold, the slowest first, up to `most`."""
    worst = sorted(screened, key=lambda one: -one.ratio.value)
    return [one.cell for one in worst if one.ratio.value > 1 + threshold][:most]


def beyond_doubt(confirmed: Sequence[Comparison], threshold: float = THRESHOLD) -> tuple[Comparison, ...]:
    """Those slower by more than the threshold; any is named for nothing in 2.5 % of whole comparisons at most."""
    return tuple(slower_beyond(confirmed, threshold))


def measure(
    spec: Spec, python: str, directory: Path, confirming_runs: int, deadline: Callable[[float], float], show: Show
) -> Result:
    """Screen this version against another one, and measure again what looks slower.

    Args:
        spec: What is screened.
        python: The other version's interpreter.
        directory: A folder for the sweeps.
        confirming_runs: How often the suspects are measured.
        deadline: Seconds that a stage may last, given the share of the time left that it may take.
        show: Told of progress.
    """
    pair = run_in_turns(spec, directory / "screened", python, time_limit=deadline(0.75), on_progress=show)
    screened = _compared(spec, pair)
    looked_slower, failed = suspects(screened), _failed(pair[0])
    sources = [sweep.header["versions"].get("convbench-sources") for sweep in pair]
    same_code = sources[0] == sources[1]
    if not looked_slower:
        return Result(screened, (), (), failed, same_code)
    chosen = of_cells(spec, looked_slower, runs=confirming_runs, seed=spec.seed + 1)
    pair = run_in_turns(chosen, directory / "confirmed", python, time_limit=deadline(1.0), on_progress=show)
    confirmed = _compared(spec, pair)
    return Result(screened, confirmed, beyond_doubt(confirmed), failed | _failed(pair[0]), same_code)


def cells_table(result: Result, title: str) -> Table:
    """A row for each cell: what was screened, and what became of it."""
    confirmed = {one.cell: one for one in result.confirmed}
    slower = {one.cell for one in result.slower}
    rows: list[list[Value]] = []
    for one in result.screened:
        problem, algorithm, executor, cores = one.cell
        again = confirmed.get(one.cell)
        verdict = "" if again is None else "slower" if one.cell in slower else "not beyond doubt"
        value, low, high = (one.ratio.value, *_alone(one)) if again is None else _of(again)
        runs = (again or one).ratio.runs
        rows.append([Problem.parse(problem).label, algorithm, executor, cores, value, low, high, runs, verdict])
    columns = [
        *(Column("shape"), Column("form"), Column("executor"), Column("cores", "d"), Column("ratio", ".3f")),
        *(Column("low", ".3f"), Column("high", ".3f"), Column("runs", "d"), Column("verdict")),
    ]
    return Table("bench", title, columns, rows)


def forms_table(screened: Sequence[Comparison]) -> Table:
    """A row for each form and executor: the geometric mean of its ratios over the shapes."""
    found: dict[tuple[str, str, int], list[Comparison]] = {}
    for one in screened:
        found.setdefault((one.cell[1], one.cell[2], one.cell[3]), []).append(one)
    rows: list[list[Value]] = []
    for key, ones in found.items():
        whole = _over_shapes(ones)
        bounds = whole.interval(ALONE) or (math.nan, math.nan)
        low, high = (None if math.isnan(bound) else math.exp(bound) for bound in bounds)
        rows.append([*key, len(ones), math.exp(whole.value), low, high])
    columns = [
        *(Column("form"), Column("executor"), Column("cores", "d"), Column("shapes", "d")),
        *(Column("ratio", ".3f"), Column("low", ".3f"), Column("high", ".3f")),
    ]
    return Table("bench-forms", "Geometric mean of the ratios over the shapes", columns, rows)


def _over_shapes(ones: Sequence[Comparison]) -> InTurns:
    """The geometric means over several cells in each run that has them all."""
    times = [one.evidence.times for one in ones if isinstance(one.evidence, InTurns)]
    runs = min(each.shape[1] for each in times)
    return InTurns(np.mean([each[:, :runs] for each in times], axis=0))


def _compared(spec: Spec, pair: tuple[Sweep, Sweep]) -> tuple[Comparison, ...]:
    order = (spec.problems, spec.algorithms, spec.executors)
    this, against = pair
    return tuple(compare(against.records, this.records, order, in_turns=True))


def _failed(sweep: Sweep) -> dict[Cell, str]:
    return {record.cell: record.reason for record in sweep.records if record.status in ("failed", "timeout")}


def _alone(one: Comparison) -> tuple[float | None, float | None]:
    """The interval of a cell by itself, whatever the others are."""
    bounds = one.evidence.interval(ALONE)
    return (None, None) if bounds is None else (math.exp(bounds[0]), math.exp(bounds[1]))


def _of(one: Comparison) -> tuple[float, float | None, float | None]:
    return (one.ratio.value, one.ratio.low, one.ratio.high)
