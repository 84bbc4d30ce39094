"""Nothing that was measured is ever lost: killed at any moment, on a full disk, or told to write where it cannot."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import Convbench, briefly, command

from convbench.errors import RequestError
from convbench.measure.spec import Spec
from convbench.results.record import Record
from convbench.results.store import Store, load

resource = pytest.importorskip("resource", reason="this system has no limits on files")

KILLS, RUNS = 50, 20  # so many runs that the last kill, too, finds something left to measure
REQUEST = ["--problem", "mb1ic1ih12iw12oc4kh3kw3", "--algorithms", "naive,direct", "--executors", "serial,threads"]


def sweep(directory: Path, *more: object) -> list[str]:
    """A sweep of cells that take next to no time, six in a run."""
    return command(["sweep", *REQUEST, "--cores", "1,2", "--runs", 3, "--output", directory, *more])


# The same, begun or gone on with, without measuring the machine's limits first.
QUICK_SWEEP = """
import dataclasses, pathlib, sys
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import resume_sweep, run_sweep
from convbench.results.store import holds_sweep

directory = pathlib.Path(sys.argv[1])
if holds_sweep(directory):
    resume_sweep(directory)
else:
    names = {"algorithms": ("naive", "direct"), "executors": ("serial", "threads")}
    spec = make_spec(["mb1ic1ih12iw12oc4kh3kw3"], cores=(1, 2), runs=int(sys.argv[2]), **names)
    run_sweep(dataclasses.replace(spec, timing=Timing(min_seconds=0, max_samples=3, peak_repetitions=0)), directory)
"""


def test_killed_at_fifty_moments_it_ends_with_every_cell_once(tmp_path):
    directory = tmp_path / "sweep"
    results = directory / "results.jsonl"
    words = [sys.executable, "-c", QUICK_SWEEP, directory, str(RUNS)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as one:
        begin = time.monotonic()
        while not (results.exists() and results.stat().st_size):
            assert one.poll() is None
            time.sleep(0.01)
        first_record = time.monotonic() - begin
        one.kill()
    moments = random.Random(0)
    kept: tuple[str, ...] = ()
    for kill in range(KILLS):
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as one:
            time.sleep(first_record * moments.uniform(0, 1.2))
            one.kill()
        lines = tuple(record.to_json() for record in load(directory).records)
        assert lines[: len(kept)] == kept, f"kill {kill} lost something"
        kept = lines
    assert kept
    done = subprocess.run(
        command(["sweep", "--resume", "--output", directory]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    finished = load(directory)
    assert not finished.faults
    cells = Spec.from_json(finished.header["spec"]).cells()
    counts = Counter((record.run, record.cell) for record in finished.records)
    assert counts == {(run, cell): 1 for run in range(RUNS) for cell in cells}
    assert {record.status for record in finished.records} == {"ok"}
    assert tuple(record.to_json() for record in finished.records)[: len(kept)] == kept


# Every Python process runs this first: the sweep's own files can grow to 20 KB, those of its workers without limit.
SMALL_DISK = """
import briefly, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if "sweep" in sys.orig_argv else hard, hard))
"""


def test_a_full_disk_is_one_clear_line_and_the_sweep_can_go_on(tmp_path):
    site, directory = tmp_path / "site", tmp_path / "sweep"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SMALL_DISK)
    full = subprocess.run(sweep(directory), env=briefly(site), capture_output=True, text=True, check=False)
    assert full.returncode == 2
    [line] = [line for line in full.stderr.splitlines() if "error" in line]
    assert "results.jsonl cannot be written" in line
    assert "--resume" in line
    assert "Traceback" not in full.stderr
    before = load(directory)
    assert before.records
    assert not before.faults
    done = subprocess.run(sweep(directory, "--resume"), env=briefly(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = load(directory)
    assert after.records[: len(before.records)] == before.records
    assert len(after.records) == 3 * 6


def test_half_a_line_is_taken_back_when_the_disk_is_full(tmp_path):
    names = {"problem": "mb1ic1ih9iw9oc1oh7ow7kh3kw3", "algorithm": "a", "executor": "e", "cores": 1}
    record, second = (Record(run=run, order=0, **names, status="ok", samples=(0.1,) * 50) for run in (0, 1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store.create(tmp_path, {"spec": {}}) as store:
        store.append(record)
        size = (tmp_path / "results.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            with pytest.raises(RequestError, match="--resume"):
                store.append(record)
            with pytest.raises(RequestError, match="cannot be written"):
                store.write_header({"spec": {}, "machine": "x" * 10_000})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert (tmp_path / "results.jsonl").stat().st_size == size
        store.append(second)
    assert load(tmp_path).records == (record, second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.jsonl", "sweep.json"]


def test_a_directory_that_cannot_be_written_is_one_clear_line(convbench: Convbench):
    refused = convbench("sweep", *REQUEST, "--output", "/proc/convbench")  # not even by root
    assert refused.returncode == 2
    assert "/proc/convbench cannot be written" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_second_sweep_into_a_directory_is_refused_and_the_first_goes_on(tmp_path):
    directory = tmp_path / "sweep"
    with subprocess.Popen(sweep(directory), env=briefly(), stderr=subprocess.DEVNULL) as first:
        while not (directory / "results.jsonl").exists():
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)  # it shall not end before others have tried
        try:
            refused = [
                subprocess.run(sweep(directory, *more), env=briefly(), capture_output=True, text=True, check=False)
                for more in ([], ["--resume"])
            ]
        finally:
            first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=300) == 0
    for second in refused:
        assert second.returncode == 2
        assert "another sweep" in second.stderr
    found = load(directory)
    assert not found.faults
    assert set(Counter((record.run, record.cell) for record in found.records).values()) == {1}
