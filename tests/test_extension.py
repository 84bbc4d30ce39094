"""A new algorithm is one module and one line; nothing else is touched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, briefly

TOY = '''
"""A toy: the naive tile under another name."""

from convbench.algorithms import Algorithm, Implementation, forward_only
from convbench.algorithms.naive import prepare

TOY = Algorithm(supports=forward_only, implementations=(Implementation("numba", prepare),))
'''
LINE = '        Entry("toy", "convbench.algorithms.toy:TOY", "a toy"),\n'


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests with one file and one line more."""
    root = tmp_path_factory.mktemp("extended")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("convbench", "tests", "images"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "convbench" / "algorithms" / "toy.py").write_text(TOY)
    table = root / "convbench" / "algorithms" / "__init__.py"
    head, naive, tail = table.read_text().partition('        Entry("naive"')
    table.write_text(head + LINE + naive + tail)
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


def test_it_is_among_the_choices(extended):
    assert "From toy, naive, direct" in run(extended, "convbench", "sweep", "--help")


def test_it_is_under_contract(extended):
    done = run(extended, "pytest", "-v", "-p", "no:cacheprovider", "tests/test_algorithms.py", "-k", "toy and column")
    assert "toy-serial" in done
    assert "toy-processes" in done


@pytest.mark.long
def test_it_is_measured_and_reported(extended, tmp_path):
    words = [
        "--problem",
        "mb1ic1ih12oc4kh3",
        "--executors",
        "serial,threads,processes",
        "--cores",
        "1,2",
        "--runs",
        "1",
    ]
    run(extended, "convbench", "sweep", *words, "--algorithms", "toy,direct", "--output", tmp_path / "sweep")
    run(extended, "convbench", "report", tmp_path / "sweep")
    report = (tmp_path / "sweep" / "report.md").read_text()
    for executor, cores in (("serial", 1), ("threads", 2), ("processes", 2)):
        assert f"| toy | {executor} | {cores} |" in report
