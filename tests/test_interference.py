"""What disturbs a measurement is noticed, flagged and told; what is known beforehand is what is measured."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import command

from convbench import machine
from convbench.analysis.interference import Interference
from convbench.analysis.series import group
from convbench.measure.peaks import clock_seconds
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.measure.timing import take_samples
from convbench.results.record import Record
from convbench.results.store import load

pytestmark = pytest.mark.alone

PROBLEM = "mb1ic1ih100iw120oc16kh7kw7"
QUICK = Timing(peak_repetitions=0, min_seconds=0.2)
CGROUP = Path("/sys/fs/cgroup")
HAS_AFFINITY = hasattr(os, "sched_setaffinity")


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., tuple[tuple[Record, ...], str]]:
    """Runs a small sweep in an environment of its own; gives its records, and its report."""

    def run(*more: str, cores: str = "1", env: dict[str, str] | None = None) -> tuple[tuple[Record, ...], str]:
        directory = tmp_path / "sweep"
        request = ["--problem", PROBLEM, "--algorithms", "direct", "--cores", cores, "--runs", "1", *more]
        for words in (["sweep", *request, "--output", directory], ["report", directory]):
            done = subprocess.run(
                command(words), env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        return load(directory).records, (directory / "report.md").read_text()

    return run


def site(directory: Path, code: str) -> dict[str, str]:
    """The environment in which every Python process runs `code` first."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(directory)}


# -- noticed ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no affinity")
def test_an_affinity_to_one_cpu_is_what_there_is(measured):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        records, report = measured("--executors", "threads", cores="1,2")
    finally:
        os.sched_setaffinity(0, before)
    assert {record.cores: "oversubscribed" in record.flags for record in records} == {1: False, 2: True}
    assert all(record.worker["affinity"] == [min(before)] for record in records)
    assert "1 usable" in report
    assert "more cores were asked for than the process may use" in report


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no affinity")
def test_a_busy_process_on_the_same_cpu_is_felt(measured):
    cpu = machine.allowed_cpus()[0]
    spin = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as busy:
        try:
            [record], report = measured("--executors", "serial")
        finally:
            busy.kill()
    assert {"starved", "preempted"} & set(record.flags)
    assert any(record.sample_flags)
    assert Interference.of([record]).busy < 0.8
    assert "the cores computed for less than 80 % of the time" in report or "other programs wanted" in report


def test_variables_that_rule_thread_pools_are_told_and_overruled(measured):
    records, report = measured("--executors", "serial,threads", env={"OMP_NUM_THREADS": "8"})
    for record in records:
        assert "thread_variables" in record.flags
        assert record.worker["threads"] == 1
        assert record.worker["blas_threads"] == 1
    assert "OMP_NUM_THREADS=8" in report


@pytest.fixture
def group_with_quota() -> Iterator[Path]:
    """The file that a process enters a control group with 60 % of a CPU by."""
    v1 = (CGROUP / "cpu" / "cpu.shares").exists() or (CGROUP / "cpu" / "tasks").exists()
    directory = (CGROUP / "cpu" if v1 else CGROUP) / f"convbench-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here ({error.strerror})")
    try:
        if v1:
            (directory / "cpu.cfs_period_us").write_text("50000")
            (directory / "cpu.cfs_quota_us").write_text("30000")
        else:
            (directory / "cpu.max").write_text("30000 50000")
        yield directory / "cgroup.procs"
    except OSError as error:
        pytest.skip(f"control groups give no quota here ({error.strerror})")
    finally:
        for _ in range(50):  # its processes may still be on their way out
            try:
                directory.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def test_a_quota_of_the_control_group_is_seen_and_felt(measured, group_with_quota, tmp_path):
    enter = f"import os; open({str(group_with_quota)!r}, 'w').write(str(os.getpid()))"
    records, report = measured("--executors", "serial,threads", cores="1,2", env=site(tmp_path / "site", enter))
    for record in records:
        assert ("oversubscribed" in record.flags) == (record.cores > 1)
        assert "throttled" in record.flags
        assert record.counters["throttled_seconds"] > 0
    assert "quota 0.6" in report
    assert "the control group's quota held the processes back" in report


# -- known times --------------------------------------------------------------------------------------------------

