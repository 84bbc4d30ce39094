"""Two versions measured in turns: who measures what and when, and what happens when the other one is not there."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, briefly

from convbench import machine
from convbench.errors import RequestError
from convbench.measure import other, sweep, turns
from convbench.measure.process import WorkerProcess
from convbench.measure.progress import Progress
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.sweep import resume_sweep
from convbench.measure.turns import AGAINST, goes_first, is_pair, resume_in_turns, run_in_turns
from convbench.results.record import Record
from convbench.results.store import Store, Sweep, load
from convbench.terminal import show_in_turns

PROBLEM = "mb1ic1ih9iw10oc2kh3kw3"
ALGORITHMS = ("direct", "unrolled", "winograd")

# A program that is started as a Python interpreter is, and speaks what a worker speaks, without measuring anything. It
# notes what it is asked to measure. What it should do wrong is in the file `wrong`.
FAKE = """#!{python}
import json, os, sys, time

here = os.path.dirname(os.path.abspath(__file__))
wrong = open(os.path.join(here, "wrong")).read().split()
assert sys.argv[1] == "-P", sys.argv
if sys.argv[2] == "-c":
    if "hang" in wrong:
        time.sleep(600)
    if "none" in wrong:
        sys.exit("ModuleNotFoundError: No module named 'convbench'")
    assert "shuffle" not in json.load(sys.stdin), "which earlier versions do not know"
    version = "2" if "changed" in wrong else "1"
    print("a greeting of something that was imported")
    told = {{"machine": {{"cpu": "fake"}}, "versions": {{"convbench": version}}}}
    print("[]" if "odd" in wrong else json.dumps(told))
    sys.exit()
assert sys.argv[2:] == ["-m", "convbench.measure.worker"], sys.argv
job = json.loads(sys.stdin.readline())
assert "shuffle" not in job["spec"]
for order, cell in job["cells"]:
    with open(os.path.join(here, "measured"), "a") as file:
        file.write(json.dumps([{name!r}, os.getpid(), job["run"], cell]) + "\\n")
    if cell[1] in wrong:
        if "dies" in wrong:
            os.kill(os.getpid(), 9)
        if "babbles" in wrong:
            print("what is this?", flush=True)
            continue
        if "another" in wrong:
            cell = [cell[0], "naive", *cell[2:]]
    record = dict(zip(("problem", "algorithm", "executor", "cores"), cell), run=job["run"], order=order)
    print(json.dumps({{"schema": 1, "status": "ok", "samples": [0.1, 0.2], **record}}), flush=True)
    if "ends" in wrong:
        sys.exit()
"""


class Fakes:
    """An interpreter for each of the two versions, and what both were asked to measure."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.this, self.other = (self._interpreter(name) for name in ("this", "other"))
        self.goes_wrong("")

    def _interpreter(self, name: str) -> str:
        path = self._directory / f"{name}-python"
        path.write_text(FAKE.format(python=sys.executable, name=name))
        path.chmod(0o755)
        return str(path)

    def goes_wrong(self, how: str) -> None:
        (self._directory / "wrong").write_text(how)

    def measured(self) -> list[tuple[str, int, int, str]]:
        """Version, process, run and algorithm of every cell, in the order in which they were begun."""
        lines = (self._directory / "measured").read_text().splitlines()
        return [(name, pid, run, cell[1]) for name, pid, run, cell in map(json.loads, lines)]


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    found = Fakes(tmp_path)
    monkeypatch.setattr(
        sweep, "WorkerProcess", lambda job, threads, python: WorkerProcess(job, threads, python or found.this)
    )
    return found


def small(runs: int = 4, algorithms: tuple[str, ...] = ALGORITHMS) -> Spec:
    spec = make_spec([PROBLEM], algorithms=algorithms, executors=("serial",), cores=(1,), runs=runs)
    return replace(spec, timing=Timing(peak_repetitions=0))


def cells_of(found: Sweep) -> Counter[tuple[int, str]]:
    return Counter((record.run, record.algorithm) for record in found.records)


ONCE = Counter((run, algorithm) for run in range(4) for algorithm in ALGORITHMS)


