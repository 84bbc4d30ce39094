"""Choices on a GPU, and whether to go there: on a CuPy that runs on the host."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
from conftest import ROOT, command, with_fake_gpu
from test_gpu import on_the_host

from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select import Prediction
from convbench.select.choice import Choice
from convbench.select.contenders import ON_HOST, candidate_of, name_of
from convbench.select.known import Known
from convbench.select.on_gpu import CAPABILITY, DEFAULT, TRANSFERS, UNKNOWN, default_model, there_and_back, together

LAYER = Problem.parse("mb1ic64ih14oc64kh3ph1")


def chosen(backend, *candidates):
    """A choice of candidates by name and seconds."""
    ranked = (Prediction(candidate_of(name), seconds, seconds and (seconds, seconds)) for name, seconds in candidates)
    return Choice(LAYER, tuple(ranked), "default", (f"of {backend}",))


def run(words):
    return subprocess.run(command(words.split()), capture_output=True, text=True, check=False)


def names(choice):
    return [name_of(each.candidate) for each in choice.ranked]


def test_a_precision_is_a_part_of_the_name_on_a_gpu_alone():
    assert name_of(Candidate("unrolled", "gpu", 1, "tf32")) == "unrolled/gpu/1/tf32"
    assert candidate_of("unrolled/gpu/1/tf32") == Candidate("unrolled", "gpu", 1, "tf32")
    assert name_of(Candidate("direct", "serial", 1, "tf32")) == "direct/serial/1"
    for wrong in ("direct/serial/1/tf32", "unrolled/gpu/1/", "unrolled/gpu/1/half-way", "unrolled/gpu/1/tf32/x"):
        assert candidate_of(wrong) is None, wrong


def test_the_faster_of_both_is_chosen_and_the_other_one_is_named():
    host = chosen("host", ("direct/threads/2", 3e-3), ("unrolled/threads/2", 4e-3), ("naive/serial/1", None))
    gpu = chosen("gpu", ("winograd/gpu/1", 1e-3), ("direct/gpu/1", 3.5e-3))
    both = together(host, gpu)
    assert names(both) == [
        *("winograd/gpu/1", "direct/threads/2", "direct/gpu/1", "unrolled/threads/2", "naive/serial/1"),
    ]
    assert both.reasons == ("of gpu", "direct on threads with 2 cores is expected to take 3 times as long")
    slow = chosen("gpu", ("winograd/gpu/1", 1.0))
    assert names(together(host, slow))[0] == "direct/threads/2"
    assert together(host, slow).reasons[0] == "of host"


@pytest.mark.parametrize("of_host", [None, 1.0])
def test_nobody_is_sent_to_a_gpu_of_which_nothing_is_known(of_host):
    host, gpu = chosen("host", ("direct/serial/1", of_host)), chosen("gpu", ("direct/gpu/1", None))
    assert names(together(host, gpu)) == ["direct/serial/1", "direct/gpu/1"]
    assert together(host, gpu).reasons == ("of host",)


def test_the_way_there_and_back_counts_for_an_array_of_the_host():
    gpu = chosen("gpu", ("winograd/gpu/1", 1e-3), ("direct/gpu/1", None))
    seconds = {str(LAYER): {TRANSFERS: 2e-3, "winograd/gpu/1": 1e-3}}
    measured = there_and_back(gpu, Known(None, is_default=True, seconds=seconds))
    assert measured.predicted_seconds == pytest.approx(3e-3)
    assert measured.interval == pytest.approx((2.8e-3, 3.2e-3))
    assert measured.ranked[1].seconds is None
    assert measured.reasons == ("of gpu", "1 ms on the GPU, and 2 ms there and back")
    unknown = there_and_back(gpu, Known(None, is_default=True))
    assert unknown.predicted_seconds is None
    assert unknown.reasons == ("of gpu", UNKNOWN)
    predicted = there_and_back(gpu, Known(default_model(pytest.fail), is_default=True))
    assert 1e-5 < predicted.predicted_seconds - 1e-3 < 1e-3
    low, high = predicted.interval
    assert low < predicted.predicted_seconds < high


def test_the_model_that_comes_with_the_package_is_of_the_forms_there_are():
    model = default_model(pytest.fail)
    assert {name for name in model.rates if candidate_of(name) is None} == {TRANSFERS}
    assert set(model.predict(LAYER, model.rates)) == set(model.rates), "each has counts that it was fitted to"
    assert json.loads(DEFAULT.read_text())["machine"]["capability"] == CAPABILITY


def test_without_a_gpu_any_is_the_host_and_says_why():
    code = "import sys; sys.modules['cupy'] = None; from convbench import choose; print(choose(sys.argv[1]).candidate);"
    code += "print(choose(sys.argv[1], backend='any').explain())"
    done = subprocess.run([sys.executable, "-c", code, str(LAYER)], capture_output=True, text=True, check=True)
    host, first, *_, last = done.stdout.splitlines()
    assert first.startswith(host)
    assert last.startswith("- not on a GPU: CuPy ")


@on_the_host
def test_on_a_gpu_forms_are_ranked_by_counted_work_and_measured_where_that_is_asked_for():
    code = """
