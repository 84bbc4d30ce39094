"""What the machine's limits are measured on: data as random as a convolution's, which is read back here."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from simulated import SMALL, Simulated, WorkerHere

from convbench.executors import EXECUTORS
from convbench.executors.memory import private_empty
from convbench.kernels.vector import instruction_set
from convbench.measure import peaks
from convbench.measure.peak_work import CHAINS, CHUNK, KINDS, ROUNDS, TRAFFIC, make_work
from convbench.measure.process import WorkerProcess
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.report import limits
from convbench.report.content import Material
from convbench.results.store import load

ROWS = 3
SHAPE = (1, 1, ROWS, CHUNK)


def random_enough(numbers: np.ndarray) -> bool:
    """Whether every 64 neighbours are finite, normal, of both signs, and nearly all different."""
    tiny = np.finfo(numbers.dtype).tiny
    lines = numbers.reshape(-1, 64)
    return bool(
        np.isfinite(lines).all()
        and (np.abs(lines) > tiny).all()
        and ((lines < 0).any(1) & (lines > 0).any(1)).all()
        and min(np.unique(line).size for line in lines) > 60
    )


def run(kind: str, dtype: str, units: int, x: np.ndarray, out: np.ndarray, cores: int = 1) -> None:
    peaks._opened(EXECUTORS["threads" if cores > 1 else "serial"], kind, dtype, units, cores, x, out)()


def test_what_is_read_and_copied_is_random():
    for buffer in peaks._buffers(SHAPE):
        assert buffer.shape == SHAPE
        assert buffer.dtype == np.float32
        assert random_enough(buffer)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("kind", ["write", "stream"])
def test_what_is_written_is_random(kind, cores):
    x, out = private_empty(SHAPE, "float32"), private_empty(SHAPE, "float32")
    x.fill(0)
    out.fill(np.nan)
    run(kind, "float32", ROWS, x, out, cores)
    assert random_enough(out)


def test_a_copy_is_one():
    x, out = peaks._buffers(SHAPE)
    out.fill(np.nan)
    run("copy", "float32", ROWS, x, out)
    np.testing.assert_array_equal(out, x)


def test_every_kind_of_traffic_is_among_them():
    assert set(TRAFFIC) == set(KINDS) - {"multiply_add"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_of_multiply_adds_stay_random_numbers_however_long_they_are(dtype):
    lanes = instruction_set().lanes(dtype)
    work = make_work("multiply_add", dtype, 2)
    small, scratch = private_empty((1, 1, 1, CHUNK), dtype), private_empty((CHUNK,), dtype)
    [phase] = work.phases
    tile, clock = phase.tile.load(dtype), np.zeros(8, np.int64)
    tile(small, work.weights, small, phase.parameters, scratch, scratch, clock, 0, 1)
    *begins, addend, factor = work.weights.reshape(-1, lanes).astype(np.float64)
    assert len(begins) == CHAINS
    assert (np.abs(factor) < 1).all()
    assert np.unique(work.weights).size == work.weights.size
    expected = np.array(begins)
    for _ in range(ROUNDS):
        expected = expected * factor + addend
    sums = scratch[: CHAINS * lanes].reshape(CHAINS, lanes).copy()
    np.testing.assert_allclose(sums, expected, rtol=0, atol=0.02 if dtype == "float32" else 1e-9)
    assert np.unique(sums).size == sums.size, "chains that end alike are operands that no longer change"
    assert (np.abs(sums) > 1e-6).all()
    assert (np.abs(sums) < 100).all()
    tile(small, work.weights, small, phase.parameters, scratch, scratch, clock, 1, 2)
    np.testing.assert_array_equal(scratch[: CHAINS * lanes].reshape(CHAINS, lanes), sums, "units are alike")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, simulated: Simulated) -> None:
    """Limits of the simulated machine, measured by this process in no time."""
    read = partial(simulated.machine.spend, 0.1)
    monkeypatch.setattr(peaks, "_buffers", lambda *_: [])
    monkeypatch.setattr(peaks, "_calls", lambda cores, _: {"read": (read, 1e9 * cores)})
    monkeypatch.setattr(peaks, "pin", lambda *_: None)

    def measured(_worker: type, counts: set[int], repetitions: int, _limit: float = 0.0) -> dict[str, object]:
        return peaks.measure_peaks(counts, repetitions)

    for worker in (WorkerProcess, WorkerHere):
        monkeypatch.setattr(worker, "peaks", classmethod(measured))


@pytest.mark.usefixtures("at_once")
def test_a_sweep_says_that_its_limits_are_of_random_numbers_and_so_does_its_report(tmp_path: Path):
    spec = make_spec([SMALL], algorithms=("naive",), executors=("simulated",), cores=(1,), runs=1)
    run_sweep(dataclasses.replace(spec, timing=Timing(peak_repetitions=2)), tmp_path)
    sweep = load(tmp_path)
    found = sweep.header["machine"]["peaks"]
    assert found["data"] == "random"
    assert found["cores"] == {"1": {"read": pytest.approx([1e10] * 2)}, "8": {"read": pytest.approx([8e10] * 2)}}
    [text] = limits.section(Material(sweep, sweep.header["spec"])).text
    assert limits.RANDOM in text


@pytest.mark.usefixtures("at_once")
def test_the_machine_says_that_its_limits_are_of_random_numbers(in_process):
    status, out, _ = in_process("machine", "--json")
    assert status == 0
    assert json.loads(out)["peaks"]["data"] == "random"