def test_both_versions_measure_every_cell_of_every_run_once_each_into_a_sweep_of_its_own(fakes, tmp_path):
    seen: list[Progress] = []
    pair = run_in_turns(small(), tmp_path / "sweep", fakes.other, on_progress=seen.append)
    assert [found.directory for found in pair] == [tmp_path / "sweep", tmp_path / "sweep" / AGAINST]
    for found in pair:
        assert cells_of(found) == ONCE
        assert found.records == load(found.directory).records
        assert not found.faults
        assert {record.status for record in found.records} == {"ok"}
        assert found.header["spec"] == json.loads(json.dumps(small().to_json()))
    this, against = (found.header for found in pair)
    assert against["machine"]["cpu"] == "fake"
    assert against["versions"] == {"convbench": "1"}
    for header, side in ((this, "this"), (against, AGAINST)):
        assert header["pair"] == {
            "id": this["pair"]["id"],
            "python": fakes.other,
            "versions": {"convbench": "1"},
            "side": side,
        }
    assert (seen[0].done, seen[0].total, seen[-1].done, seen[-1].runs) == (0, 24, 24, 4)
    assert seen[-1].seconds_left == 0
    assert [progress.done for progress in seen] == list(range(25))


def test_versions_that_know_no_order_but_that_of_all_cells_measure_problem_by_problem(fakes, tmp_path):
    problems = [f"mb1ic1ih{height}iw9oc2kh3kw3" for height in (9, 10, 11)]
    spec = make_spec(problems, algorithms=ALGORITHMS, executors=("serial",), cores=(1,), runs=2)
    pair = run_in_turns(replace(spec, timing=Timing(peak_repetitions=0)), tmp_path / "sweep", fakes.other)
    for found in pair:
        assert found.header["spec"]["shuffle"] == "problems"
        for run in range(2):
            assert [record.cell for record in found.records if record.run == run] == spec.order(run)


def test_each_begins_as_often_as_the_other_and_nobody_can_tell_which(fakes, tmp_path):
    pair = run_in_turns(small(), tmp_path / "sweep", fakes.other)
    firsts = [Counter(record.algorithm for record in found.records if record.worker["first"]) for found in pair]
    assert firsts == [dict.fromkeys(ALGORITHMS, 2)] * 2
    began = [[goes_first(seed, run) for run in range(40)] for seed in range(40)]
    assert all(sum(runs) == 20 for runs in began)
    assert 5 < sum(runs[0] for runs in began) < 35, "it follows from the seed"
    assert began[0][::2] not in ([0] * 20, [1] * 20), "and is drawn anew for every two runs"


@pytest.mark.parametrize(("seconds", "cells"), [(0.0, 1), (1000.0, 3)], ids=["short turns", "long turns"])
def test_a_turn_is_as_many_cells_as_fit_into_it_and_then_the_same_cells_by_the_other(
    fakes, tmp_path, monkeypatch, seconds, cells
):
    monkeypatch.setattr(turns, "TURN_SECONDS", seconds)
    run_in_turns(small(), tmp_path / "sweep", fakes.other)
    if cells == 1:  # the one that measured until its time was up may have begun with the next
        records = [load(tmp_path / "sweep" / side).records for side in ("", AGAINST)]
        for run in range(4):
            its_turns = [{r.worker["turn"]: r.algorithm for r in side if r.run == run} for side in records]
            assert its_turns[0] == its_turns[1]
            assert list(its_turns[0]) == [0, 1, 2]
        return
    measured = fakes.measured()
    names = [name for name, *_ in measured]
    for begin in range(0, len(measured), 6):
        first, second = measured[begin : begin + 3], measured[begin + 3 : begin + 6]
        assert names[begin : begin + 3] in (["this"] * 3, ["other"] * 3)
        assert [cell[2:] for cell in first] == [cell[2:] for cell in second], "the same cells in the same order"
        assert {cell[0] for cell in first} != {cell[0] for cell in second}
        assert len({cell[1] for cell in first}) == len({cell[1] for cell in second}) == 1, "a process each"
    assert len({pid for _, pid, *_ in measured}) == 8


