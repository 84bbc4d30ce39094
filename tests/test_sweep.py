"""Sweeps as users run them: every cell once, whatever dies on the way."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE, ROOT, briefly, command
from held import BEFORE, CELLS, RUNS, Held
from PIL import Image

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.errors import RequestError
from convbench.images import load_image
from convbench.measure import reference
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.sweep import resume_sweep, run_sweep
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.report.write import write_report
from convbench.results.record import Record
from convbench.results.store import load
from convbench.rounding import Errors

MEASURED = [entry.name for entry in ALGORITHMS.entries if entry.by_default]
EVERY = len(MEASURED) * (1 + 2 + 2 + 1)  # serial, threads and processes on two core counts, gpu
QUICK = Timing(min_seconds=0.0, min_samples=2, max_samples=2, wake_seconds=0.0, peak_repetitions=0)


def quick(spec: Spec, **changes: object) -> Spec:
    return dataclasses.replace(spec, timing=QUICK, **changes)


def cells_of(records: tuple[Record, ...]) -> Counter:
    return Counter((record.run, record.cell) for record in records)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over everything, on a small picture, with more cores asked for than there are.

    It is of the size of the experiment in small, whose tiles other tests compile, too.
    """
    directory = tmp_path_factory.mktemp("sweep")
    np.save(directory / "bank.npy", np.random.default_rng(0).standard_normal((16, 11, 11)))
    Image.effect_noise((52, 40), 80).save(directory / "picture.png")
    most = machine.usable_cores() + 1
    picture = {"image": directory / "picture.png", "kernels": str(directory / "bank.npy")}
    spec = quick(make_spec(**picture, cores=(1, most), runs=2, seed=3))
    run_sweep(spec, directory / "sweep")
    return directory / "sweep"


def test_every_run_has_every_cell_once_and_says_why_if_it_was_not_measured(finished):
    records = load(finished).records
    assert len(records) == 2 * EVERY
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


def test_a_time_limit_leaves_cells_out_and_resuming_adds_them(tmp_path, small, simulated):
    simulated.law = lambda cores: 0.1 / cores
    spec = quick(make_spec([small], algorithms=("naive",), executors=("simulated",), cores=(1, 2), runs=2))
    assert len(run_sweep(spec, tmp_path / "none", time_limit=0).records) == 0
    assert len(run_sweep(spec, tmp_path / "one", time_limit=1e-6).records) == 1
    before = load(tmp_path / "one").records
    after = resume_sweep(tmp_path / "one", {"runs": 3}).records
    assert after[:1] == before
    assert len(after) == 6
    assert set(cells_of(after).values()) == {1}


def test_a_sweep_is_gone_on_with_by_the_code_that_began_it(tmp_path, small, simulated, monkeypatch):
    assert simulated.machine.now == 0
    spec = quick(make_spec([small], algorithms=("naive",), executors=("simulated",), cores=(1,), runs=2))
    run_sweep(spec, tmp_path, time_limit=0)
    versions = machine.versions()
    monkeypatch.setattr(machine, "versions", lambda: {**versions, "convbench-sources": "another"})
    with pytest.raises(RequestError, match="another state of convbench's code"):
        resume_sweep(tmp_path)
    header = json.loads((tmp_path / "sweep.json").read_text())
    del header["versions"]["convbench-sources"]  # by a version that did not say
    (tmp_path / "sweep.json").write_text(json.dumps(header))
    assert len(resume_sweep(tmp_path).records) == 2


def test_a_spec_says_no_more_than_older_versions_know(picture):
    source = make_spec(image=picture).to_json()["source"]
    assert set(source) == {"problem", "path", "sha256", "steps"}


