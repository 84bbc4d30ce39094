"""A sweep: runs, each a fresh process that measures every cell once in random order, written down as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from convbench import machine
from convbench.errors import RequestError
from convbench.measure.outcome import kind
from convbench.measure.process import WorkerProcess
from convbench.measure.progress import Progress, TimeLeft
from convbench.measure.spec import MOST_RUNS, Job, Spec, job_of, same_spec
from convbench.measure.starting import Worker, begun
from convbench.results.record import Cell, Record, Status
from convbench.results.store import Store, Sweep, load

PEAKS_LIMIT: Final = 120.0  # seconds for the cores' limits, and for the GPU's
PEAKS_SHARE: Final = 1 / 3  # of a time limit, for each of the two
Width = Callable[[Sequence[Record]], float]
Keep = Callable[[Record], None]


def run_sweep(
    spec: Spec,
    directory: str | Path,
    *,
    time_limit: float | None = None,
    width: Width | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Sweep:
    """Measure a new sweep into a directory.

    Args:
        spec: What to measure.
        directory: Where to; made if it is not there.
        time_limit: Begin no cell after so many seconds; what is missing then, `resume_sweep` can add.
        width: How wide the widest interval of some records is, as a share of its mean: while that is more than
            `spec.precision`, runs are added. Without it, or where the spec names no precision, none are.
        on_progress: Called before the first cell and after each.

    Returns:
        What was measured.

    Raises:
        RequestError: The directory holds a sweep already, or cannot be written.
    """
    deadline = deadline_after(time_limit)
    header = {
        "spec": spec.to_json(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with Store.create(directory, header) as store:
        add_peaks(spec, store, header, deadline)
        _measure(spec, store, [], deadline, width, on_progress)
    return load(directory)


def resume_sweep(
    directory: str | Path,
    request: Mapping[str, Any] | None = None,
    *,
    time_limit: float | None = None,
    width: Width | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Sweep:
    """Go on with a sweep that was interrupted: measure the cells that have no record yet.

    Args:
        directory: Where it is.
        request: Arguments for `make_spec` that the caller takes the sweep to have begun with, to be checked; more
            "runs" than it began with are added.
        time_limit: As for `run_sweep`.
        width: As for `run_sweep`.
        on_progress: As for `run_sweep`.

    Returns:
        What was measured, then and now.

    Raises:
        RequestError: The directory holds no sweep, it is another sweep than `request` says, its picture or this
            package's code has changed, or it is one of two that were measured in turns.
    """
    deadline = deadline_after(time_limit)
    store, before = Store.reopen(directory)
    with store:
        if pair := before.header.get("pair"):
            raise RequestError(
                f"{directory} is measured in turns with {pair['python']}; go on with both by "
                "convbench sweep --resume --output and the directory that holds the other one"
            )
        spec = same_spec(Spec.from_json(before.header["spec"]), request or {}, where=str(directory))
        spec.verify_source()
        same_code(before.header, str(directory))
        add_peaks(spec, store, before.header, deadline)
        _measure(spec, store, list(before.records), deadline, width, on_progress)
    return load(directory)


def same_code(header: Mapping[str, Any], where: str) -> None:
    """Raise a `RequestError` if another state of the code began a sweep; old sweeps do not say which did."""
    began, now = header.get("versions", {}).get("convbench-sources"), machine.versions()["convbench-sources"]
    if began not in (None, now):
        raise RequestError(
            f"{where} was measured by another state of convbench's code ({began}, and this is {now}); "
            "go on with that one, or measure into another directory"
        )


def deadline_after(time_limit: float | None) -> float:
    """The time by `time.monotonic` after which no cell begins."""
    return time.monotonic() + (float("inf") if time_limit is None else time_limit)


def add_peaks(spec: Spec, store: Store, header: Mapping[str, Any], deadline: float) -> Any:
    """Measure the machine's limits on every number of cores that it has, unless the sweep has them.

    They take at most `PEAKS_SHARE` of the time that is left each; limits that were cut short are measured on --resume.

    Returns:
        What was measured, now or before; None if the spec wants none, or there is no time.
    """
    limit = min(PEAKS_LIMIT, PEAKS_SHARE * (deadline - time.monotonic()))
    if not spec.timing.peak_repetitions or "peaks" in header["machine"] or limit <= 0:
        return header["machine"].get("peaks")
    usable = machine.usable_cores()
    counts = {1, usable, *(cores for cores in spec.cores if cores <= usable)}
    peaks = WorkerProcess.peaks(counts, spec.timing.peak_repetitions, limit)
    if limit < PEAKS_LIMIT and any("reason" in found for found in (peaks, peaks.get("device", {}))):
        return None
    store.write_header({**header, "machine": {**header["machine"], "peaks": peaks}})
    return peaks


def _measure(
    spec: Spec,
    store: Store,
    records: list[Record],
    deadline: float,
    width: Width | None,
    on_progress: Callable[[Progress], None],
) -> None:
    """Measure cells that have no record, and store each record."""
    have = {(record.run, record.cell) for record in records}
    runs = max([spec.runs, *(record.run + 1 for record in records)])
    jobs = [[pair for pair in enumerate(spec.order(run)) if (run, pair[1]) not in have] for run in range(runs)]
    left = TimeLeft(records, jobs)
    on_progress(Progress(len(records), runs * len(spec.cells()), runs, None, None))
    for run in itertools.count():
        if run == len(jobs):
            precise = width is None or spec.precision is None or width(records) <= spec.precision
            if precise or run >= MOST_RUNS or time.monotonic() >= deadline:
                return
            jobs.append(list(enumerate(spec.order(run))))
            left.more(cell for _, cell in jobs[run])
        for record in measured(spec, run, jobs[run], deadline, store.append):
            store.append(record)
            records.append(record)
            jobs[run].remove((record.order, record.cell))
            total = len(jobs) * len(spec.cells())
            on_progress(Progress(len(records), total, len(jobs), record, left.after(record)))


def measured(
    spec: Spec, run: int, job: Job, deadline: float, keep: Keep, python: str | None = None
) -> Generator[Record, None, None]:
    """Measure cells of one run, in one process unless a worker dies or hangs.

    Args:
        spec: Of the sweep.
        run: Which run.
        job: Its cells that are to be measured.
        deadline: Begin no cell after this, by `time.monotonic`.
        keep: Called with what is not yielded: records that a worker had written when the wait for them was interrupted.
        python: Another environment's interpreter, whose convbench is to measure; by default this convbench does.

    Yields:
        A record for each cell, in the order of `job`.

    Raises:
        RequestError: The interpreter cannot be started.
    """
    left = list(job)
    while left and time.monotonic() < deadline:
        begin, first = time.monotonic(), job_of(left[0][1])
        cells = list(itertools.takewhile(lambda pair: job_of(pair[1]) == first, left))  # noqa: B023  # used at once
        try:
            worker = begun(spec, run, cells, python, WorkerProcess)
        except OSError as error:
            raise RequestError(
                f"{python or 'a worker process'} cannot be started ({error.strerror}); what was measured is kept: "
                "go on with --resume when it can be"
            ) from None
        try:
            for record in _records(worker, spec, run, cells, begin, keep):
                del left[0]
                yield record
                if time.monotonic() >= deadline:
                    return
        finally:
            worker.stop()


def _records(worker: Worker, spec: Spec, run: int, job: Job, begin: float, keep: Keep) -> Iterator[Record]:
    """A worker's records, cell by cell; if it dies or hangs, the last one says so of the cell that it was measuring.

    `begin` is when it was started, so that the first record's time includes the start. A worker may end by itself after
    any cell.
    """
    for place, (order, cell) in enumerate(job):
        status: Status = "failed"
        try:
            line = worker.next_line(spec.cell_limit)
            if line is not None:
                now = time.monotonic()
                yield dataclasses.replace(_record_of(line, run, order, cell), wall_seconds=now - begin)
                begin = now
                continue
            if place > 0 and worker.ended_by_itself():
                return
            reason = worker.cause_of_death()
        except KeyboardInterrupt:
            took = time.monotonic() - begin
            worker.stop()
            for record in _written(worker, run, job, took):
                keep(record)
            raise
        except TimeoutError:
            status, reason = "timeout", f"no end after {spec.cell_limit:g} s"
        except (ValueError, RecursionError) as error:  # of another version, or no convbench at all
            reason = f"the worker process wrote a line that is no record of this cell ({error})"
        took = time.monotonic() - begin
        yield spec.record(run, order, cell, **kind(cell), status=status, reason=reason, wall_seconds=took)
        return


def _written(worker: Worker, run: int, job: Job, seconds: float) -> Iterator[Record]:
    """The records of a job's cells that a worker had written when it was stopped, `seconds` after others."""
    with contextlib.suppress(TimeoutError):  # what it wrote last is not there yet
        for line in iter(partial(worker.next_line, 0), None):
            with contextlib.suppress(ValueError, RecursionError):
                record = Record.from_json(line)
                if record.run == run and (record.order, record.cell) in job:
                    yield dataclasses.replace(record, wall_seconds=seconds)
                    seconds = 0.0


def _record_of(line: bytes, run: int, order: int, cell: Cell) -> Record:
    """The record in a line of a worker.

    Raises:
        ValueError: It has none, or that of another cell.
    """
    record = Record.from_json(line)
    if (record.run, record.order, record.cell) != (run, order, cell):
        raise ValueError(f"is of {' '.join(map(str, record.cell))}, cell {record.order} of run {record.run}")
    return record
