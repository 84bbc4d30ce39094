"""--memory-limit: what is read as a size, what is skipped and why, and that counted needs are true."""

from __future__ import annotations

import dataclasses
import json

import pytest
from conftest import script
from hypothesis import given
from hypothesis import strategies as st
from simulated import SMALL

from convbench.arguments import size, written_size
from convbench.errors import RequestError
from convbench.measure import cell, resident
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.sweep import resume_sweep, run_sweep
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.results.record import Record
from convbench.results.store import load

LAYER = "mb1ic16ih12oc16kh3ph1"


@pytest.mark.parametrize(
    ("said", "number"),
    [
        *((0, 0), (7, 7), ("7", 7), ("64MiB", 2**26), ("64 mib", 2**26), ("64M", 2**26), ("64MB", 64_000_000)),
        *(("1.5KiB", 1536), ("0.5k", 512), (" 2 GiB ", 2**31), ("1T", 2**40), ("10B", 10), ("3kB", 3000)),
        *(("1.0001B", 1),),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(said, number):
    assert size("memory_limit", said) == number


@pytest.mark.parametrize(
    "said",
    [
        "",
        "MiB",
        "64XB",
        "64 MiBs",
        "-1",
        "+1",
        "1e3",
        "1_000",
        "٣",
        "0x10",
        "nan",
        "inf",
        "1,5M",
        "9" * 19 + "T",
        "1ib",
    ],
)
def test_what_is_no_size_is_one_line_that_names_it(said):
    with pytest.raises(RequestError) as raised:
        size("memory_limit", said)
    assert str(raised.value).startswith("memory_limit=")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("said", [-1, 2.5, True, None, b"64MiB", [64], 2**70])
def test_what_is_no_whole_number_is_refused(said):
    with pytest.raises(RequestError, match="memory_limit="):
        size("memory_limit", said)


@given(st.integers(0, 2**60))
def test_a_size_is_written_as_no_less_than_it_is(number):
    text = written_size(number)
    assert number <= size("size", text.replace(" ", "")) <= number * 1.11 + 1


def quick(**request: object) -> Spec:
    return dataclasses.replace(make_spec(**request), timing=Timing(min_samples=1, max_samples=1, peak_repetitions=0))


def test_what_needs_more_is_skipped_with_its_need_and_nothing_is_bound(tmp_path, simulated, monkeypatch):
    assert simulated.machine.now == 0
    needs = {name: Candidate(name, "serial", 1).memory(Problem.parse(LAYER)) for name in ("direct", "unrolled")}
    limit = min(needs.values())
    assert limit < max(needs.values())
    bound: list[str] = []
    bind = cell.bind
    monkeypatch.setattr(cell, "bind", lambda *given: bound.append(given[2].algorithm) or bind(*given))
    request = {"problems": [LAYER], "executors": "simulated", "cores": 1, "runs": 1, "memory_limit": limit}
    found = run_sweep(quick(**request, algorithms="direct,unrolled"), tmp_path / "sweep")
    for record in found.records:
        assert (record.status == "ok") == (needs[record.algorithm] <= limit)
        assert record.memory["needed"] == needs[record.algorithm]
        if record.status == "skipped":
            assert record.reason.startswith("needs ")
            assert f"memory_limit={written_size(limit)}" in record.reason
    assert {record.status for record in found.records} == {"ok", "skipped"}
    assert set(bound) == {name for name, need in needs.items() if need <= limit}


def test_a_limit_is_a_part_of_the_request(tmp_path, simulated):
    assert simulated.machine.now == 0
    request = {"problems": [LAYER], "executors": "simulated", "algorithms": "direct", "cores": 1, "runs": 1}
    run_sweep(quick(**request, memory_limit="1 MiB"), tmp_path / "sweep", time_limit=0)
    assert load(tmp_path / "sweep").header["spec"]["memory_limit"] == 2**20
    with pytest.raises(RequestError, match="memory_limit=2097152 is not what"):
        resume_sweep(tmp_path / "sweep", {"memory_limit": "2MiB"})
    assert len(resume_sweep(tmp_path / "sweep", {**request, "memory_limit": 2**20}).records) == 1
    assert "memory_limit" not in make_spec([LAYER]).to_json()  # as versions read it that do not know it


@pytest.mark.long
def test_the_command_line_says_how_many_were_skipped_and_why_and_libraries_are_measured(convbench, tmp_path):
    """What libraries need is not known."""
    words = ("--problem", SMALL, "--executors", "serial", "--algorithms", "direct,unrolled", "--cores", 1, "--runs", 1)
    done = convbench("sweep", *words, "--peers", "scipy", "--memory-limit", "1B", "--output", tmp_path / "sweep")
    assert done.returncode == 0
    [library] = [record for record in load(tmp_path / "sweep").records if record.status == "ok"]
    assert library.algorithm == "scipy"
    assert set(library.memory) <= {"peak"}
    assert library.work == {}
    assert "skipped: 2 cells (direct on serial and 1 more): needs more memory than memory_limit=1 B" in done.stderr
    refused = convbench("sweep", *words, "--memory-limit", "some", "--output", tmp_path / "other")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "convbench: error: memory-limit='some' is no size; give bytes, or a number with a unit such as 64MiB"
    )
    chosen = convbench("choose", LAYER, "--cores", 1, "--memory-limit", "0.1XB")
    assert chosen.returncode == 2
    assert "is no size" in chosen.stderr
    assert convbench("choose", LAYER, "--cores", 1, "--memory-limit", "64MiB").returncode == 0


def test_records_have_needs_and_what_the_process_held(tmp_path, simulated):
    assert simulated.machine.now == 0
    spec = quick(problems=[LAYER], algorithms="direct", executors="simulated", cores=1, runs=1)
    [record] = run_sweep(spec, tmp_path / "sweep").records
    assert record.memory["peak"] > 2**24  # an interpreter alone has as much
    assert record.work["multiply-adds"] > 0
    assert Record.from_json(record.to_json()) == record


def test_where_the_system_does_not_tell_it_there_is_no_peak(tmp_path, simulated, monkeypatch):
    assert simulated.machine.now == 0
    monkeypatch.setattr(resident, "_PROC", tmp_path)
    spec = quick(problems=[LAYER], algorithms="direct", executors="simulated", cores=1, runs=1)
    [record] = run_sweep(spec, tmp_path / "sweep").records
    assert record.status == "ok"
    assert set(record.memory) == {"needed"}


GROWTH = """
    import ctypes, gc, json, sys
    import numpy as np
    from convbench.measure.resident import Peak, status
    from convbench.plans import Candidate, bind
    from convbench.problem import Problem

    problem, candidate = Problem.parse(sys.argv[1]), Candidate(*sys.argv[2:4], int(sys.argv[4]))
    random = np.random.default_rng(0)
    shapes = problem.weights_shape, problem.input_shape
    weights, x = (random.standard_normal(shape).astype(problem.dtype) for shape in shapes)
    out = np.ones(problem.output_shape, problem.dtype)

    def call():
        with bind(problem, weights, candidate) as plan:
            plan(x, out)

    call()  # code is loaded, threads are started
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, peak = status("self", "VmRSS"), Peak()
    call()
    print(json.dumps([candidate.memory(problem), peak.bytes() - before]))
"""
VARIES = 2.5 * 2**20  # bytes: an interpreter's own, and a huge page that is not full


@pytest.mark.long
@pytest.mark.parametrize(("executor", "cores"), [("serial", 1), ("threads", 2)])
@pytest.mark.parametrize(
    ("algorithm", "descriptor"),
    [
        *((name, "mb1ic512ih14oc512kh3ph1") for name in ("direct", "unrolled", "winograd")),
        ("winograd", "mb1ic256ih28oc512kh3ph1"),
        ("direct", "mb1ic2048ih7oc512kh1"),
        ("fft", "mb1ic8ih200oc64kh31"),
    ],
)
def test_a_process_grows_by_what_was_counted(algorithm, descriptor, executor, cores):
    done = script(GROWTH, descriptor, algorithm, executor, cores)
    assert done.returncode == 0, done.stderr
    needed, grown = json.loads(done.stdout)
    assert needed > 2**22
    assert abs(grown - needed) <= 0.1 * needed + VARIES
