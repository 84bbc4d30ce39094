"""`make bench`: another commit's environment, what is measured again, and how often it is wrong."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE
from test_turns import Fakes

from benchmarks import commits, slower
from benchmarks.__main__ import _show as show
from convbench.analysis.compare import FEW_RUNS, Comparison
from convbench.analysis.evidence import InTurns
from convbench.analysis.statistics import Estimate
from convbench.errors import RequestError
from convbench.measure import sweep, turns
from convbench.measure.process import WorkerProcess
from convbench.measure.spec import Spec, Timing
from convbench.problem import Problem
from convbench.results.store import load

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
SHAPES = ("mb1ic1ih9iw10oc2kh3kw3", "mb1ic1ih9iw10oc3kh3kw3")


def git(root: Path, *words: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a package."""
    root = tmp_path / "repository"
    (root / "convbench").mkdir(parents=True)
    git(root, "init", "--quiet")
    for version in ("1", "2"):
        (root / "convbench" / "__init__.py").write_text(f"VERSION = {version}\n")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", version)
    return root


@needs_git
def test_a_commit_has_an_environment_of_its_own_with_this_ones_packages(repository, tmp_path):
    exports = tmp_path / "exports"
    for revision, version in (("HEAD", "2"), ("HEAD~1", "1"), ("HEAD~1", "1")):
        python = commits.export(revision, repository, exports)
        words = [str(python), "-P", "-c", "import convbench, numba, numpy; print(convbench.VERSION, numpy.__file__)"]
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=DEADLINE, cwd="/").stdout
        assert said.split() == [version, np.__file__]
        assert len(list(exports.iterdir())) == 1, "of other commits nothing is kept"


@needs_git
def test_the_other_version_is_the_last_that_differs(repository):
    assert commits.default_revision(repository) == "HEAD~1"
    (repository / "notes").write_text("of no matter")
    assert commits.default_revision(repository) == "HEAD~1"
    (repository / "convbench" / "new.py").touch()
    assert commits.default_revision(repository) == "HEAD"


@needs_git
@pytest.mark.parametrize("revision", ["HEAD~7", "no-such-branch", "--all"])
def test_what_is_no_commit_is_one_clear_error(repository, tmp_path, revision):
    with pytest.raises(RequestError, match=r"^git rev-parse .* failed .*; give a commit by --against$"):
        commits.export(revision, repository, tmp_path / "exports")
    assert not (tmp_path / "exports").exists()


def test_shapes_have_names_and_the_reference_workload_is_one():
    names = [Problem.parse(shape).name for shape in slower.SHAPES]
    assert len(set(names)) == len(names) == 11
    assert "multicore" in names


def small(runs: int = 2) -> Spec:
    return replace(slower.make(SHAPES, ("direct", "fft"), runs), timing=Timing(peak_repetitions=0))


def test_a_spec_of_some_cells_is_read_by_versions_that_know_none_of_that():
    spec = small()
    some = tuple(spec.cells()[1:3])
    chosen = slower.of_cells(spec, some, runs=7)
    assert tuple(chosen.cells()) == some
    assert sorted(chosen.order(0)) == sorted(some)
    for told in (chosen.to_json(), chosen.for_workers()):
        assert told == {**told, **replace(spec, runs=7).for_workers()}
        assert Spec.from_json(json.loads(json.dumps(told))).cells() == spec.cells()


@pytest.mark.parametrize("suspected", [0, 1, 3])
def test_what_looks_slower_is_measured_again_and_nothing_else(monkeypatch, tmp_path, suspected):
    fakes = Fakes(tmp_path)
    monkeypatch.setattr(
        sweep, "WorkerProcess", lambda job, threads, python: WorkerProcess(job, threads, python or fakes.this)
    )
    spec = small()
    again = spec.cells()[:suspected]
    monkeypatch.setattr(slower, "suspects", lambda _: again)
    found = slower.measure(spec, fakes.other, tmp_path / "bench", 5, lambda _: None, lambda _: None)
    assert [one.cell for one in found.screened] == spec.cells()
    assert [one.cell for one in found.confirmed] == again
    assert {one.ratio.runs for one in found.confirmed} <= {5}
    assert (found.slower, found.failed, found.same_code) == ((), {}, False)
    sweeps = ["screened"] + ["confirmed"] * bool(suspected)
    assert sorted(path.name for path in (tmp_path / "bench").iterdir()) == sorted(sweeps)
    for name in sweeps:
        assert (tmp_path / "bench" / name / turns.AGAINST).is_dir()
        assert load(tmp_path / "bench" / name).header["spec"]["problems"] == list(spec.problems)
    table = slower.cells_table(found, "")
    assert [row[-1] for row in table.rows] == ["not beyond doubt"] * suspected + [""] * (len(table.rows) - suspected)
    assert [row[4] for row in slower.forms_table(found.screened).rows] == pytest.approx([1.0] * 4)


def test_a_slower_kernel_or_one_that_fails_is_exit_status_1(capsys):
    one = compared(np.log([[1.0] * 12, [1.1] * 12]))
    for slow, failed, status in (((), {}, 0), ((one,), {}, 1), ((), {one.cell: "out of memory"}, 1)):
        result = slower.Result((one,), (one,), slow, failed, same_code=False)
        assert show(result, "HEAD") == status
        assert f"{len(slow)} of 1 kernels are slower by more than 3%" in capsys.readouterr().err


def compared(times: np.ndarray, number: int = 0) -> Comparison:
    evidence = InTurns(times)
    ratio = Estimate(math.exp(evidence.value), None, None, evidence.runs, FEW_RUNS)
    return Comparison((SHAPES[0], "direct", "serial", number), ratio, "cannot tell", evidence)


def bench(random: np.random.Generator, more: np.ndarray) -> set[int]:
    """Which of as many cells as there are numbers in `more` are called slower; those take so much more.

    A cell's runs vary by 1 %, and a third of them are disturbed; code that is the same differs by 0.5 % between
    folders.
    """

    def measured(cells: np.ndarray, runs: int) -> list[Comparison]:
        shape = (len(cells), 2, runs)
        disturbed = np.where(random.random(shape) < 1 / 3, random.exponential(0.15, shape), 0)
        times = random.normal(0, 0.01, shape) + disturbed + np.cumsum(random.normal(0, 0.02, runs))
        times[:, 1] += more[cells, None]
        return [compared(each, number) for number, each in zip(cells, times, strict=True)]

    more = more + random.normal(0, 0.005, more.size)
    screened = measured(np.arange(more.size), slower.SCREENING_RUNS)
    again = np.array([cell[3] for cell in slower.suspects(screened)], int)
    assert len(again) <= slower.MOST_SUSPECTS
    confirmed = [
        replace(one, ratio=Estimate(one.ratio.value, *bounds, one.ratio.runs))
        for one in measured(again, slower.CONFIRMING_RUNS)
        if (bounds := np.exp(one.evidence.interval(0.05 / len(again)))) is not None
    ]
    return {one.cell[3] for one in slower.beyond_doubt(confirmed)}


@pytest.mark.parametrize("times", [20, pytest.param(60, marks=pytest.mark.long)])
def test_the_same_code_is_not_called_slower(times):
    random = np.random.default_rng(0)
    assert sum(bool(bench(random, np.zeros(80))) for _ in range(times)) <= times // 60


def test_one_kernel_that_takes_a_tenth_more_is_found_among_eighty():
    random = np.random.default_rng(0)
    more = np.zeros(80)
    more[17] = 0.1
    found = [bench(random, more) for _ in range(20)]
    assert sum(17 in one for one in found) >= 14
    assert not any(one - {17} for one in found)
