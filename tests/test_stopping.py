"""A sweep that is stopped, at any moment and by anything, leaves no process behind and keeps what was measured."""

from __future__ import annotations

import ast
import dataclasses
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import briefly, command

import convbench
import convbench.api
from convbench.errors import ConvbenchError
from convbench.measure import process as process_module
from convbench.measure import sweep as sweep_module
from convbench.measure.process import WorkerProcess
from convbench.measure.progress import Progress
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.results.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")

ENDLESS = ["--problem", "mb1ic1ih12iw12oc4kh3kw3", "--algorithms", "naive", "--cores", "1", "--runs", "9999"]
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
JOB = {"spec": {}, "run": 0, "cells": []}


def wait_until(true: Callable[[], object]) -> None:
    """As long as it takes, and not for ever."""
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def records_in(directory: Path) -> int:
    results = directory / "results.jsonl"
    return results.read_bytes().count(b"\n") if results.exists() else 0


# -- workers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that workers are started as; each sleeps and reads nothing."""
    found = []

    def start(*_: object, **options: object) -> subprocess.Popen[bytes]:
        found.append(popen(SLEEPER, **options))
        return found[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(process_module.subprocess, "Popen", start)
    return found


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_exception_while_a_worker_is_started_leaves_no_process(started, monkeypatch, error):
    class Broken(threading.Thread):
        def start(self) -> None:
            raise error

    monkeypatch.setattr(process_module.threading, "Thread", Broken)
    with pytest.raises(error):
        WorkerProcess(JOB, 1)
    assert [one.poll() for one in started] == [-signal.SIGKILL]


def test_a_job_that_cannot_be_written_leaves_no_process(started):
    with pytest.raises(TypeError):
        WorkerProcess({"spec": object()}, 1)
    assert [one.poll() for one in started] == [-signal.SIGKILL]


def test_a_worker_is_stopped_once_however_often_it_is_said(started, monkeypatch):
    killed = []
    kill = os.killpg
    monkeypatch.setattr(os, "killpg", lambda *what: (killed.append(what), kill(*what)))
    worker = WorkerProcess(JOB, 1)
    worker.stop()
    worker.stop()
    assert killed == [(started[0].pid, signal.SIGKILL)], "the number may be another process's by then"
    assert all(file.closed for file in (started[0].stdin, started[0].stdout))


@pytest.mark.usefixtures("started")
def test_a_worker_that_never_reads_its_job_is_one_that_hangs():
    """Starting it does not wait until it has read what no pipe holds."""
    made: list[WorkerProcess] = []
    start = threading.Thread(target=lambda: made.append(WorkerProcess({"cells": ["x" * 2**20]}, 1)), daemon=True)
    start.start()
    start.join(timeout=60)
    assert made, "it waits for ever"
    with pytest.raises(TimeoutError):
        made[0].next_line(0.01)
    made[0].stop()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_worker_that_nobody_holds_any_more_leaves():
    spec = make_spec(["mb1ic1ih12iw12oc4kh3kw3"], algorithms=("naive",), executors=("serial",))
    worker = WorkerProcess({"spec": spec.to_json(), "run": 0, "cells": list(enumerate(spec.cells() * 10_000))}, 1)
    assert worker.next_line(120)
    left = psutil.Process(worker._process.pid)
    del worker
    gc.collect()
    wait_until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 42])
def test_the_cause_of_death_is_named_whatever_it_was(started, number):
    worker = WorkerProcess(JOB, 1)
    os.kill(started[0].pid, number)
    assert worker.next_line(60) is None
    name = signal.Signals(number).name if number != 42 else "signal 42"
    assert worker.cause_of_death().startswith(f"the worker process was killed by {name}")
    worker.stop()


def test_limits_that_cannot_be_read_are_a_reason(monkeypatch):
    monkeypatch.setattr(process_module.gpu, "describe", lambda: None)
    monkeypatch.setattr(
        process_module.interpreter, "command", lambda *_: [sys.executable, "-c", "input(); print('no limits')"]
    )
    assert "cannot be read" in WorkerProcess.peaks([1], 1)["reason"]