SERIAL_FRACTION = """
import time
import convbench.executors.threads as threads
import convbench.machine as machine

machine.usable_cores = lambda: 8  # sleeping takes no core
compute = threads.ThreadsRunner.__call__

def pretend(self, x, out):
    begin = time.perf_counter()
    compute(self, x, out)
    time.sleep(0.1 * (0.2 + 0.8 / self._cores) - (time.perf_counter() - begin))

threads.ThreadsRunner.__call__ = pretend
"""


def test_a_known_serial_fraction_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", site(tmp_path / "site", SERIAL_FRACTION)["PYTHONPATH"])
    spec = make_spec([PROBLEM], algorithms=("direct",), executors=("threads",), cores=(1, 2, 4, 8), runs=3)
    [series] = group(run_sweep(dataclasses.replace(spec, timing=QUICK), tmp_path / "sweep").records)
    assert all(cell.fit for cell in series.cells.values())
    for cores in (2, 4, 8):
        assert series.serial_fraction(cores).value == pytest.approx(0.2, abs=0.03)
    assert series.amdahl().value == pytest.approx(0.2, abs=0.03)


def test_sleeping_is_measured_as_long_as_it_is():
    samples, loops, _ = take_samples(lambda: time.sleep(0.02), Timing(), 0.02)
    assert loops == 1
    assert statistics.median(samples) == pytest.approx(0.02, rel=0.02)


def test_the_clock_costs_nothing_to_speak_of():
    assert 2 * clock_seconds() < 0.01 * Timing().sample_seconds


SLEEP = """
import time
import convbench.executors.serial as serial
import convbench.measure.peaks as peaks

compute = serial.SerialRunner.__call__

def pretend(self, x, out):
    begin = time.perf_counter()
    compute(self, x, out)
    time.sleep({seconds} - (time.perf_counter() - begin))

serial.SerialRunner.__call__ = pretend
peaks.calibration_kernel = lambda: lambda: time.sleep(0.02)  # as steady as what it is compared with
"""


def test_comparing_tells_the_same_code_from_a_slower_one(convbench, tmp_path, monkeypatch):
    spec = make_spec([PROBLEM], algorithms=("direct",), executors=("serial",), runs=4)
    for name, seconds in (("before", 0.02), ("same", 0.02), ("slower", 0.022)):
        monkeypatch.setenv("PYTHONPATH", site(tmp_path / f"site-{name}", SLEEP.format(seconds=seconds))["PYTHONPATH"])
        run_sweep(dataclasses.replace(spec, timing=QUICK), tmp_path / name)
    same = convbench("compare", tmp_path / "before", tmp_path / "same")
    assert same.returncode == 0, same.stdout
    assert "no difference seen" in same.stdout
    slower = convbench("compare", tmp_path / "before", tmp_path / "slower")
    assert slower.returncode == 1, slower.stdout
    [line] = [line for line in slower.stdout.splitlines() if line.startswith("direct")]
    _, _, _, ratio, low, high, verdict = line.split()
    assert verdict == "slower"
    assert float(low) <= 1.1 <= float(high)
    assert float(ratio) == pytest.approx(1.1, abs=0.01)


# -- nothing but calls in a sample --------------------------------------------------------------------------------


def test_no_sample_pays_for_what_is_done_once(tmp_path, monkeypatch):
    """Nothing is compiled yet, no pool runs, and no memory was touched when the sweep begins."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    spec = make_spec(["mb1ic1ih200iw300oc32kh7kw7"], executors=("serial", "threads", "processes"), cores=(1, 2), runs=2)
    timing = Timing(peak_repetitions=0, max_samples=10)
    records = run_sweep(dataclasses.replace(spec, timing=timing), tmp_path / "sweep").records
    assert {record.status for record in records} == {"ok"}
    assert max(record.setup["compile"] for record in records if record.run == 0) > 0.5, "it was compiled in the sweep"
    for record in records:
        assert not {"late_setup", "page_faults"} & set(record.flags), record
        assert record.counters["compilations"] == 0
        assert record.counters.get("threads", 0) == 0
    longest_first = sum(record.samples[0] > 1.1 * max(record.samples[1:]) for record in records)
    assert longest_first <= len(records) // 5, "the first sample lies among the others"
