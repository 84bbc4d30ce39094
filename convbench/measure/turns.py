"""Two versions of the code in one sweep, measured in turns, so that slow changes of the host affect both alike.

Each version has a sweep of its own, of the same cells in the same runs: this version in the directory that is asked
for, the other version in `AGAINST` below it. Within a run, one version measures some cells, then the other one the same
cells, each in a fresh process, until the run is complete. Which goes first is random, and reversed in every second run.
See docs/decisions/0011-in-turns.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from convbench import machine
from convbench.errors import RequestError
from convbench.measure import other
from convbench.measure.progress import Progress
from convbench.measure.spec import MOST_RUNS, Spec, Timing, same_spec
from convbench.measure.sweep import add_peaks, deadline_after, measured, same_code
from convbench.results.record import Cell, Record
from convbench.results.store import Store, Sweep, holds_sweep, load

AGAINST: Final = "against"
TURN_SECONDS: Final = 5.0  # of a turn; starting a process takes one of them
RUNS: Final = 12  # by default; see docs/decisions/0011-in-turns.md
TIMING: Final = Timing(sample_seconds=0.001, max_samples=100, min_seconds=0.3, max_seconds=1.0)
"""By default: many short samples, since each run's fastest sample is compared."""

Pair = tuple[Sweep, Sweep]
Width = Callable[[Sequence[Record], Sequence[Record]], float]


@dataclass
class Side:
    """One of the two versions.

    Attributes:
        store: Where its records go.
        python: The interpreter of its environment; None for this one.
        records: What it has measured, in runs before and in this one.
    """

    store: Store
    python: str | None
    records: list[Record]
    done: set[tuple[int, Cell]] = field(init=False)

    def __post_init__(self) -> None:
        self.done = {(record.run, record.cell) for record in self.records}

    def add(self, turn: Mapping[str, int], record: Record) -> None:
        """Store a record with which turn it is of, and whether this version began that one."""
        record = dataclasses.replace(record, worker={**record.worker, **turn})
        self.store.append(record)
        self.records.append(record)
        self.done.add((record.run, record.cell))


def run_in_turns(
    spec: Spec,
    directory: str | Path,
    python: str,
    *,
    time_limit: float | None = None,
    width: Width | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Pair:
    """Measure two new sweeps in turns.

    Args:
        spec: What to measure.
        directory: Where to; the other version's sweep goes into `AGAINST` below it.
        python: The interpreter of the environment in which the other version is installed.
        time_limit: As for `run_sweep`.
        width: How wide the widest interval of a cell's ratio is, given the records of this version and of the other.
        on_progress: As for `run_sweep`; cells of both versions count.

    Returns:
        This version's sweep and the other's.

    Raises:
        RequestError: The directory holds a sweep already, or cannot be written; the other version cannot be started, or
            does not know what `spec` names.
    """
    directory, deadline = Path(directory), deadline_after(time_limit)
    other_facts = other.describe(python, spec.for_workers())
    pair = {"id": uuid.uuid4().hex, **{key: other_facts[key] for key in ("python", "versions")}}
    began = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "spec": spec.to_json()}
    facts = {"machine": machine.describe(), "versions": machine.versions()}
    header = {**began, **facts, "pair": {**pair, "side": "this"}}
    with Store.create(directory, header) as store:
        peaks = add_peaks(spec, store, header, deadline)
        of_other = _header_of_other(header, other_facts, peaks)
        with Store.create(directory / AGAINST, of_other) as against:
            sides = (Side(store, None, []), Side(against, other_facts["python"], []))
            _measure(spec, sides, deadline, width, on_progress)
    return load(directory), load(directory / AGAINST)


