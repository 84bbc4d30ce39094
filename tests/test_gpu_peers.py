"""Libraries on a GPU and products in TF32, on a GPU where there is one, and with CuPy and PyTorch on the host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import PROBLEMS, ROOT, python, with_fake_gpu
from on_the_host import unsupported_reason

from convbench.algorithms import ALGORITHMS
from convbench.analysis.differences import differences
from convbench.executors import EXECUTORS
from convbench.measure.spec import Spec, make_spec
from convbench.peers import LIBRARY, PEERS
from convbench.report.content import Material
from convbench.report.gpu import section as gpu_section
from convbench.report.summary import section as summary_section
from convbench.report.versus import versus_tables
from convbench.report.write import write_report
from convbench.results.store import load

HERE = Path(__file__).parent
PROBLEM = "g2mb2ic4ih19iw23oc6kh3kw5sh2sw3ph2pw1dh1dw1"
ON_A_GPU = [name for name in PEERS if PEERS[name].executor != LIBRARY]

on_the_host = pytest.mark.skipif(unsupported_reason() is not None, reason=str(unsupported_reason()))


def sweep(directory: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Measure briefly on a GPU that is none."""
    options = ["--problem", PROBLEM, "--executors", "gpu", "--runs", "1", "--output", directory]
    return with_fake_gpu("-m", "convbench", "sweep", *options, *words, **variables)


def test_names_of_algorithms_and_peers_differ():
    assert not set(ALGORITHMS) & set(PEERS)
    assert ON_A_GPU == ["cudnn", "cudnn-channels-last", "cublas"]
    assert [name for name in PEERS if PEERS[name].bound] == ["cublas"]
    assert PEERS["scipy"].executor == LIBRARY


@pytest.mark.long
def test_every_peer_on_a_gpu_agrees_with_the_reference():
    done = with_fake_gpu(HERE / "peers_on_a_gpu.py")
    assert done.returncode == 0, done.stderr
    every, rounded = len(PROBLEMS), len(PROBLEMS) - 1  # one is in float64
    lines = [f"{peer} {every} {errors}" for peer in ON_A_GPU for errors in (0, rounded, 0)]
    assert done.stdout.splitlines() == lines


