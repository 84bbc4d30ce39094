"""Nothing is run that was not asked for: modules in the current folder, or beside the package, stay what they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT, briefly

from convbench.errors import UnavailableError
from convbench.runtime import interpreter

NAMES = ("random", "queue", "numba", "secrets", "json", "click", "numpy", "sitecustomize", "usercustomize", "tempfile")
SWEEP = ["--problem", "mb1ic1ih12iw12oc4kh3kw3", "--algorithms", "naive", "--cores", "1", "--runs", "1"]
SCRIPT = """
import numpy as np
import convbench

problem = convbench.Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3)
with convbench.plan(problem, np.ones((2, 3, 3)), algorithm="naive", executor="processes", cores=2) as bound:
    print(bound(np.ones((9, 9))).sum())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which files have the names of modules; each leaves a mark when it is run."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in NAMES:
        mark = folder / f"{name} was run"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise ImportError('of the folder')\n")
    return folder


def run(folder: Path, *words: object, **variables: str) -> str:
    """Run a program there; nothing of the folder's may be run with it."""
    done = subprocess.run(
        list(map(str, words)),
        cwd=folder,
        env=briefly(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert not [mark.name for mark in folder.glob("* was run")], done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_modules_in_the_current_folder_are_not_run(folder, tmp_path):
    """By the console script, nor by the module."""
    script = tmp_path / "convbench"  # in a folder of programs, as pip writes it
    script.write_text("import sys\nfrom convbench.cli import main\nsys.exit(main())\n")
    run(folder, sys.executable, script, "sweep", *SWEEP, "--executors", "processes", "--output", folder / "sweep")
    run(folder, sys.executable, "-m", "convbench", "report", folder / "sweep")
    assert "usable_cores" in run(folder, sys.executable, script, "machine", "--json")
    assert "sweep" in run(folder, sys.executable, "-m", "convbench", "--help")


def test_a_scripts_workers_run_nothing_of_the_current_folder(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run(folder, sys.executable, script) == "882.0\n"


def test_an_empty_place_in_the_path_is_not_passed_on_to_workers(folder, tmp_path):
    """The calling program looks into the current folder if its user says so; what is in there is not for workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for name in NAMES:
        (folder / f"{name}.py").unlink()
    mark = "import sys\nif '-c' in sys.orig_argv: open('sitecustomize was run', 'w')\n"
    (folder / "sitecustomize.py").write_text(mark)
    path = os.pathsep.join(["", ".", str(ROOT / "tests" / "brief")])
    assert run(folder, sys.executable, script, PYTHONPATH=path) == "882.0\n"


def test_only_absolute_paths_are_passed_on(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/one", ".", "vendor", "/two"]))
    assert interpreter.environment({"OMP_NUM_THREADS": "1"}) == {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["/one", "/two"]),
        "OMP_NUM_THREADS": "1",
    }
    for nothing_left in ("", ".", os.pathsep):
        monkeypatch.setenv("PYTHONPATH", nothing_left)
        assert "PYTHONPATH" not in interpreter.environment()


PROBE = """
import json, random, sys
import convbench
print(json.dumps({"package": convbench.__file__, "path": sys.path, "arguments": sys.argv[1:], "random": random.__file__,
                  "name": __name__, "options": [sys.flags.no_user_site, sys.flags.isolated, sys.flags.safe_path]}))
"""
START = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from convbench.runtime import interpreter
words = interpreter.command("convbench.probe", "one", "two")
print(subprocess.run(words, env=interpreter.environment(), capture_output=True, check=True, text=True).stdout)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A part of the package where nothing is installed, with a neighbour called as a module of Python's."""
    parent = tmp_path / "by hand"
    (parent / "convbench" / "runtime").mkdir(parents=True)
    for name in ("__init__", "runtime/__init__", "runtime/starting", "runtime/interpreter", "errors"):
        shutil.copy(ROOT / "convbench" / f"{name}.py", parent / "convbench" / f"{name}.py")
    (parent / "convbench" / "probe.py").write_text(PROBE)
    (parent / "random.py").write_text("raise AssertionError('the neighbour was run')\n")
    return parent


def probe(copy: Path, *options: str, cwd: Path, place: Path | None = None) -> dict:
    start = cwd / "start.py"
    start.write_text(START)
    words = [sys.executable, *options, str(start), str(place or copy)]
    return json.loads(
        subprocess.run(words, cwd=cwd, capture_output=True, check=True, text=True, timeout=DEADLINE).stdout
    )


def test_workers_run_the_package_that_the_caller_runs_and_nothing_beside_it(copy, tmp_path):
    found = probe(copy, cwd=tmp_path)
    assert Path(found["package"]).parents[1] == copy
    assert Path(found["random"]).parent != copy
    assert found["path"][-1] == str(copy)
    assert not {"", str(tmp_path)} & set(found["path"])
    assert (found["name"], found["arguments"]) == ("__main__", ["one", "two"])


def test_the_package_in_the_current_folder_brings_no_neighbours(copy):
    found = probe(copy, cwd=copy)
    assert Path(found["package"]).parents[1] == copy
    assert str(copy) not in found["path"]


def test_the_package_may_lie_in_an_archive(copy, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", copy)
    assert probe(copy, cwd=tmp_path, place=Path(archive))["package"].startswith(archive)


@pytest.mark.parametrize(("options", "flags"), [([], [0, 0, True]), (["-s"], [1, 0, True]), (["-I"], [1, 1, True])])
def test_the_interpreters_options_are_passed_on(copy, tmp_path, options, flags):
    assert probe(copy, *options, cwd=tmp_path)["options"] == flags


def test_an_interpreter_that_is_not_known_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(UnavailableError, match=r"sys\.executable is empty"):
        interpreter.command("convbench.measure.worker")


def test_a_folder_that_was_removed_keeps_nobody_from_working(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"cd {gone} && rmdir {gone} && {sys.executable} -m convbench --version"
    done = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert done.stdout.startswith("convbench, version"), done.stderr
