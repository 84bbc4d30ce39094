"""Sweeps as users run them: every cell once, whatever dies on the way."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, briefly, command, python

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.sweep import Progress, resume_sweep, run_sweep
from convbench.problem import Problem
from convbench.results.record import Record
from convbench.results.store import load

pytestmark = pytest.mark.alone

MEASURED = [entry.name for entry in ALGORITHMS.entries if entry.by_default]
CELLS = len(MEASURED) * (1 + 2 + 2 + 1)  # serial, threads and processes on two core counts, gpu
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # looked at, not written
QUICK = Timing(min_seconds=0.0, min_samples=2, max_samples=2, peak_repetitions=0)


def quick(spec: Spec, **changes: object) -> Spec:
    return dataclasses.replace(spec, timing=QUICK, **changes)


def cells_of(records: tuple[Record, ...]) -> Counter:
    return Counter((record.run, record.cell) for record in records)


def shared_memory() -> set[str]:
    """Names in the system's shared memory, where it shows them."""
    return {entry.name for entry in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.exists() else set()


def convbench_processes() -> set[int]:
    """Worker processes that any sweep has left running."""
    found = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if "convbench.measure.worker" in words or "convbench.executors.pool_worker" in words:
            found.add(process.info["pid"])
    return found


@pytest.fixture
def nothing_left_behind():
    """Fails a test after which worker processes or shared memory are left."""
    processes, memory = convbench_processes(), shared_memory()
    yield
    deadline = time.monotonic() + 10
    while convbench_processes() - processes and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not convbench_processes() - processes
    assert shared_memory() <= memory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over everything, on a small picture, with more cores asked for than there are."""
    directory = tmp_path_factory.mktemp("sweep")
    np.save(directory / "bank.npy", np.random.default_rng(0).standard_normal((10, 5, 3)))
    most = machine.usable_cores() + 1
    spec = quick(make_spec(kernels=str(directory / "bank.npy"), cores=(1, most), runs=2, seed=3))
    run_sweep(spec, directory / "sweep")
    return directory / "sweep"


def test_every_run_has_every_cell_once_and_says_why_if_it_was_not_measured(finished):
    records = load(finished).records
    assert len(records) == 2 * CELLS
    assert set(cells_of(records).values()) == {1}
    for record in records:
        assert record.status == "ok" or record.reason
        if record.executor != "gpu":
            assert record.status == "ok", record.reason


def test_what_was_measured_passed_its_check_and_says_how_it_was_measured(finished):
    usable = machine.allowed_cpus()
    for record in load(finished).records:
        if record.status == "ok":
            assert len(record.samples) == 2
            assert all(seconds > 0 for seconds in record.samples)
            assert record.warmups
            assert record.check["passed"]
            assert 0 < record.check["max_relative_error"] <= record.check["tolerance"]
            assert set(record.worker["affinity"]) == set(usable[: record.cores])
            assert record.worker["threads"] == record.cores
            assert record.worker["blas_threads"] == 1
            assert record.worker["metadata"]["python_version"]
            assert record.counters["cpu_seconds"] >= 0
            assert {"compile", "pack", "check"} <= set(record.setup)
            assert ("oversubscribed" in record.flags) == (record.cores > len(usable))


def test_the_order_is_random_and_follows_from_the_seed(finished):
    sweep = load(finished)
    spec = Spec.from_json(sweep.header["spec"])
    for run in range(2):
        measured = [record.cell for record in sweep.records if record.run == run]
        assert measured == spec.order(run)
    assert spec.order(0) != spec.order(1)
    assert sorted(spec.order(0)) == sorted(spec.cells())


def test_each_run_is_a_process_of_its_own(finished):
    pids = {(record.run, record.worker["pid"]) for record in load(finished).records if record.status == "ok"}
    assert len(pids) == len({pid for _, pid in pids}) == 2


def test_the_header_says_what_was_asked_for_and_where(finished):
    header = json.loads((finished / "sweep.json").read_text())
    assert header["schema"] == 1
    assert header["spec"]["source"]["sha256"]
    assert header["machine"]["usable_cores"] == machine.usable_cores()
    assert header["versions"]["numba"]
    assert header["started"]


def test_progress_counts_every_cell_and_estimates_what_is_left(tmp_path, small):
    seen: list[Progress] = []
    spec = quick(make_spec([small], algorithms=("naive",), executors=("serial", "threads"), cores=(1,), runs=2))
    run_sweep(spec, tmp_path, on_progress=seen.append)
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 4]
    assert {progress.total for progress in seen} == {4}
    assert seen[0].seconds_left is None
    assert seen[1].seconds_left > 0
    assert seen[-1].seconds_left == 0


def test_a_time_limit_leaves_cells_out_and_resuming_adds_them(tmp_path, small):
    spec = quick(make_spec([small], algorithms=("naive",), executors=("serial", "threads"), cores=(1,), runs=2))
    assert len(run_sweep(spec, tmp_path, time_limit=0).records) == 0
    assert len(resume_sweep(tmp_path, {"runs": 3}).records) == 6
    assert set(cells_of(load(tmp_path).records).values()) == {1}


def test_a_hanging_cell_is_one_timeout(tmp_path, small):
    spec = quick(make_spec([small], algorithms=("naive",), executors=("serial",), runs=1), cell_limit=0.01)
    [record] = run_sweep(spec, tmp_path).records
    assert (record.status, record.reason) == ("timeout", "no end after 0.01 s")


def test_a_wrong_result_is_one_failed_cell(tmp_path, small, monkeypatch):
    """The worker gets a tolerance that nothing can meet."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import convbench.measure.reference as r\nr.TOLERANCE['float32'] = 1e-12\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    spec = quick(make_spec([small], algorithms=("naive", "direct"), executors=("serial",), runs=1))
    for record in run_sweep(spec, tmp_path / "sweep").records:
        assert record.status == "failed"
        assert "of the largest; 1e-12 is allowed" in record.reason
        assert not record.samples


# -- what dies ----------------------------------------------------------------------------------------------------


@pytest.fixture
def start(picture: Path, bank: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a sweep of 30 cells that are measured and 6 that are not, in a process of its own."""
    request = ["--image", picture, "--kernels", bank, "--cores", "1,2", "--runs", "3"]
    request += ["--executors", "serial,threads,processes,gpu", "--algorithms", "direct,naive"]

    def sweep(directory: Path, *more: str) -> subprocess.Popen[str]:
        words = command(["sweep", *request, "--output", directory, *more])
        return subprocess.Popen(words, env=briefly(), stderr=subprocess.PIPE, text=True)

    return sweep


def records_so_far(directory: Path) -> int:
    results = directory / "results.jsonl"
    return results.read_bytes().count(b"\n") if results.exists() else 0


def wait_for_records(directory: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while records_so_far(directory) < count:
        assert time.monotonic() < deadline, "the sweep does not get on"
        time.sleep(0.02)


def worker_of(sweep: subprocess.Popen) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(sweep.pid).children():
            if "convbench.measure.worker" in " ".join(child.cmdline()):
                return child
        time.sleep(0.01)
    raise AssertionError("the sweep has no worker")


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_worker_that_is_killed_costs_one_record(tmp_path, start):
    directory = tmp_path / "sweep"
    with start(directory) as sweep:
        wait_for_records(directory, 3)
        worker_of(sweep).kill()
        said = sweep.stderr.read()
    records = load(directory).records
    assert len(records) == 36
    assert set(cells_of(records).values()) == {1}
    [failed] = [record for record in records if record.status == "failed"]
    assert failed.reason.startswith("the worker process was killed by SIGKILL")
    assert "was killed by SIGKILL" in said
    assert sweep.returncode == 1


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path, start):
    directory = tmp_path / "sweep"
    with start(directory) as sweep:
        wait_for_records(directory, 5)
        sweep.kill()
    before = load(directory).records
    assert 5 <= len(before) < 36
    with start(directory, "--resume") as resumed:
        _, said = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    after = load(directory).records
    assert after[: len(before)] == before
    assert len(after) == 36
    assert set(cells_of(after).values()) == {1}


@pytest.mark.usefixtures("nothing_left_behind")
def test_an_interrupt_keeps_what_was_measured_and_says_how_to_go_on(tmp_path, start):
    directory = tmp_path / "sweep"
    with start(directory) as sweep:
        wait_for_records(directory, 2)
        sweep.send_signal(signal.SIGINT)
        said = sweep.stderr.read()
    assert sweep.returncode == 130
    assert f"convbench sweep --resume --output {directory}" in said
    assert "Traceback" not in said
    assert 2 <= len(load(directory).records) < 36


def test_resuming_refuses_another_request(tmp_path, picture, bank, convbench):
    directory = tmp_path / "sweep"
    spec = quick(make_spec(image=picture, kernels=str(bank), algorithms=("naive",), executors=("serial",), runs=1))
    run_sweep(spec, directory)
    refused = convbench("sweep", "--resume", "--output", directory, "--algorithms", "direct")
    assert refused.returncode == 2
    assert "algorithms=direct is not what the sweep in" in refused.stderr
    picture.write_bytes((ROOT / "images" / "photograph.png").read_bytes())
    refused = convbench("sweep", "--resume", "--output", directory)
    assert refused.returncode == 2
    assert "has changed since the sweep began" in refused.stderr


def test_a_system_without_affinity_or_proc_still_measures_and_the_report_says_so(tmp_path, small):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import briefly, os, pathlib\n"
        "del os.sched_setaffinity, os.sched_getaffinity\n"
        "def refuse(method):\n"
        "    def instead(self, *args, **kwargs):\n"
        "        if str(self).startswith(('/proc', '/sys')):\n"
        "            raise FileNotFoundError(2, 'No such file or directory', str(self))\n"
        "        return method(self, *args, **kwargs)\n"
        "    return instead\n"
        "for name in ('read_text', 'iterdir', 'stat'):\n"
        "    setattr(pathlib.Path, name, refuse(getattr(pathlib.Path, name)))\n"
    )
    request = [
        "--problem",
        small,
        "--executors",
        "serial,threads",
        "--cores",
        "1",
        "--runs",
        "1",
        "--algorithms",
        "naive",
    ]
    env = briefly(site)
    subprocess.run(command(["sweep", *request, "--output", tmp_path / "sweep"]), env=env, check=True, timeout=120)
    for record in load(tmp_path / "sweep").records:
        assert record.status == "ok"
        assert "unpinned" in record.flags
        assert record.worker["affinity"] is None
        assert "minor_faults" not in record.counters
    subprocess.run(command(["report", tmp_path / "sweep"]), env=env, check=True, timeout=120)
    report = (tmp_path / "sweep" / "report.md").read_text()
    assert "cannot pin threads" in report
    assert "has no /proc" in report


def test_runs_are_added_until_they_are_enough(tmp_path):
    names = {"algorithms": ("direct",), "executors": ("serial",)}
    spec = quick(make_spec(["mb1ic1ih12iw12oc4kh3kw3"], **names, runs=2, precision=0.25))
    sweep = run_sweep(spec, tmp_path / "sweep", width=lambda records: 1 / len(records))
    assert [record.run for record in sweep.records] == [0, 1, 2, 3]  # a quarter, at last
    assert len(resume_sweep(tmp_path / "sweep", width=lambda records: 1 / len(records)).records) == 4
    again = resume_sweep(tmp_path / "sweep", width=lambda records: 1.5 / len(records))
    assert len(again.records) == 6, "a sweep that goes on has not forgotten its precision"
    assert len(run_sweep(spec, tmp_path / "without").records) == 2


def test_precision_is_reached_or_the_time_limit_is(tmp_path):
    sweep = ["-m", "convbench", "sweep", "--problem", "mb1ic1ih12iw12oc4kh3kw3"]
    sweep += ["--algorithms", "direct", "--executors", "serial", "--runs", "2", "--output"]
    limited = python(*sweep, tmp_path / "a", "--precision", "0.0001%", "--time-limit", "4")
    assert limited.returncode == 0, limited.stderr
    assert re.search(r"widest interval ±.+% of its mean after \d+ runs; ±0.00% was asked for", limited.stderr)
    reached = python(*sweep, tmp_path / "b", "--precision", "99%", "--time-limit", "100")
    assert "±99.00% was asked for" in reached.stderr
    for wrong in ("0", "120%", "tight"):
        refused = python(*sweep, tmp_path / "c", "--precision", wrong)
        assert refused.returncode == 2
        assert "precision=" in refused.stderr
    assert not (tmp_path / "c").exists()


def test_cold_caches_are_emptied_before_every_sample(tmp_path):
    words = {"algorithms": ("direct",), "executors": ("serial",), "runs": 1}
    times = {}
    for cache in ("hot", "cold"):
        spec = quick(make_spec(["mb1ic1ih300iw400oc1kh1kw1"], cache=cache, **words))
        sweep = run_sweep(dataclasses.replace(spec, timing=dataclasses.replace(QUICK, max_samples=9)), tmp_path / cache)
        [record] = sweep.records
        assert record.status == "ok", record.reason
        times[cache] = min(record.samples)
    assert record.loops == 1
    assert times["cold"] > times["hot"]


def test_every_sample_has_its_own_counters_and_the_run_a_calibration(finished):
    for record in load(finished).records:
        if record.status == "ok":
            assert len(record.sample_counters) == len(record.sample_flags) == len(record.samples)
            parts = [counters["cpu_seconds"] for counters in record.sample_counters]
            assert record.counters["cpu_seconds"] == pytest.approx(sum(parts))
            assert 0 < record.calibration < 1


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_the_stages_of_a_call_make_up_its_time(finished, executor):
    found = [r for r in load(finished).records if r.status == "ok" and r.executor == executor and r.cores == 1]
    assert {record.algorithm for record in found} == set(MEASURED)
    for record in found:
        assert len(record.stages) > 1
        inside = [sum(parts) for parts in zip(*record.stages.values(), strict=True)]
        assert len(inside) == len(record.samples)
        for stages, call in zip(inside, record.samples, strict=True):
            assert 0 < stages <= 1.02 * call


def test_in_weak_scaling_the_image_grows_with_the_cores(tmp_path, picture, bank):
    names = {"algorithms": ("direct",), "executors": ("serial", "threads", "processes")}
    spec = quick(make_spec(image=picture, kernels=str(bank), cores=(1, 2), runs=2, scaling="weak", **names))
    base = Problem.parse(spec.problems[0])
    _, weights = spec.data(base)
    small, large = (spec.data(base.grown(cores))[0] for cores in (1, 2))
    assert large.shape[2] == base.height + base.output_height
    assert (large[:, :, : base.height] == small).all()
    assert (spec.data(base.grown(2))[1] == weights).all()
    sweep = run_sweep(spec, tmp_path / "sweep")
    for record in sweep.records:
        assert record.status == "ok", record.reason
        assert record.base == str(base)
        assert record.problem == str(base.grown(record.cores))
    subprocess.run(command(["report", tmp_path / "sweep"]), check=True, timeout=120)
    report = (tmp_path / "sweep" / "report.md").read_text()
    assert "scaled speedup" in report
    assert "(hot caches, weak scaling)" in report
    assert "Amdahl's fraction" not in report


def test_what_is_neither_strong_nor_weak_is_refused(convbench):
    refused = convbench("sweep", "--scaling", "none")
    assert refused.returncode == 2
    assert "scaling='none' is not known; choose from strong, weak" in refused.stderr