import os
from convbench import choose
from convbench.errors import RequestError
from convbench.select import measuring_gpu
def first(problem, **options): return choose(problem, backend="gpu", **options).candidate

few, many = "mb32ic3ih224oc64kh3ph1", "mb32ic256ih14oc256kh3ph1"
print(first(few).algorithm, first(many).algorithm, first("mb1ic1ih720iw1280oc128kh11kw11").algorithm)
os.environ["FAKE_CAPABILITY"] = "90"
tf32 = choose(many, backend="gpu", arithmetic="tf32")
print(tf32.candidate.precision, [each.candidate.precision for each in tf32.ranked], tf32.predicted_seconds is not None)
os.environ["FAKE_CAPABILITY"] = "80"
other = choose(many, backend="gpu", arithmetic="tf32")
print(other.candidate.precision, other.predicted_seconds, other.reasons)
os.environ["FAKE_CAPABILITY"] = "70"
print(first(many, arithmetic="tf32"))
os.environ["FAKE_CAPABILITY"] = "80"

tiny = "mb1ic2ih6iw7oc3kh3kw3"
assert choose(tiny, backend="gpu").source == "default"
asked = []
def measure(problem, candidates, seconds):
    asked.append([each.algorithm for each in candidates])
    return {"direct/gpu/1": 1e-6, "unrolled/gpu/1": 2e-6, "winograd/gpu/1": 3e-6, "transfers": 1.0}
measuring_gpu.measure, real = measure, measuring_gpu.measure
measured = choose(tiny, backend="gpu", measure=True)
print(measured.source, measured.algorithm, measured.predicted_seconds)
assert choose(tiny, backend="gpu").source == "measured", "it is remembered"
choose(tiny, backend="gpu", measure=True)
assert len(asked) == 1
anywhere = choose(tiny, backend="any")
assert anywhere.executor != "gpu", "a second of transfers"
assert max(each.seconds or 0 for each in anywhere.ranked) > 1
os.environ["FAKE_CAPABILITY"] = "90"
assert choose(tiny, backend="gpu").source == "default", "another GPU"
times = real(__import__("convbench").problem.Problem.parse(tiny), [each.candidate for each in measured.ranked], 1e-3)
print(sorted(times), all(each > 0 for each in times.values()))
try:
    choose(tiny, backend="gpu", memory_limit=0)
except RequestError as error:
    print(error)
"""
    done = with_fake_gpu("-c", code)
    assert done.returncode == 0, done.stderr
    sizes, rounding, elsewhere, none, measured, times, refused = done.stdout.splitlines()
    assert sizes == "unrolled winograd winograd"
    assert rounding == "tf32 ['tf32', 'exact', 'exact'] True"
    assert elsewhere.startswith("tf32 None ('nothing is known")
    assert none == "winograd on gpu with 1 core"
    assert measured == "measured direct 1e-06"
    assert times == "['direct/gpu/1', 'transfers', 'unrolled/gpu/1', 'winograd/gpu/1'] True"
    assert refused.startswith("memory_limit=0 is too little")


@on_the_host
def test_anywhere_is_the_host_or_the_gpu_and_says_why_not_the_other():
    code = """
import os, numpy as np
from convbench import choose
from convbench.errors import ConvbenchError, UnavailableError
from convbench.select import measuring, measuring_gpu
def anywhere(problem, **options): return choose(problem, backend="any", **options)
def refused(**options):
    try: return anywhere(large, **options)
    except ConvbenchError as error: return type(error).__name__ + " " + str(error)