def test_a_hanging_cell_is_one_timeout(tmp_path, small, monkeypatch):
    """The worker is a program that never answers."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 3600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    spec = quick(make_spec([small], algorithms=("naive",), executors=("serial",), runs=1), cell_limit=0.01)
    [record] = run_sweep(spec, tmp_path / "sweep").records
    assert (record.status, record.reason) == ("timeout", "no end after 0.01 s")


@pytest.mark.usefixtures("simulated")
def test_a_wrong_result_is_one_failed_cell(tmp_path, small, monkeypatch):
    """Nothing can meet this tolerance."""
    monkeypatch.setitem(EXACT.tolerance, "float32", 1e-12)
    monkeypatch.setattr(reference, "of_sums", lambda _: Errors(0.0, 0.0))
    spec = quick(make_spec([small], algorithms=("naive", "direct"), executors=("simulated",), cores=(1,), runs=1))
    for record in run_sweep(spec, tmp_path / "sweep").records:
        assert record.status == "failed"
        assert "of the largest; 1e-12 is allowed" in record.reason
        assert not record.samples


# -- what dies ----------------------------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path: Path, picture: Path, bank: Path) -> Iterator[Held]:
    """A sweep in a process of its own, that waits in the middle; in the end, no process of it may be left."""
    with Held(tmp_path / "sweep", "--image", picture, "--kernels", bank) as sweep:
        yield sweep


def test_a_worker_that_is_killed_costs_one_record(tmp_path, held):
    held.kill_worker()
    said = held.said()
    records = load(tmp_path / "sweep").records
    assert len(records) == RUNS * CELLS
    assert set(cells_of(records).values()) == {1}
    assert [place for place, record in enumerate(records) if record.status == "failed"] == [BEFORE]
    assert records[BEFORE].reason.startswith("the worker process was killed by SIGKILL")
    assert "was killed by SIGKILL" in said
    assert held.process.returncode == 1


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path, held):
    held.process.kill()
    before = load(tmp_path / "sweep").records
    assert len(before) == BEFORE
    said = held.resume()
    assert held.process.returncode == 0, said
    after = load(tmp_path / "sweep").records
    assert after[: len(before)] == before
    assert len(after) == RUNS * CELLS
    assert set(cells_of(after).values()) == {1}


def test_an_interrupt_keeps_what_was_measured_and_says_how_to_go_on(tmp_path, held):
    held.process.send_signal(signal.SIGINT)
    said = held.said()
    assert held.process.returncode == 130
    assert f"convbench sweep --resume --output {tmp_path / 'sweep'}" in said
    assert "Traceback" not in said
    assert len(load(tmp_path / "sweep").records) == BEFORE


def test_a_second_sweep_into_a_directory_is_refused_and_the_first_goes_on(tmp_path, held):
    for more in ([], ["--resume"]):
        refused = held.another(*more)
        assert refused.returncode == 2
        assert "another sweep" in refused.stderr
    held.go_on()
    said = held.said()
    assert held.process.returncode == 0, said
    found = load(tmp_path / "sweep")
    assert not found.faults
    assert len(found.records) == RUNS * CELLS
    assert set(cells_of(found.records).values()) == {1}


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


@pytest.mark.long
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
    request = ["--problem", small, "--algorithms", "naive", "--executors", "serial,threads", "--cores", "1"]
    request += ["--runs", "1"]
    env = briefly(site)
    subprocess.run(command(["sweep", *request, "--output", tmp_path / "sweep"]), env=env, check=True, timeout=DEADLINE)
    for record in load(tmp_path / "sweep").records:
        assert record.status == "ok"
        assert "unpinned" in record.flags
        assert record.worker["affinity"] is None
        assert "minor_faults" not in record.counters
    subprocess.run(command(["report", tmp_path / "sweep"]), env=env, check=True, timeout=DEADLINE)
    report = (tmp_path / "sweep" / "report.md").read_text()
    assert "cannot pin threads" in report
    assert "has no /proc" in report


@pytest.mark.usefixtures("simulated")
def test_runs_are_added_until_they_are_enough(tmp_path, small):
    names = {"algorithms": ("naive",), "executors": ("simulated",), "cores": (1,)}
    spec = quick(make_spec([small], **names, runs=2, precision=0.25))
    sweep = run_sweep(spec, tmp_path / "sweep", width=lambda records: 1 / len(records))
    assert [record.run for record in sweep.records] == [0, 1, 2, 3]  # a quarter, at last
    assert len(resume_sweep(tmp_path / "sweep", width=lambda records: 1 / len(records)).records) == 4
    again = resume_sweep(tmp_path / "sweep", width=lambda records: 1.5 / len(records))
    assert len(again.records) == 6, "a sweep that goes on has not forgotten its precision"
    assert len(run_sweep(spec, tmp_path / "without").records) == 2


def test_every_sample_has_its_own_counters_and_the_run_a_calibration(finished):
    for record in load(finished).records:
        if record.status == "ok":
            assert len(record.sample_counters) == len(record.sample_flags) == len(record.samples)
            parts = [counters["cpu_seconds"] for counters in record.sample_counters]
            assert record.counters["cpu_seconds"] == pytest.approx(sum(parts))
            assert record.calibration > 0


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_every_form_tells_the_stages_of_its_calls(finished, executor):
    """How long they take, only a simulated clock can tell for certain; see test_known_times.py."""
    found = [r for r in load(finished).records if r.status == "ok" and r.executor == executor and r.cores == 1]
    assert {record.algorithm for record in found} == set(MEASURED)
    for record in found:
        assert len(record.stages) > 1
        for parts in record.stages.values():
            assert len(parts) == len(record.samples)
            assert all(seconds >= 0 for seconds in parts)


@pytest.mark.long
def test_in_weak_scaling_the_image_grows_with_the_cores(tmp_path, picture, bank):
    names = {"algorithms": ("direct",), "executors": ("serial", "threads", "processes")}
    spec = quick(make_spec(image=picture, kernels=str(bank), cores=(1, 2), runs=1, scaling="weak", **names))
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
    write_report(sweep, tmp_path / "sweep")
    report = (tmp_path / "sweep" / "report.md").read_text()
    assert "scaled speedup" in report
    assert "(hot caches, weak scaling)" in report
    assert "Amdahl's fraction" not in report


def test_what_is_neither_strong_nor_weak_is_refused(convbench):
    refused = convbench("sweep", "--scaling", "none")
    assert refused.returncode == 2
    assert "scaling='none' is not known; choose from strong, weak" in refused.stderr


# -- going on with a picture and a bank of kernels ----------------------------------------------------------------


OF_PICTURE = {"algorithms": ("naive",), "executors": ("simulated",), "cores": (1,)}


@pytest.mark.usefixtures("simulated")
def test_kernels_that_have_changed_are_refused_and_the_same_numbers_are_no_change(tmp_path, picture, bank, convbench):
    run_sweep(quick(make_spec(image=picture, kernels=bank, runs=1, **OF_PICTURE)), tmp_path / "sweep")
    kernels = np.load(bank)
    go_on = ["sweep", "--resume", "--output", tmp_path / "sweep"]
    for given in ([], ["--kernels", bank]):
        np.save(bank, kernels + 1e-9)
        refused = convbench(*go_on, *given)
        assert (refused.returncode, refused.stdout) == (2, "")
        said = f"kernels '{bank}' have changed since the sweep began; put the old ones back"
        assert refused.stderr == f"convbench: error: {said}\n"
        np.save(bank, np.asfortranarray(kernels))
        assert convbench(*go_on, *given).returncode == 0
    bank.unlink()
    refused = convbench(*go_on)
    assert refused.returncode == 2
    assert f"kernels '{bank}' do not exist" in refused.stderr
    assert len(load(tmp_path / "sweep").records) == 1


@pytest.mark.usefixtures("simulated")
def test_picture_and_kernels_of_a_relative_path_are_found_from_another_folder(
    tmp_path, picture, bank, convbench, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    spec = quick(make_spec(image=picture.name, kernels=bank.name, runs=1, **OF_PICTURE))
    assert (spec.source.path, spec.kernels) == (str(picture), str(bank))
    run_sweep(spec, tmp_path / "sweep")
    go_on = ["sweep", "--resume", "--output", "../sweep"]  # from the folder that the command is run in
    for runs, given in ((2, []), (3, ["--image", f"../{picture.name}", "--kernels", f"../{bank.name}"])):
        done = convbench(*go_on, "--runs", runs, *given)
        assert done.returncode == 0, done.stderr
        assert [record.status for record in load(tmp_path / "sweep").records] == ["ok"] * runs


@pytest.mark.usefixtures("simulated")
def test_what_is_asked_of_picture_and_problems_is_compared_by_itself(tmp_path, picture, bank, convbench):
    """Whoever goes on need not say again what the sweep began with; what they say must be the same."""
    problem, another = "mb1ic1ih12iw14oc4kh3kw3", "mb1ic1ih12iw15oc4kh3kw3"
    run_sweep(quick(make_spec(problem, image=picture, kernels=bank, runs=1, **OF_PICTURE)), tmp_path / "sweep")
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.read_bytes())
    go_on = ["sweep", "--resume", "--output", tmp_path / "sweep"]
    for same in (["--image", picture], ["--problem", problem], ["--problem", problem, "--kernels", bank]):
        done = convbench(*go_on, *same)
        assert done.returncode == 0, done.stderr
    for name, words in (
        ("image", ["--image", copy]),
        ("problems", ["--problem", another]),
        ("problems", ["--problem", problem, "--problem", another]),
        ("kernels", ["--kernels", "random"]),
    ):
        refused = convbench(*go_on, *words)
        assert refused.returncode == 2
        [line] = refused.stderr.splitlines()
        assert line.startswith(f"convbench: error: {name}=")
        assert f"is not what the sweep in {tmp_path / 'sweep'} began with (" in line
    Image.effect_noise((48, 40), 80).save(picture)
    refused = convbench(*go_on, "--image", picture)
    began, now = (load(tmp_path / "sweep").header["spec"]["source"]["sha256"], load_image(picture).sha256)
    assert f"image={picture} ({now[:16]}) is not what the sweep in" in refused.stderr
    assert f"began with ({picture} ({began[:16]}))" in refused.stderr
    run_sweep(quick(make_spec(problem, runs=1, **OF_PICTURE)), tmp_path / "without")
    refused = convbench("sweep", "--resume", "--output", tmp_path / "without", "--image", picture)
    assert "began with (None)" in refused.stderr


@pytest.mark.usefixtures("simulated")
def test_a_picture_is_asked_of_together_with_the_kernels_that_it_was_measured_with(tmp_path, bank, convbench):
    """It may be smaller than those that would be taken otherwise."""
    small = tmp_path / "small.png"
    Image.effect_noise((9, 8), 80).save(small)
    run_sweep(quick(make_spec(image=small, kernels=bank, runs=1, **OF_PICTURE)), tmp_path / "sweep")
    done = convbench("sweep", "--resume", "--output", tmp_path / "sweep", "--image", small)
    assert done.returncode == 0, done.stderr