@pytest.mark.gpu
@pytest.mark.skipif(EXECUTORS["gpu"].available() is not None, reason=str(EXECUTORS["gpu"].available()))
def test_every_peer_on_a_real_gpu_agrees_with_the_reference():
    done = python(HERE / "peers_on_a_gpu.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@on_the_host
def test_a_sweep_with_libraries_on_a_gpu(tmp_path):
    done = sweep(tmp_path, "--algorithms", "direct,unrolled", "--peers", "cublas,cudnn")
    assert done.returncode == 0, done.stderr
    found = load(tmp_path)
    records = {record.algorithm: record for record in found.records}
    assert set(records) == {"direct", "unrolled", "cublas", "cudnn"}
    for record in records.values():
        assert (record.status, record.executor, record.cores) == ("ok", "gpu", 1), record.reason
        assert record.check["tolerance"] == 1e-5
        assert set(record.transfers) == {"host to device", "device to host", "end to end"}
        assert "tf32" not in record.flags
        assert not {"starved", "threads_differ"} & set(record.flags)
    material = Material(found, found.header["spec"])
    [table] = versus_tables(material)
    titles = ["algorithm", "executor", "seconds", "ratio", "GFLOP/s", "of peak"]
    assert [column.title for column in table.columns] == titles
    assert {row[0] for row in table.rows} == set(records)
    assert [row[3] for row in table.rows if row[0] in ALGORITHMS].count(1.0) == 1
    assert "TF32" not in table.title
    [sentence] = summary_section(material).text
    assert "cublas" not in sentence
    [table] = gpu_section(material).tables
    assert {row[0] for row in table.rows} == set(records) - {"cublas"}
    write_report(found, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "cublas is a bound and no convolution" in report
    assert "exact in their dtype" in report
    again = sweep(tmp_path, "--resume", "--allow-tf32")
    assert again.returncode == 2
    assert "allow_tf32=True is not what the sweep" in again.stderr


def test_a_sweep_of_before_there_was_tf32_is_read():
    now = make_spec([PROBLEM]).to_json()
    before = {name: value for name, value in now.items() if name != "allow_tf32"}
    assert Spec.from_json(before) == Spec.from_json(now) == make_spec([PROBLEM])
    assert not differences({"spec": before}, {"spec": now})
    assert differences({"spec": before}, {"spec": {**now, "allow_tf32": True}}) == ["allow_tf32: none -> True"]


@pytest.mark.long
@on_the_host
def test_with_tf32_allowed_records_and_reports_say_what_used_it(tmp_path):
    wanted = ["--algorithms", "direct,unrolled", "--peers", "cublas,cudnn"]
    done = sweep(tmp_path, *wanted, "--allow-tf32", BRIEF_PEAKS="1")
    assert done.returncode == 0, done.stderr
    found = load(tmp_path)
    assert found.header["spec"]["allow_tf32"] is True
    for record in found.records:
        assert record.status == "ok", record.reason
        rounds = record.algorithm != "direct"
        assert ("tf32" in record.flags) == rounds
        assert record.check["tolerance"] == (2e-3 if rounds else 1e-5)
        assert (record.check["max_relative_error"] > 1e-5) == rounds
    [table] = versus_tables(Material(found, found.header["spec"]))
    assert "TF32 allowed on GPUs" in table.title
    products = {row[0]: row[-1] for row in table.rows}
    assert products == {"direct": "float32", "unrolled": "TF32", "cublas": "TF32", "cudnn": "TF32"}
    shares = {row[0]: row[5] for row in table.rows}
    assert shares.pop("direct") > 0
    assert set(shares.values()) == {None}, "nobody measured the peak of tensor cores"
    write_report(found, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "(hot caches, TF32 allowed on GPUs)" in report
    assert "may be rounded to TF32 on GPUs" in report
    assert sweep(tmp_path, *wanted, "--resume").returncode == 0


@pytest.mark.parametrize(
    ("peer", "variables", "reason"),
    [
        ("cublas", {"FAKE_MEMORY": "1000"}, "its unrolled matrix needs 0.0 GiB, and 0.0 GiB are free on the GPU"),
        pytest.param(
            *("cudnn", {"FAKE_TORCH_CUDA": ""}, "this PyTorch was built without CUDA"), marks=pytest.mark.long
        ),
        pytest.param(
            *("cudnn", {"FAKE_TORCH_STREAM": "2"}, "PyTorch queues in stream 0x2 and CuPy in 0x0"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_keeps_a_library_from_computing_is_one_line(peer, variables, reason):
    code = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from convbench.plans import Candidate
from convbench.problem import Problem
from peers_on_a_gpu import check
problem = Problem.parse({PROBLEM!r})
print(Candidate({peer!r}, "gpu", 1).unsupported_reason(problem) or "nothing before the first call")
check({peer!r}, problem, allow_tf32=False)
"""
    done = with_fake_gpu("-c", code, **variables)
    first_call = "nothing before the first call\n"
    said = done.stderr.splitlines()[-1] if done.stdout == first_call else done.stdout
    assert reason in said
    assert (done.stdout == first_call) == ("stream" in reason)


@pytest.mark.long
@on_the_host
def test_versus_compares_on_the_gpu_too(tmp_path):
    words = ["--problem", "mb1ic1ih20iw22oc8kh3kw3", "--peers", "scipy,cublas", "--cores", "1", "--runs", "1"]
    done = with_fake_gpu("-m", "convbench", "versus", *words, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    host, device = (part for part in done.stdout.split("mb1ic1")[1:])
    assert "on 1 core" in host
    assert "scipy" in host
    assert "cublas" not in host
    assert "on gpu" in device
    assert "cublas" in device
    assert "scipy" not in device
    assert "skipped: fft on gpu: has no gpu form" in done.stderr
    assert "skipped: fft:" not in done.stderr


@pytest.mark.long
def test_without_a_gpu_versus_says_so_in_a_line_for_each_library(tmp_path):
    if EXECUTORS["gpu"].available() is None:
        pytest.skip("there is a GPU")
    words = ["--problem", "mb1ic1ih20iw22oc8kh3kw3", "--peers", "scipy,cudnn,cublas", "--cores", "1", "--runs", "1"]
    done = python("-m", "convbench", "versus", *words, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    skipped = sorted(line for line in done.stderr.splitlines() if line.startswith("skipped: cu"))
    assert skipped == [f"skipped: {peer}: {EXECUTORS['gpu'].available()}" for peer in ("cublas", "cudnn")]
    assert {record.executor for record in load(tmp_path).records} == {"threads", LIBRARY, "gpu"}
    assert " on gpu" not in done.stdout


def test_the_form_that_rounds_is_taken_where_it_may_be():
    code = """
import dataclasses, numpy as np, convbench, cupy
import convbench.algorithms.unrolled.gpu
from convbench.algorithms import Implementation, unrolled
from convbench.plans import Candidate
from convbench.problem import Problem

taken = []
def rounding(problem, weights, epilogue):
    taken.append(str(problem))
    return unrolled.gpu.prepare(problem, weights, epilogue)

def supports(problem):
    return "too narrow" if problem.width < 10 else None

host, exact, _ = unrolled.UNROLLED.implementations
tf32 = Implementation("gpu", rounding, "tf32", supports, exact.footprint)
unrolled.UNROLLED = dataclasses.replace(unrolled.UNROLLED, implementations=(host, exact, tf32))

def taken_for(problem, algorithm="unrolled", executor="gpu", precision="tf32"):
    candidate = Candidate(algorithm, executor, 1, precision)
    found = candidate.implementation(Problem.parse(problem))
    assert candidate.precision_for(Problem.parse(problem)) == found.precision
    return f"{found.backend}-{found.precision}"

plain = "mb1ic2ih20iw20oc4kh3kw3"
print(
    taken_for(plain),
    taken_for(plain, precision="exact"),
    taken_for("--dt=f64 " + plain),
    taken_for(plain, algorithm="direct"),
    taken_for(plain, executor="serial"),
    taken_for("mb1ic2ih9iw9oc4kh3kw3"),
    *(Candidate("cublas", "gpu", 1, "tf32").precision_for(Problem.parse(dtype + plain)) for dtype in ("", "--dt=f64 ")),
)
problem, weights = Problem.parse(plain), np.ones((4, 2, 3, 3), np.float32)
for allow_tf32 in (False, True):
    with convbench.plan(problem, weights, algorithm="unrolled", executor="gpu", allow_tf32=allow_tf32) as plan:
        print(plan.precision.name, len(taken))
from convbench.select import contenders
contenders.PREFERENCE = {"gpu": ("unrolled",)}
x = cupy.asarray(np.ones((2, 20, 20), np.float32))
if RUNS:
    convbench.conv2d(x, weights)
    assert len(taken) == 1
    convbench.conv2d(x, weights, allow_tf32=True)
    assert len(taken) == 2
"""
    code = code.replace("RUNS", str(unsupported_reason() is None))
    done = with_fake_gpu("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "gpu-tf32 gpu-exact gpu-exact gpu-exact numba-exact gpu-exact tf32 exact",
        "exact 0",
        "tf32 1",
    ]
    done = with_fake_gpu("-c", code.partition("problem, weights =")[0], FAKE_CAPABILITY="75")
    assert done.stdout.split() == [*["gpu-exact"] * 4, "numba-exact", "gpu-exact", "exact", "exact"], done.stderr


@pytest.mark.long
@on_the_host
def test_one_program_measures_everything_about_a_gpu(tmp_path):
    """What `make gpu-check` runs after the tests, on small problems."""
    words = ["--part", "experiment", "--problem", "mb1ic1ih20iw20oc8kh5kw5", "--runs", "1", "--output", tmp_path]
    done = with_fake_gpu("-m", "benchmarks.gpu", *words, modules=[ROOT], BRIEF_PEAKS="1")
    assert done.returncode == 0, done.stderr
    for line in ("direct: ", "of the GPU's peak", "direct over winograd: ", "cublas over unrolled: "):
        assert line in done.stdout
    assert json.loads((tmp_path / "machine.json").read_text())["gpu"]["name"] == "a GPU on the host"
    records = load(tmp_path / "experiment").records
    assert {record.status for record in records if record.executor == "gpu"} == {"ok", "skipped"}  # fft has no form
    assert (tmp_path / "experiment" / "report.md").exists()


@pytest.mark.long
@on_the_host
def test_layers_of_other_networks_are_measured_too(tmp_path):
    (tmp_path / "small").write_text("mb1ic2ih6oc4kh3\nmb1ic4ih6oc4kh1\n")
    words = ["--part", "networks", "--network", tmp_path / "small", "--runs", "1", "--output", tmp_path / "found"]
    done = with_fake_gpu("-m", "benchmarks.gpu", *words, modules=[ROOT], BRIEF_PEAKS="1")
    assert done.returncode == 0, done.stderr
    found = load(tmp_path / "found" / "networks")
    assert {record.problem[:4] for record in found.records if record.status == "ok"} == {"mb32"}
    assert not (tmp_path / "found" / "experiment").exists()