def test_a_worker_that_ends_after_each_cell_costs_nothing(fakes, tmp_path):
    fakes.goes_wrong("ends")
    for found in run_in_turns(small(), tmp_path / "sweep", fakes.other):
        assert cells_of(found) == ONCE
        assert {record.status for record in found.records} == {"ok"}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("dies", "SIGKILL"),
        ("babbles", "no record of this cell (Expecting value"),
        ("another", "no record of this cell (is of mb1ic1ih9oh7iw10ow8kh3kw3oc2 naive serial 1"),
    ],
)
def test_a_cell_that_a_version_does_not_measure_is_a_failed_record_and_the_rest_is_measured(
    fakes, tmp_path, how, reason
):
    fakes.goes_wrong(f"{how} unrolled")
    for found in run_in_turns(small(), tmp_path / "sweep", fakes.other):
        assert cells_of(found) == ONCE
        for record in found.records:
            assert (record.status == "failed") == (record.algorithm == "unrolled")
            if record.status == "failed":
                assert reason.split("(")[0] in record.reason
                assert record.worker["turn"] >= 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("none", "cannot measure this (ModuleNotFoundError: No module named 'convbench')"),
        ("odd", "is no Python interpreter"),
        ("hang", "did not describe its convbench within 1 s"),
    ],
)
def test_another_version_that_is_not_there_is_one_line_before_anything_is_written(
    fakes, tmp_path, monkeypatch, how, says
):
    if how == "hang":
        monkeypatch.setattr(other, "LIMIT", 1.0)
    fakes.goes_wrong(how)
    with pytest.raises(RequestError) as refused:
        run_in_turns(small(), tmp_path / "sweep", fakes.other)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("python", ["/nowhere/python", "no-such-python", str(ROOT)])
def test_what_is_no_program_is_refused(tmp_path, python):
    with pytest.raises(RequestError, match="is no program; give the path of another environment's python"):
        run_in_turns(small(), tmp_path / "sweep", python)


