"""The command line: what it offers, how fast it starts, and how it says that a request is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import DEADLINE, ROOT, briefly, command
from PIL import Image
from test_images import damaged


def assert_refused(done: subprocess.CompletedProcess[str], *words: object) -> None:
    """Exit status 2 and one line on standard error that has the words."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"convbench: error: .+\n", done.stderr), done.stderr
    for word in words:
        assert str(word) in done.stderr


def test_help_lists_the_commands_and_nothing_that_is_not_there(convbench):
    done = convbench("--help")
    assert done.returncode == 0
    names = ["choose", "compare", "evaluate", "export", "machine", "networks", "report", "sweep", "tune", "versus"]
    assert re.findall(r"^  (\w+) ", done.stdout.partition("Commands:")[2], re.MULTILINE) == names
    for name in names:
        assert convbench(name, "--help").returncode == 0


def loaded(code: str) -> set[str]:
    """The modules that some code loads in a fresh process, beside those that every Python has."""
    watch = f"import runpy, sys\nbefore = set(sys.modules)\ntry:\n    {code}\n"
    watch += "finally:\n    print('loaded:', *set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True, timeout=DEADLINE)
    return set(done.stdout.rpartition("loaded: ")[2].split())


def test_importing_convbench_loads_nothing_else():
    assert loaded("import convbench") == {"convbench", "convbench.runtime", "convbench.runtime.starting"}


def test_help_loads_little():
    """Starting is a matter of milliseconds: of what is loaded there are few, and nothing that takes long."""
    found = loaded("sys.argv[1:] = ['--help']; runpy.run_module('convbench', run_name='__main__')")
    ours = {name for name in found if name.startswith("convbench")}
    tables = {"convbench.algorithms", "convbench.executors", "convbench.peers", "convbench.registry"}
    few = {"arguments", "epilogue", "errors", "integers", "precision", "runtime", "runtime.loading"}
    few |= {"runtime.ranks", "runtime.starting", "shape"}
    few |= {"cli", "cli.measuring", "cli.networks", "cli.options", "cli.reading", "cli.selecting"}
    few |= {"request", "request.field", "request.forms"}
    assert ours == {"convbench", *(f"convbench.{name}" for name in few), *tables}
    others = {name.partition(".")[0] for name in found - ours} - sys.stdlib_module_names
    assert others == {"click"}
    assert len(found) <= 150, "with those of Python's and click's own"


@pytest.mark.parametrize("words", ["does not exist", "not a picture", "truncated", "2500000000 pixels"])
def test_a_bad_image_is_refused(convbench, tmp_path, words):
    path = damaged(tmp_path)[words]
    assert_refused(convbench("sweep", "--image", path, "--output", tmp_path / "out"), path, words)
    assert not (tmp_path / "out").exists()


