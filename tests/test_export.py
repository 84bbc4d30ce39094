"""Exports: other programs read what a sweep measured."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import subprocess
import sys

import pyperf
import pytest
from conftest import DEADLINE
from test_store import HEADER, RECORD

from convbench.errors import RequestError
from convbench.problem import Problem
from convbench.results.export import write, write_pyperf
from convbench.results.record import Record
from convbench.results.store import Store, Sweep, load


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    """Ten runs in which two cores are 1.9 times as fast as one, and a cell that was skipped."""
    with Store.create(tmp_path / "sweep", HEADER) as store:
        for run in range(10):
            for cores, seconds in ((1, 0.19), (2, 0.1)):
                samples = tuple(seconds * (1 + 0.001 * (run + i)) for i in range(3))
                worker = {"metadata": {"cpu_model_name": "a processor"}}
                store.append(
                    Record(
                        run=run,
                        order=0,
                        problem=RECORD.problem,
                        algorithm="direct",
                        executor="threads",
                        cores=cores,
                        status="ok",
                        samples=samples,
                        warmups=(0.2,),
                        worker=worker,
                    )
                )
        store.append(
            Record(
                run=0,
                order=1,
                problem=RECORD.problem,
                algorithm="direct",
                executor="gpu",
                cores=1,
                status="skipped",
                reason="no",
            )
        )
    return load(tmp_path / "sweep")


def test_csv_has_a_row_for_each_sample_and_for_each_cell_without(sweep):
    rows = list(csv.DictReader(io.StringIO("".join(write(sweep, "csv", None)))))
    assert len(rows) == 61
    assert float(rows[0]["seconds"]) == sweep.records[0].samples[0]
    assert (rows[-1]["status"], rows[-1]["seconds"], rows[-1]["reason"]) == ("skipped", "", "no")


def test_json_has_header_and_records(sweep, tmp_path):
    [line] = write(sweep, "json", tmp_path / "all.json")
    assert line == f"{tmp_path / 'all.json'}\n"
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["started"] == "now"
    assert len(content["records"]) == 21


def test_pyperf_compares_core_counts(sweep, tmp_path):
    paths = write_pyperf(sweep, tmp_path / "pyperf")
    assert [path.name for path in paths] == ["threads-1.json", "threads-2.json"]
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert "1.90x faster" in done.stdout
    for command in ("stats", "hist", "metadata"):
        words = [sys.executable, "-m", "pyperf", command, str(paths[0])]
        assert subprocess.run(words, capture_output=True, text=True, check=True, timeout=DEADLINE).stdout


def test_pyperf_gets_one_run_for_each_of_ours(sweep, tmp_path):
    [path, _] = write_pyperf(sweep, tmp_path)
    [benchmark] = pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()
    assert benchmark.get_name().startswith("direct mb1ic1ih720")
    assert len(benchmark.get_runs()) == 10
    assert benchmark.get_runs()[3].values == sweep.records[6].samples
    assert benchmark.get_metadata()["cpu_model_name"] == "a processor"


def test_what_cannot_be_written_is_one_clear_error(sweep, tmp_path):
    (tmp_path / "file").write_text("")
    for form in ("csv", "pyperf"):
        with pytest.raises(RequestError, match="cannot be written"):
            list(write(sweep, form, tmp_path / "file" / "below"))
    with pytest.raises(RequestError, match="csv, json, pyperf"):
        list(write(sweep, "xml", None))
    with pytest.raises(RequestError, match="no samples"):
        write_pyperf(Sweep(tmp_path, {}, ()), tmp_path)


def test_where_the_problem_grows_with_the_cores_pyperf_takes_no_two_problems_for_one(sweep, tmp_path):
    base = Problem.parse("mb1ic1ih20iw30oc4kh3kw3")
    records = [
        dataclasses.replace(record, problem=str(base.grown(record.cores)), base=str(base))
        for record in sweep.records
        if record.status == "ok"
    ]
    for path, cores in zip(write_pyperf(Sweep(tmp_path, {}, tuple(records)), tmp_path / "weak"), (1, 2), strict=True):
        assert pyperf.BenchmarkSuite.load(str(path)).get_benchmark_names() == [f"direct {base.grown(cores)}"]


def test_every_algorithm_on_every_problem_is_a_benchmark_of_its_own(sweep, tmp_path):
    problems = [RECORD.problem, "mb1ic1ih20iw30oc4kh3kw3", 'mb1ic1ih20iw30oc4kh3kw3n"conv1"']
    records = [
        dataclasses.replace(record, algorithm=algorithm, problem=problem)
        for record in sweep.records
        if record.status == "ok"
        for algorithm in ("direct", "naive")
        for problem in problems
    ]
    for path in write_pyperf(Sweep(tmp_path, {}, tuple(records)), tmp_path / "all"):
        benchmarks = pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()
        names = [f"{algorithm} {problem}" for algorithm in ("direct", "naive") for problem in problems]
        assert sorted(one.get_name() for one in benchmarks) == sorted(names)
        assert {one.get_nrun() for one in benchmarks} == {10}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_line_that_cannot_be_used_is_named_and_the_rest_exported(sweep, convbench, form):
    whole = convbench("export", sweep.directory, "--format", form)
    assert (whole.returncode, whole.stderr) == (0, "")
    results = sweep.directory / "results.jsonl"
    results.write_text("garbage{\n" + results.read_text())
    done = convbench("export", sweep.directory, "--format", form)
    assert (done.returncode, done.stdout) == (0, whole.stdout)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{results} line 1 cannot be used: it is not JSON")
    assert line.endswith("; the other 21 records are used")
