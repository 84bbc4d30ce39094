"""Nothing that was measured is ever lost: killed at any moment, on a full disk, or told to write where it cannot."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import DEADLINE, Convbench, briefly, command, wait_until
from simulated import SMALL
from test_compare import sweep as records
from test_compare import write

from convbench.errors import RequestError
from convbench.measure.spec import Spec
from convbench.results.record import Record
from convbench.results.store import Store, load

resource = pytest.importorskip("resource", reason="this system has no limits on files")

REQUEST = ["--problem", "mb1ic1ih12iw12oc4kh3kw3", "--algorithms", "naive", "--executors", "serial,threads"]

RUNS = 3
KILLS = 50


def sweep(directory: Path, *more: object) -> list[str]:
    """A sweep of cells that take next to no time, three in a run."""
    return command(["sweep", *REQUEST, "--cores", "1,2", "--runs", RUNS, "--output", directory, *more])


# One that measures several a second, without the machine's limits; begun, or gone on with.
FAST_SWEEP = """
import dataclasses, pathlib, sys
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import resume_sweep, run_sweep
from convbench.results.store import holds_sweep

directory = pathlib.Path(sys.argv[1])
if holds_sweep(directory):
    resume_sweep(directory)
else:
    names = {"algorithms": ("naive",), "executors": ("serial", "threads")}
    spec = make_spec(["mb1ic1ih12iw12oc4kh3kw3"], cores=(1, 2), runs=int(sys.argv[2]), **names)
    run_sweep(dataclasses.replace(spec, timing=Timing(min_seconds=0, max_samples=3, peak_repetitions=0)), directory)
"""


@pytest.mark.long
def test_killed_again_and_again_it_ends_with_every_cell_once(tmp_path):
    """Killed after some bytes more than before, which is in the middle of a line as a rule, or while it starts."""
    directory = tmp_path / "sweep"
    results = directory / "results.jsonl"
    words = [sys.executable, "-c", FAST_SWEEP, directory, str(KILLS)]
    moments = random.Random(0)
    kept: tuple[str, ...] = ()
    for kill in range(KILLS):
        begin = results.stat().st_size if results.exists() else 0
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as one:
            if kill % 5 == 4:
                time.sleep(moments.uniform(0, 1))  # nothing is asked of where it was
            else:
                more = 1 + moments.randrange(3000)
                wait_until(lambda at=begin + more, run=one: one_ended(run) or grown(results, at))
            one.kill()
        lines = tuple(record.to_json() for record in load(directory).records) if directory.exists() else ()
        assert lines[: len(kept)] == kept, f"kill {kill} lost something"
        kept = lines
    assert kept
    done = run(command(["sweep", "--resume", "--output", directory]))
    assert done.returncode == 0, done.stderr
    finished = load(directory)
    assert not finished.faults
    cells = Spec.from_json(finished.header["spec"]).cells()
    counts = Counter((record.run, record.cell) for record in finished.records)
    assert counts == {(run, cell): 1 for run in range(KILLS) for cell in cells}
    assert {record.status for record in finished.records} == {"ok"}
    assert tuple(record.to_json() for record in finished.records)[: len(kept)] == kept


def one_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it measured all that was left; anything else that ends it is an error."""
    assert process.poll() in (None, 0)
    return process.poll() == 0


def grown(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def run(words: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=DEADLINE)


# Every Python process runs this first: the sweep's own files can grow to 12 KB, those of its workers without limit.
SMALL_DISK = """
import briefly, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000 if "sweep" in sys.orig_argv else hard, hard))
"""


@pytest.mark.long
def test_a_full_disk_is_one_clear_line_and_the_sweep_can_go_on(tmp_path):
    site, directory = tmp_path / "site", tmp_path / "sweep"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SMALL_DISK)
    full = run(sweep(directory), briefly(site))
    assert full.returncode == 2
    [line] = [line for line in full.stderr.splitlines() if "error" in line]
    assert "results.jsonl cannot be written" in line
    assert "--resume" in line
    assert "Traceback" not in full.stderr
    before = load(directory)
    assert before.records
    assert not before.faults
    done = run(sweep(directory, "--resume"), briefly())
    assert done.returncode == 0, done.stderr
    after = load(directory)
    assert after.records[: len(before.records)] == before.records
    assert len(before.records) < len(after.records) == RUNS * 3


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


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """What this process writes beyond is refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("folder", ["new", "there", "there with a file"])
def test_a_disk_that_is_full_from_the_start_is_left_as_it_was(convbench: Convbench, tmp_path: Path, folder):
    directory = tmp_path / "sweep"
    if folder != "new":
        directory.mkdir()
    if folder == "there with a file":
        (directory / "notes").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    words = ["sweep", "--problem", SMALL, "--algorithms", "naive", "--executors", "simulated", "--cores", "1"]
    with no_file_larger_than(100):
        refused = convbench(*words, "--runs", 1, "--output", directory)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert (
        refused.stderr == f"convbench: error: {directory} cannot be written (File too large); choose another --output\n"
    )
    assert sorted(tmp_path.rglob("*")) == before
    with Store.create(directory, {"spec": {}}):
        pass
    assert load(directory).records == ()


def test_what_somebody_else_puts_into_a_new_folder_stays_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(directory: Path, _: object) -> None:
        (directory / "notes").write_text("mine")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convbench.results.store._write_header", full)
    with pytest.raises(RequestError, match=r"cannot be written \(No space left on device\)"):
        Store.create(tmp_path / "sweep", {"spec": {}})
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == ["notes"]


def test_a_reader_that_has_seen_enough_is_no_error_that_is_told(tmp_path: Path):
    """A pipe that nobody reads, as `| head` leaves one behind."""
    write(tmp_path / "a", records([1.0, 1.01, 0.99]))
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        reader.wait(DEADLINE)
        done = subprocess.run(
            command(["compare", tmp_path / "a", tmp_path / "a"]),
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_no_disk_can_hold_is_one_clear_line(tmp_path: Path):
    write(tmp_path / "a", records([1.0, 1.01, 0.99]))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(["export", tmp_path / "a", "--format", "csv"]),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
    assert done.returncode == 2
    assert done.stderr == "convbench: error: the output cannot be used (No space left on device)\n"