def test_an_image_smaller_than_the_kernels_is_refused(convbench, tmp_path):
    Image.new("L", (20, 7)).save(tmp_path / "small.png")
    done = convbench("sweep", "--image", tmp_path / "small.png", "--output", tmp_path / "out")
    assert_refused(done, "20 x 7", "11 x 11", "larger image")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("bank", "words"),
    [
        (np.zeros((3, 3)), "(3, 3)"),
        (np.full((1, 3, 3), np.nan), "NaN"),
        (np.zeros((0, 3, 3)), "empty"),
        (np.array([{}], dtype=object), "allow_pickle=False"),
    ],
)
def test_bad_kernels_are_refused(convbench, tmp_path, bank, words):
    np.save(tmp_path / "bank.npy", bank, allow_pickle=True)
    assert_refused(
        convbench("sweep", "--kernels", tmp_path / "bank.npy", "--output", tmp_path / "out"), "bank.npy", words
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--cores", "0", ["cores=0", "from 1 up"]),
        ("--cores", "two", ["'two'", "whole numbers from 1 up"]),
        ("--cores", "1,1", ["1,1", "once"]),
        ("--cores", "", ["cores=''"]),
        ("--cores", "4096", ["cores=4096", "at most"]),
        ("--cores", "1,2,", ["cores=''"]),
        ("--cores", "9" * 30, ["9" * 30, "whole numbers from 1 up"]),
        ("--runs", "1000000000", ["runs=1000000000", "from 1 to 10000"]),
        ("--seed", "-1", ["seed=-1", "from 0 up"]),
        ("--time-limit", "-1", ["time-limit=-1", "from 0 up"]),
        ("--time-limit", "nan", ["time-limit=nan"]),
        ("--precision", "nan", ["precision=nan", "0.01"]),
        ("--precision", "", ["precision=''"]),
        ("--precision", "-1%", ["precision='-1%'"]),
        ("--image", "", ["image=''"]),
        ("--kernels", "", ["kernels=''"]),
        ("--algorithms", "", ["unknown algorithm ''"]),
        ("--executors", "serial,,threads", ["unknown executor ''"]),
        ("--peers", "", ["unknown peer ''", "torch"]),
        ("--problem", "", ["problem ''"]),
        ("--problem", "ic3ih" + "9" * 5000 + "oc2kh3", ["cannot read problem"]),
        ("--scaling", "", ["scaling=''", "strong, weak"]),
        ("--cache", "warm", ["cache='warm'", "hot, cold"]),
        ("--runs", "0", ["runs=0", "from 1 to 10000"]),
        ("--runs", "many", ["'many'", "integer"]),
        ("--algorithms", "indirect", ["'indirect'", "naive, direct, unrolled, winograd"]),
        ("--algorithms", "direct,direct", ["direct,direct", "once"]),
        ("--executors", "gpus", ["'gpus'", "serial, threads, processes, gpu"]),
        ("--problem", "ic3", ["'ic3'", "ih"]),
        ("--problem", "mb9999ic512ih512oc512kh3", ["GiB are free", "smaller"]),
        ("--kernels", "sobel", ["'sobel'", "gabor, random"]),
        ("--speed", "high", ["--speed", "convbench sweep --help"]),
    ],
)
def test_a_bad_option_is_refused(convbench, tmp_path, option, value, words):
    assert_refused(convbench("sweep", option, value, "--output", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused(convbench, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "below", "/proc/convbench"):
        assert_refused(convbench("sweep", "--output", output), output, "--output")


def test_an_output_that_holds_another_sweep_is_refused(convbench, tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    assert_refused(convbench("sweep", "--output", tmp_path), tmp_path, "another sweep", "--resume")
    assert (tmp_path / "results.jsonl").read_text() == ""


def test_a_report_on_nothing_is_refused(convbench, tmp_path):
    assert_refused(convbench("report", tmp_path), tmp_path, "holds no sweep")
    assert_refused(convbench("report"), "reports/ holds no sweep", "run convbench sweep first")
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sweep", "--output", ""], "output=''"),
        (["sweep", "--output", "", "--resume"], "output=''"),
        (["report", ""], "directory=''"),
        (["report", "--output", ""], "output=''"),
        (["compare", "", ""], "before=''"),
        (["compare", "a", "b", "--fail-above", "nan"], "fail_above=nan"),
        (["compare", "a", "b", "--fail-above", "-5"], "fail_above=-5"),
        (["export", "", "--format", "csv"], "directory=''"),
        (["versus", "--runs", "0"], "runs=0"),
        (["versus", "--cores", "4096"], "cores=4096"),
        (["versus", "--output", ""], "output=''"),
    ],
)
def test_what_makes_no_sense_is_refused_by_every_command(convbench, tmp_path, words, named):
    assert_refused(convbench(*words), named)
    assert not list((tmp_path / "here").iterdir())


def test_output_that_nobody_reads_to_the_end_is_no_traceback():
    words = f"{' '.join(command(['sweep', '--help']))} | true"
    done = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert done.stderr == ""


def test_an_unknown_command_or_format_is_refused(convbench, tmp_path):
    assert_refused(convbench("swep"), "swep", "convbench --help")
    (tmp_path / "sweep.json").write_text('{"schema": 1, "spec": {}}')
    assert_refused(convbench("export", tmp_path, "--format", "xml"), "'xml'", "csv, json, pyperf")


def test_the_machine_describes_itself(convbench):
    found = json.loads(convbench("machine", "--json", env=briefly()).stdout)
    assert found["usable_cores"] >= 1
    assert found["vector"]["bits"] >= 128
    assert {pool["internal_api"] for pool in found["blas"]}
    assert found["versions"]["convbench"]
    shown = convbench("machine", env=briefly(COLUMNS="80"))
    assert found["cpu"].split()[0] in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_makefile_help_names_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE)
    for target in ("install", "test", "check", "sweep", "report", "versus", "bench", "gpu-check", "clean"):
        assert re.search(rf"^  {target} +\w", done.stdout, re.MULTILINE), target


@pytest.mark.parametrize(("target", "words"), [("versus", "convbench versus"), ("report", "convbench report")])
def test_the_makefile_calls_what_it_should(target, words):
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert words in done.stdout
    assert "torch" not in done.stdout
    with_torch = subprocess.run(
        ["make", "-n", "versus", "TORCH=1"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "'.[dev,torch]'" in with_torch.stdout


def test_convbench_is_also_a_module():
    assert subprocess.run(
        command(["--version"]), capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout.startswith("convbench")