# -- the time limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "limits", "found", "kept"),
    [
        (float("inf"), [120], {"copy": 1}, True),
        (float("inf"), [120], {"reason": "no end after 120 s"}, True),  # nor would it end next time
        (30, [10], {"copy": 1}, True),
        (30, [10], {"reason": "no end after 10 s"}, False),
        (30, [10], {"copy": 1, "device": {"reason": "no end after 10 s"}}, False),
        (0, [], {}, False),
        (-5, [], {}, False),
    ],
)
def test_measuring_the_machines_limits_keeps_to_the_time_limit(tmp_path, monkeypatch, left, limits, found, kept):
    asked = []
    monkeypatch.setattr(sweep_module.time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(sweep_module.WorkerProcess, "peaks", lambda *how: (asked.append(how[-1]), found)[1])
    header = {"spec": {}, "machine": {}}
    with Store.create(tmp_path / "sweep", header) as store:
        sweep_module.add_peaks(make_spec(["ic3ih9oc2kh3"]), store, header, 1000.0 + left)
    assert asked == limits
    assert ("peaks" in convbench.load(tmp_path / "sweep").sweep.header["machine"]) == kept


# -- what was measured --------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in which every cell is measured at once, and no process is started."""

    def measured(spec: Spec, run: int, job: list, *_: object) -> object:
        for order, cell in list(job):
            yield spec.record(run, order, cell, status="ok", samples=(0.5,))

    monkeypatch.setattr(sweep_module, "measured", measured)
    monkeypatch.setattr(Timing, "peak_repetitions", 0)
    monkeypatch.setattr(Timing.__init__, "__defaults__", (*Timing.__init__.__defaults__[:-1], 0))  # what a new one has


def stop_after(count: int, error: BaseException) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.done == count:
            raise error

    return stop


REQUEST = {"problems": "ic3ih9iw9oc2kh3kw3", "algorithms": "naive", "executors": "serial", "runs": 5}


@pytest.mark.usefixtures("measuring")
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), ValueError("of the caller's"), ConvbenchError("x")]
)
def test_what_was_measured_stays_and_can_be_gone_on_with(temporary, capsys, error):
    with pytest.raises(type(error)) as raised:
        convbench.sweep(**REQUEST, on_progress=stop_after(2, error))
    assert raised.value is error
    [directory] = temporary.iterdir()
    [note] = error.__notes__
    said = capsys.readouterr().err
    assert note in said
    assert str(directory) in note
    assert len(said.splitlines()) == 1
    where = ast.literal_eval(re.search(r"convbench\.load\((.+?)\)", note)[1])
    assert len(convbench.load(where).records) == 2
    words = re.search(r"convbench sweep --resume --output (\S+)", note)[1]
    assert len(sweep_module.resume_sweep(words).records) == 5


def test_what_a_worker_has_written_when_the_wait_for_it_is_interrupted_is_kept(tmp_path, monkeypatch):
    """A record is on its way for a moment; for longer where a launcher passes it on."""
    waited, next_line = [], WorkerProcess.next_line

    def interrupted(worker: WorkerProcess, limit: float) -> bytes | None:
        waited.append(limit)
        if len(waited) != 2:
            return next_line(worker, limit)
        wait_until(lambda: worker._lines.qsize() >= 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "next_line", interrupted)
    algorithms, executors = ("naive", "direct", "unrolled"), ("serial", "threads")
    spec = make_spec(["ic3ih9iw9oc2kh3kw3"], algorithms=algorithms, executors=executors, cores=(1,), runs=1)
    spec = dataclasses.replace(spec, timing=Timing(warmup_seconds=0.001, min_seconds=0.001, peak_repetitions=0))
    with pytest.raises(KeyboardInterrupt):
        sweep_module.run_sweep(spec, tmp_path / "sweep")
    records = convbench.load(tmp_path / "sweep").records
    assert len(records) >= 3
    assert [record.order for record in records] == list(range(len(records)))
    assert all(record.status == "ok" for record in records)
    assert records[1].wall_seconds > 0
    monkeypatch.setattr(WorkerProcess, "next_line", next_line)
    assert len(sweep_module.resume_sweep(tmp_path / "sweep").records) == len(spec.cells()) * spec.runs