large, tiny = "mb32ic256ih28oc256kh3ph1", "mb1ic2ih6iw7oc3kh3kw3"
found = anywhere(large)
memory = [each.memory for each in found.ranked if each.candidate.algorithm != "naive"]
print(found.executor, "there and back" in found.explain(), min(memory) > 0)
print(anywhere(tiny).executor, anywhere(large, algorithm="fft").executor)
print(refused(cores=0))
print(refused(packed=False))
print(refused(memory_limit=0, algorithm="winograd"))
print(anywhere(large, memory_limit=10**9).executor, anywhere(large, memory_limit=10**7).executor)
try: choose(tiny, backend=np.array(["numba", "gpu"]))
except ConvbenchError as error: print(type(error).__name__)
if (child := os.fork()) == 0: os._exit(anywhere(large).executor == "gpu")
print(os.waitpid(child, 0)[1])

def nothing_left(*_): raise UnavailableError("no memory now")
measuring.measure = measuring_gpu.measure = nothing_left
found = anywhere(large, measure=True)
print(found.executor, found.explain().count("no memory now"))

def measure(problem, candidates, seconds):
    return {**{"/".join((each.algorithm, "gpu/1")): 1e-9 for each in candidates}, "transfers": 1e-9}
measuring_gpu.measure = measure
print(anywhere(tiny, measure=True).executor, anywhere(tiny).executor)
os.environ["FAKE_CAPABILITY"] = "75"
found = anywhere(large)
seconds = {each.seconds for each in found.ranked if each.candidate.executor == "gpu"}
print(found.executor, seconds, "measure=True" in found.explain())
print(anywhere(large, measure=True).executor, anywhere(large).executor)

os.environ["FAKE_CAPABILITY"] = "80"
choose(large, backend="gpu", measure=True)
found = choose(large, backend="gpu", arithmetic="tf32")
print(found.candidate.precision, found.source)
"""
    done = with_fake_gpu("-c", code, FAKE_CAPABILITY="90", NUMBA_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    lines = iter(done.stdout.splitlines())
    assert next(lines) == "gpu True True"
    assert next(lines) in {f"{tiny} {large}" for tiny in ON_HOST for large in ON_HOST}
    assert next(lines).startswith("RequestError cores=0")
    assert next(lines).startswith("RequestError packed=False")
    assert next(lines).startswith("RequestError memory_limit=0")
    most, least = next(lines).split()
    assert (most, least in ON_HOST) == ("gpu", True), "copies of input and output count on a GPU"
    assert next(lines) == "RequestError"
    assert next(lines) == "0", "CUDA does not outlive a fork"
    assert next(lines) == "gpu 2"
    assert next(lines) == "gpu gpu", "measured, and remembered"
    executor, seconds, told = next(lines).split()
    assert (executor in ON_HOST, seconds, told) == (True, "{None}", "True"), "an H100's seconds are no other's"
    assert next(lines) == "gpu gpu"
    assert next(lines) == "tf32 default", "what exact forms took tells nothing about one that may round"
    assert not [*lines]


def test_the_command_says_where():
    done = run(f"choose {LAYER} --backend nowhere")
    assert (done.returncode, "backend" in done.stderr) == (2, True)
    done = run(f"choose {LAYER} --backend any --json")
    assert done.returncode == 0, done.stderr
    assert "GPU" in done.stdout


@pytest.mark.long
@on_the_host
def test_every_size_of_thread_blocks_is_tried_and_says_what_it_computed(tmp_path):
    words = [
        "--problem",
        "mb1ic3ih9oc8kh3ph1",
        "--form",
        "unrolled",
        "--form",
        "winograd",
        "--output",
        tmp_path / "s.csv",
    ]
    done = with_fake_gpu("-m", "benchmarks.gpu_search", *words, modules=[ROOT])
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    by_form = {form: [row["sizes"] for row in rows if row["form"] == form] for form in ("unrolled", "winograd")}
    assert all(sizes[0] == "chosen" and len({*sizes}) == len(sizes) > 2 for sizes in by_form.values()), by_form
    assert all(float(row["largest relative error"]) < 1e-5 for row in rows)
    assert "times the fastest" in done.stdout
