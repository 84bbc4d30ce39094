"""The examples, run as a user runs them, and their results."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from scipy import ndimage

LARGE = ROOT / "examples" / "larger_than_memory.py"
EXAMPLES = sorted({*(ROOT / "examples").glob("*.py")} - {LARGE})
SLOW = ("lenet5",)
EACH = [pytest.param(path, marks=[pytest.mark.long] if path.stem in SLOW else []) for path in EXAMPLES]


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"edges", "lenet5"}


@pytest.mark.parametrize("path", EACH, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.long
def test_what_is_larger_than_memory_is_right_where_it_is_small(tmp_path):
    done = subprocess.run(
        [sys.executable, LARGE, "1500", "3"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    image, square, batch, error = done.stdout.splitlines()
    assert image.startswith("1500 x 1500, ")
    assert batch.startswith("3 photographs, ")
    found, expected = (float(word.strip(",")) for word in square.split() if word[0].isdigit())
    assert found == pytest.approx(expected, rel=0.02)
    assert float(error.split()[-1]) < 1e-5


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.sh")), ids=lambda path: path.stem)
def test_a_job_script_is_read_by_the_shell_and_refuses_to_run_outside_of_a_job(path, tmp_path):
    subprocess.run(["bash", "-n", path], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run(["bash", path], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "not inside of a Slurm job" in done.stderr
    assert not list(tmp_path.iterdir())


def test_edges_are_those_of_another_library():
    picture = np.asarray(Image.open(ROOT / "images" / "photograph.png").convert("L"), np.float32)[:200, :300]
    found = runpy.run_path(str(ROOT / "examples" / "edges.py"))["edges"](picture)
    expected = np.hypot(*(ndimage.sobel(picture, axis, mode="nearest") for axis in (0, 1)))
    assert found == pytest.approx(expected, abs=1e-2)


@pytest.mark.long
def test_the_network_computes_what_its_layers_say():
    names = runpy.run_path(str(ROOT / "examples" / "lenet5.py"))
    network, x = names["LeNet5"](), np.random.default_rng(1).standard_normal((3, 1, 28, 28)).astype(np.float32)

    def layer(held, x, pad):
        w = held.weights
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[-2:], axis=(2, 3))
        bias = held.__getstate__()["bias"]
        return np.maximum(np.einsum("ncijab,kcab->nkij", windows, w) + bias[:, None, None], 0)

    hidden = names["pooled"](layer(network.c1, x, 2))
    hidden = names["pooled"](layer(network.c3, hidden, 0))
    hidden = layer(network.c5, hidden, 0)[:, :, 0, 0]
    expected = np.maximum(hidden @ network.f6.T, 0) @ network.output.T
    assert network(x) == pytest.approx(expected, abs=1e-4)