def resume_in_turns(  # over 40 lines: half of them are the arguments and what they mean
    directory: str | Path,
    request: Mapping[str, Any] | None = None,
    python: str | None = None,
    *,
    time_limit: float | None = None,
    width: Width | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Pair:
    """Go on with two sweeps that were measured in turns: measure the cells of both that have no record yet.

    Args:
        directory: Where this version's sweep is.
        request: As for `resume_sweep`.
        python: The other version's interpreter, to be checked; by default the one that the sweeps began with.
        time_limit: As for `run_sweep`.
        width: As for `run_in_turns`.
        on_progress: As for `run_in_turns`.

    Returns:
        What was measured, then and now.

    Raises:
        RequestError: The directory holds no sweep or one that was not measured in turns, it is another one than
            `request` says, its picture or this package's code has changed, or the other version is gone or another one.
    """
    directory, deadline = Path(directory), deadline_after(time_limit)
    with ExitStack() as stack:
        store, before = Store.reopen(directory)
        stack.enter_context(store)
        pair = _pair_of(before)
        spec = same_spec(Spec.from_json(before.header["spec"]), request or {}, where=str(directory))
        spec.verify_source()
        same_code(before.header, str(directory))
        other_facts = _same_other(spec, pair, python, directory)
        peaks = add_peaks(spec, store, before.header, deadline)
        if not holds_sweep(directory / AGAINST):  # it was interrupted before it had begun
            Store.create(directory / AGAINST, _header_of_other(before.header, other_facts, peaks)).close()
        against, its = Store.reopen(directory / AGAINST)
        stack.enter_context(against)
        if its.header.get("pair", {}).get("id") != pair["id"]:
            raise RequestError(f"{directory / AGAINST} was not measured in turns with {directory}; put it elsewhere")
        sides = (Side(store, None, list(before.records)), Side(against, other_facts["python"], list(its.records)))
        _measure(spec, sides, deadline, width, on_progress)
    return load(directory), load(directory / AGAINST)


def _pair_of(sweep: Sweep) -> Mapping[str, Any]:
    """The entry on the other version in a sweep's header.

    Raises:
        RequestError: It was not measured in turns, or it is the other version's.
    """
    directory, pair = sweep.directory, sweep.header.get("pair")
    if pair is None:
        raise RequestError(f"{directory} was not begun with --against; go on with it without, or measure anew")
    if pair["side"] != "this":
        raise RequestError(f"{directory} is the other version's sweep; go on with both by --output {directory.parent}")
    found: Mapping[str, Any] = pair
    return found


def _same_other(spec: Spec, pair: Mapping[str, Any], python: str | None, directory: Path) -> dict[str, Any]:
    """The other version as it describes itself now.

    Raises:
        RequestError: It is not the one that the sweep began with.
    """
    found = other.describe(pair["python"] if python is None else python, spec.for_workers())
    for what in ("python", "versions"):
        if found[what] != pair[what]:
            raise RequestError(
                f"against={python or pair['python']!r} is not what {directory} was measured with ({what} differs); "
                "put that one back, or measure into another directory"
            )
    return found


def is_pair(directory: str | Path) -> bool:
    """Whether a directory holds a sweep that was measured in turns with another one."""
    return holds_sweep(Path(directory)) and "pair" in load(directory).header


def goes_first(seed: int, run: int) -> int:
    """Which of the two versions begins every turn of a run: 0 or 1, random, and the other one in the next run.

    So both begin equally often, and no cell gains from always being first.
    """
    return (random.Random(f"{seed}/first/{run // 2}").randrange(2) + run) % 2


def _header_of_other(header: Mapping[str, Any], other_facts: Mapping[str, Any], peaks: Any) -> dict[str, Any]:
    """The other sweep's header; the machine's limits are the same, so they are measured once."""
    facts = {**other_facts["machine"], **({"peaks": peaks} if peaks is not None else {})}
    pair = {**header["pair"], "side": AGAINST}
    return {**header, "machine": facts, "versions": other_facts["versions"], "pair": pair}


def _measure(
    spec: Spec,
    sides: tuple[Side, Side],
    deadline: float,
    width: Width | None,
    on_progress: Callable[[Progress], None],
) -> None:
    """Measure cells that have no record, and store each record."""
    runs = max([spec.runs, *(record.run + 1 for side in sides for record in side.records)])
    cells = 2 * len(spec.cells())
    took, measured_now = 0.0, 0  # seconds of how many cells
    done = sum(len(side.done) for side in sides)
    on_progress(Progress(done, runs * cells, runs, None, None))
    for run in itertools.count():
        if run == runs:
            precise = width is None or spec.precision is None or width(*(s.records for s in sides)) <= spec.precision
            if precise or run >= MOST_RUNS or time.monotonic() >= deadline:
                return
            runs += 1
        for record in _run(spec, run, sides, deadline):
            took, measured_now = took + record.wall_seconds, measured_now + 1
            done = sum(len(side.done) for side in sides)
            left = (runs * cells - done) * took / measured_now
            on_progress(Progress(done, runs * cells, runs, record, left))


def _run(spec: Spec, run: int, sides: Sequence[Side], deadline: float) -> Iterator[Record]:
    """Measure the missing cells of a run: as many as one version does in `TURN_SECONDS`, then the same by the other."""
    begins = goes_first(spec.seed, run)
    order = list(enumerate(spec.order(run)))
    for turn in itertools.count():
        lacking = [pair for pair in order if any((run, pair[1]) not in side.done for side in sides)]
        if not lacking or time.monotonic() >= deadline:
            return
        until = time.monotonic() + TURN_SECONDS
        for first, side in ((True, sides[begins]), (False, sides[1 - begins])):
            job = [pair for pair in lacking if (run, pair[1]) not in side.done]
            keep = partial(side.add, {"turn": turn, "first": first})
            with closing(measured(spec, run, job, deadline, keep, side.python)) as records:
                for record in records:
                    keep(record)
                    yield record
                    if first and time.monotonic() >= until:
                        break
            lacking = [pair for pair in lacking if (run, pair[1]) in side.done] or lacking  # the other one's turn
