"""A new form, executor or precision is one module and one line in its table; nothing else is touched.

The modules are those of docs/architecture.md, taken from its text.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, briefly

TEXT = (ROOT / "docs" / "architecture.md").read_text()
MODULES: Mapping[str, str] = dict(
    re.findall(r"The module, `(convbench/[\w/]+\.py)`[^\n]*\n\n```python\n(.*?)```", TEXT, re.DOTALL)
)
LINES: Mapping[str, list[str]] = {
    table: re.findall(rf"in `{table}`[^\n]*\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    for table in ("ALGORITHMS", "EXECUTORS", "PRECISIONS")
}
HOME = {
    "ALGORITHMS": "convbench/algorithms/__init__.py",
    "EXECUTORS": "convbench/executors/__init__.py",
    "PRECISIONS": "convbench/precision.py",
}
PROBLEM = ["--problem", "g2mb2ic4ih12iw20oc6kh3kw3ph1pw1", "--runs", "1"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests with the examples' files and lines."""
    root = tmp_path_factory.mktemp("extended")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("convbench", "tests", "images", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, code in MODULES.items():
        assert not (root / name).exists()
        (root / name).write_text(code)
    for table, lines in LINES.items():
        head, entry, tail = (root / HOME[table]).read_text().rpartition("        Entry(")
        first, end, rest = (entry + tail).partition("\n")
        (root / HOME[table]).write_text(head + first + end + "".join(lines) + rest)
    return root


def run(root: Path, *words: object) -> str:
    """Run a module of the copy."""
    env = briefly(root, PYTEST_ADDOPTS="")
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_text_has_a_module_and_a_line_for_each():
    assert set(MODULES) == {
        "convbench/algorithms/padded.py",
        "convbench/algorithms/halved.py",
        "convbench/executors/backwards.py",
    }
    assert {table: sum(line.count("Entry(") for line in lines) for table, lines in LINES.items()} == {
        "ALGORITHMS": 2,
        "EXECUTORS": 1,
        "PRECISIONS": 1,
    }


def test_they_are_among_the_choices(extended):
    told = " ".join(run(extended, "convbench", "sweep", "--help").split())
    assert "fft, padded, halved" in told
    assert "mpi, backwards" in told


@pytest.mark.long
def test_a_form_in_two_phases_is_under_contract(extended):
    chosen = "(padded or halved) and (column or everything)"
    words = ["-v", "-p", "no:cacheprovider", "tests/test_algorithms.py", "-k", chosen]
    done = run(extended, "pytest", *words)
    for executor in ("serial", "threads", "processes", "backwards"):
        assert f"padded-{executor}" in done


@pytest.mark.long
def test_an_executor_is_under_contract(extended):
    words = ["-v", "-p", "no:cacheprovider", "tests/test_algorithms.py", "-k", "backwards and direct and everything"]
    assert "direct-backwards" in run(extended, "pytest", *words)


def test_a_precision_is_taken_where_a_form_has_it(extended):
    code = """
import numpy as np, convbench
problem = convbench.Problem.parse("mb1ic1ih20iw30oc4kh3kw3")
x, w = (np.random.default_rng(0).standard_normal(s).astype("f") for s in (problem.input_shape, problem.weights_shape))
outs = []
for form, precision in (("direct", "exact"), ("halved", "half"), ("direct", "half")):
    with convbench.plan(problem, w, algorithm=form, arithmetic=precision) as plan:
        outs.append(plan(x).copy())
        print(plan.precision.name, end=" ")
print(1e-5 < abs(outs[1] - outs[0]).max() < 1e-2, abs(outs[2] - outs[0]).max() < 1e-5)
"""
    (extended / "asks.py").write_text(code)
    assert run(extended, "asks") == "exact half exact True True\n"


@pytest.mark.long
def test_they_are_measured_and_reported(extended, tmp_path):
    words = ["--executors", "serial,threads,processes,backwards", "--cores", "1,2", "--arithmetic", "half"]
    chosen = ["--algorithms", "padded,halved,direct", "--output", tmp_path / "sweep"]
    run(extended, "convbench", "sweep", *PROBLEM, *words, *chosen)
    run(extended, "convbench", "report", tmp_path / "sweep")
    report = (tmp_path / "sweep" / "report.md").read_text()
    for executor, cores in (("serial", 1), ("threads", 2), ("processes", 2), ("backwards", 1)):
        for form in ("padded", "halved"):
            assert f"| {form} | {executor} | {cores} |" in report


@pytest.mark.long
def test_the_examples_pass_the_checks(extended):
    names = sorted(MODULES)
    run(extended, "ruff", "check", *names)
    run(extended, "mypy", *names)
    (extended / "lint.py").write_text("import importlinter.cli as cli\ncli.lint_imports_command()\n")
    assert "0 broken" in run(extended, "lint")