def test_of_what_was_written_records_of_the_job_are_kept_and_nothing_else():
    spec = make_spec(["ic3ih9iw9oc2kh3kw3"], algorithms=("naive", "direct"), executors=("serial",), runs=2)
    job = list(enumerate(spec.cells()))
    first, second, other = (
        spec.record(run, order, job[order][1], status="ok", samples=(0.5,)) for run, order in ((1, 0), (1, 1), (0, 1))
    )
    lines = [b"{", other.to_json().encode(), second.to_json().encode(), b"[]\n", first.to_json().encode(), None]

    class Stopped:
        def next_line(self, limit: float) -> bytes | None:
            assert limit == 0
            return lines.pop(0)

    kept = list(sweep_module._written(Stopped(), 1, job, 0.25))
    assert [(record.order, record.wall_seconds) for record in kept] == [(1, 0.25), (0, 0.0)]


@pytest.mark.usefixtures("measuring")
def test_nothing_stays_where_nothing_was_measured(temporary, capsys):
    with pytest.raises(KeyboardInterrupt) as raised:
        convbench.sweep(**REQUEST, on_progress=stop_after(0, KeyboardInterrupt()))
    assert not list(temporary.iterdir())
    assert not hasattr(raised.value, "__notes__")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("measuring")
def test_two_interrupts_in_a_row_keep_both_sweeps(temporary):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            convbench.sweep(**REQUEST, on_progress=stop_after(1, KeyboardInterrupt()))
    assert [records_in(directory) for directory in temporary.iterdir()] == [1, 1]
    assert len(convbench.sweep(**REQUEST).records) == 5
    assert len(list(temporary.iterdir())) == 2, "one that ends leaves none"


@pytest.mark.usefixtures("measuring")
def test_an_interrupt_without_a_standard_error_is_an_interrupt(temporary, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(KeyboardInterrupt):
        convbench.sweep(**REQUEST, on_progress=stop_after(1, KeyboardInterrupt()))
    assert len(list(temporary.iterdir())) == 1
    assert capsys.readouterr().out == ""


# -- signals ------------------------------------------------------------------------------------------------------


def workers_of(sweep: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(sweep.pid).children(recursive=True)


def test_a_signal_ends_a_sweep_and_its_workers_and_keeps_what_was_measured(tmp_path):
    directory = tmp_path / "sweep"
    words = command(["sweep", *ENDLESS, "--executors", "processes", "--output", directory])
    with subprocess.Popen(words, env=briefly(), stderr=subprocess.PIPE, text=True) as sweep:
        wait_until(lambda: records_in(directory) >= 1 and workers_of(sweep))
        workers = workers_of(sweep)
        sweep.terminate()
        said = sweep.stderr.read()
    assert sweep.returncode == 128 + signal.SIGTERM
    assert f"convbench sweep --resume --output {directory}" in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert convbench.load(directory).records


@pytest.mark.long
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    directory = tmp_path / "sweep"
    words = command(["sweep", *ENDLESS, "--executors", "serial", "--output", directory])
    ignoring = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words]
    with subprocess.Popen(ignoring, env=briefly(), stderr=subprocess.DEVNULL) as sweep:
        wait_until(lambda: records_in(directory) >= 1)
        sweep.send_signal(signal.SIGHUP)
        seen = records_in(directory)
        wait_until(lambda: records_in(directory) > seen)
        sweep.terminate()
    assert sweep.returncode == 128 + signal.SIGTERM