def test_a_program_that_the_system_cannot_start_is_refused(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    with pytest.raises(RequestError, match="cannot be started"):
        run_in_turns(small(), tmp_path / "sweep", str(script))


def interrupted(directory: Path, python: str, after: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_turns(small(), directory, python, on_progress=stop)


@pytest.mark.parametrize("after", [0, 5, *(pytest.param(after, marks=pytest.mark.long) for after in (1, 11))])
def test_an_interrupted_one_keeps_both_and_is_gone_on_with_by_both(fakes, tmp_path, after):
    directory = tmp_path / "sweep"
    interrupted(directory, fakes.other, after)
    assert sum(len(load(place).records) for place in (directory, directory / AGAINST)) == after
    assert is_pair(directory)
    for found in resume_in_turns(directory):
        assert cells_of(found) == ONCE
    for found in resume_in_turns(directory, {"runs": 5}, fakes.other):
        assert cells_of(found) == ONCE + Counter((4, algorithm) for algorithm in ALGORITHMS)


def test_it_is_gone_on_with_if_it_was_interrupted_before_the_other_sweep_had_begun(fakes, tmp_path):
    interrupted(tmp_path / "sweep", fakes.other, 0)
    for path in (tmp_path / "sweep" / AGAINST).iterdir():
        path.unlink()
    for found in resume_in_turns(tmp_path / "sweep"):
        assert cells_of(found) == ONCE


def test_no_cell_is_begun_after_the_time_limit(fakes, tmp_path):
    pair = run_in_turns(small(), tmp_path / "sweep", fakes.other, time_limit=0)
    assert [found.records for found in pair] == [(), ()]
    assert all(cells_of(found) == ONCE for found in resume_in_turns(tmp_path / "sweep"))


def test_neither_is_gone_on_with_alone_or_by_another_version(fakes, tmp_path, monkeypatch):
    directory = tmp_path / "sweep"
    interrupted(directory, fakes.other, 5)
    for place in (directory, directory / AGAINST):
        with pytest.raises(RequestError, match=r"is measured in turns with .*; go on with both"):
            resume_sweep(place)
    with pytest.raises(RequestError, match=f"is the other version's sweep; go on with both by --output {directory}$"):
        resume_in_turns(directory / AGAINST)
    with Store.create(tmp_path / "plain", {"spec": small().to_json(), "machine": {}, "versions": {}}):
        pass
    assert not is_pair(tmp_path / "plain")
    with pytest.raises(RequestError, match="was not begun with --against"):
        resume_in_turns(tmp_path / "plain", python=fakes.other)
    with monkeypatch.context() as changed:
        changed.setattr(machine, "versions", lambda: {"convbench-sources": "another"})
        with pytest.raises(RequestError, match="another state of convbench's code"):
            resume_in_turns(directory)
    with pytest.raises(RequestError, match="python differs"):
        resume_in_turns(directory, python=fakes.this)
    fakes.goes_wrong("changed")
    with pytest.raises(RequestError, match="versions differs"):
        resume_in_turns(directory)
    fakes.goes_wrong("none")
    with pytest.raises(RequestError, match="cannot measure this"):
        resume_in_turns(directory)
    assert sum(len(load(place).records) for place in (directory, directory / AGAINST)) == 5


def test_an_interpreter_that_is_gone_in_the_middle_loses_nothing(fakes, tmp_path):
    def remove(progress: Progress) -> None:
        if progress.done == 6:
            Path(fakes.other).unlink()

    with pytest.raises(RequestError, match=r"other-python cannot be started .*; what was measured is kept"):
        run_in_turns(small(), tmp_path / "sweep", fakes.other, on_progress=remove)
    kept = [load(tmp_path / "sweep" / side).records for side in ("", AGAINST)]
    assert sum(map(len, kept)) >= 6


def test_the_other_interpreter_does_not_find_this_convbench(monkeypatch, tmp_path):
    (tmp_path / "holds" / "convbench").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}::relative:{tmp_path / 'holds'}:{tmp_path / 'else'}")
    environment = other.environment()
    assert environment["PYTHONPATH"] == str(tmp_path / "else")
    assert environment["PYTHONSAFEPATH"] == "1", "nor do processes that it starts look into the current folder"
    assert other.command("python", "-m", "x") == ["python", "-P", "-m", "x"]


def test_more_runs_are_added_until_both_are_precise(fakes, tmp_path):
    def width(this: list[Record], other: list[Record]) -> float:
        return 0.1 if max(record.run for record in (*this, *other)) < 5 else 0.001

    spec = replace(small(), precision=0.01)
    for found in run_in_turns(spec, tmp_path / "sweep", fakes.other, width=width):
        assert {record.run for record in found.records} == set(range(6))


def test_what_was_reached_of_a_precision_is_told(fakes, tmp_path, capsys):
    show_in_turns(*run_in_turns(replace(small(), precision=0.01), tmp_path / "sweep", fakes.other), None)
    said = " ".join(capsys.readouterr().err.split())
    assert "widest interval ±unknown after 4 runs; ±1.00% was asked for, which takes 15 runs or more" in said, said


@pytest.mark.long
def test_the_command_measures_in_turns_and_compares_inside_runs(convbench, tmp_path):
    """End to end, with this very environment as the other one."""
    directory = tmp_path / "sweep"
    request = ["--problem", PROBLEM, "--algorithms", "direct", "--executors", "serial", "--runs", "2"]
    done = convbench(
        "sweep", *request, "--against", sys.executable, "--output", directory, "--fail-above", "1e6", env=briefly()
    )
    assert done.returncode == 0, done.stderr
    title = "".join(done.stdout.split())  # a path may be broken anywhere
    assert f"timeinthisversionovertimeinthatof{sys.executable},measuredinturns" in title
    assert "0 of 1 cells slower, beyond doubt" in done.stderr
    for place in (directory, directory / AGAINST):
        assert [(record.run, record.status) for record in load(place).records] == [(0, "ok"), (1, "ok")]
    compared = convbench("compare", directory / AGAINST, directory, "--fail-above", "1e6")
    assert compared.returncode == 0, compared.stderr
    assert "measured in turns" in " ".join(compared.stdout.split())
    again = convbench("sweep", "--resume", "--output", directory, env=briefly())
    assert again.returncode == 0, again.stderr
    assert len(load(directory).records) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--against", "/nowhere/python"], "against='/nowhere/python' is no program"),
        (["--fail-above", "5"], "fail_above=5 is of two versions of convbench; give --against PYTHON, too"),
        (["--against", sys.executable, "--fail-above", "nan"], "fail_above=nan is not allowed"),
    ],
)
def test_a_wrong_request_is_one_line(convbench, words, says):
    done = convbench("sweep", "--problem", PROBLEM, "--runs", "1", *words)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("convbench: error: ")
    assert says in line
