"""The card: what it says of itself, what it tells while it computes, and what it can do at most; all without one."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import on_the_host as host
import pytest
from conftest import DEADLINE, FAKE_GPU, command, with_fake_gpu
from test_cuda import CAPABILITIES, compile_for, needs_the_host
from test_gpu import PROBLEM, on_the_host
from test_store import HEADER, RECORD

from convbench.analysis.differences import differences
from convbench.analysis.gpu import GpuTelemetry, facts
from convbench.analysis.limits import Limits
from convbench.cuda.launch import Launch
from convbench.executors import EXECUTORS
from convbench.machine import gpu as card
from convbench.measure import gpu_peaks
from convbench.measure.flags import lowered_clocks
from convbench.measure.gpu_peaks import BURST, CHAINS, ROUNDS, THREADS, launch, measure_gpu_peaks, weights
from convbench.measure.process import WorkerProcess
from convbench.report.gpu_facts import described, telemetry_table
from convbench.report.write import write_report
from convbench.results.export import COLUMNS, rows
from convbench.results.record import Record
from convbench.results.store import Sweep, load

TOLD = {"sm_mhz": 1980, "memory_mhz": 3201, "celsius": 51, "watts": 412.5, "reasons": ["idle", "power cap"]}
KERNELS = ("multiply_add", "read_memory", "write_memory", "copy_memory", "read_shared", "fill_memory")
TILES = 5


@pytest.fixture
def fakes(monkeypatch):
    """CuPy and NVML that run on the host; returns NVML's."""
    monkeypatch.syspath_prepend(str(FAKE_GPU))
    for name in ("cupy", "pynvml"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    card.nvml.cache_clear()
    import pynvml

    yield pynvml
    card.nvml.cache_clear()
    for name in ("cupy", "pynvml"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("fakes")
def test_a_card_is_described_by_cupy_and_nvml():
    found = card.describe()
    assert (found["name"], found["compute_capability"], found["multiprocessors"]) == ("a GPU on the host", "9.0", 1)
    assert (found["cuda_driver"], found["cuda_runtime"], found["driver"]) == ("13.0", "12.9", "580.95.05")
    assert (found["max_sm_mhz"], found["power_limit_watts"]) == (1980, 700.0)
    assert not any("uuid" in name.lower() for name in found)


@pytest.mark.usefixtures("fakes")
def test_without_nvml_the_rest_is_described(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = card.describe()
    assert found["memory_bytes"] == 2**30
    assert "driver" not in found
    assert card.nvml() is None


def test_an_nvml_that_cannot_start_is_as_none(fakes, monkeypatch):
    def fail() -> None:
        raise fakes.NVMLError("Library Not Found")

    monkeypatch.setattr(fakes, "nvmlInit", fail)
    assert card.nvml() is None


def test_without_cupy_there_is_no_card(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert card.describe() is None


@pytest.mark.usefixtures("fakes")
def test_what_a_card_does_not_tell_is_left_out():
    seen = card.nvml()
    levels = seen.levels()
    assert "memory_mhz" not in levels
    assert levels["reasons"] == ["idle", "power cap"]
    assert levels["watts"] == 412.5
    counts = seen.counts()
    assert counts.keys() == {"energy_joules", "power_capped_seconds"}
    assert seen.counts()["energy_joules"] - counts["energy_joules"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("reasons", "counted", "flags"),
    [
        ([], {}, set()),
        (["idle", "clocks set by hand", "display clocks"], {}, set()),
        (["power cap"], {}, {"power_capped"}),
        (["hardware slowdown"], {}, {"throttled"}),
        (["heat, by the driver"], {}, {"throttled"}),
        (["heat, by the hardware", "power cap"], {}, {"throttled", "power_capped"}),
        (["power brake"], {}, {"throttled"}),
        ([], {"heat_seconds": 0.02}, {"throttled"}),
        ([], {"power_capped_seconds": 0.02, "heat_seconds": 0.001}, {"power_capped"}),
    ],
)
def test_lowered_clocks_are_flagged_by_their_reason(reasons, counted, flags):
    assert set(lowered_clocks({"elapsed_seconds": 1.0, **counted}, [{}, {"reasons": reasons}])) == flags


def test_every_reason_of_nvml_has_a_name():
    assert list(card.REASONS) == [1 << bit for bit in range(9)]
    assert {*card.REASONS.values()} > card.SLOWED | card.CAPPED


def test_a_record_keeps_what_the_card_told_and_older_ones_have_nothing():
    record = dataclasses.replace(RECORD, device=tuple(TOLD for _ in RECORD.samples))
    assert Record.from_json(record.to_json()) == record
    older = json.loads(record.to_json())
    del older["device"]
    assert Record.from_json(json.dumps(older)).device == ()


def test_an_export_has_what_the_card_told(tmp_path):
    record = dataclasses.replace(RECORD, device=(TOLD,))
    first, *others = rows(Sweep(tmp_path, HEADER, (record,), ()))
    assert dict(zip(COLUMNS, first, strict=True))["clock_reasons"] == "idle; power cap"
    assert dict(zip(COLUMNS, first, strict=True))["sm_mhz"] == 1980
    for row in others:
        assert row[COLUMNS.index("sm_mhz") : COLUMNS.index("clock_reasons") + 1] == (None,) * 5


def test_what_the_card_told_is_summed_up():
    counters = {"elapsed_seconds": 2.0, "energy_joules": 900.0, "power_capped_seconds": 0.5}
    cooler = {"sm_mhz": 1965, "celsius": 49, "reasons": ["idle"]}
    told = GpuTelemetry.of([dataclasses.replace(RECORD, counters=counters, device=(TOLD, cooler))])
    assert (told.samples, told.sm_mhz, told.memory_mhz, told.celsius) == (2, (1965, 1980), (3201, 3201), 51)
    assert (told.watts, told.capped, told.heated) == (450.0, 0.25, None)
    assert told.reasons == {"power cap": 1}
    [row] = telemetry_table([dataclasses.replace(RECORD, counters=counters, device=(TOLD, cooler)), RECORD]).rows
    assert row[3:5] == ["1965 to 1980", "3201"]
    assert row[-1] == "power cap (after 1 of 2 samples), power (25.0% of the time)"


def test_energy_that_is_not_counted_leaves_the_power_that_was_read():
    assert GpuTelemetry.of([dataclasses.replace(RECORD, counters={}, device=(TOLD, {}))]).watts == 412.5
    silent = GpuTelemetry.of([RECORD])
    assert (silent.samples, silent.watts, silent.sm_mhz, silent.reasons) == (0, None, None, {})


@pytest.mark.parametrize(("gpu", "line"), [("NVIDIA T4", "NVIDIA T4"), (None, ""), ({"name": "H200"}, "H200")])
def test_older_sweeps_knew_a_name_alone(gpu, line):
    assert described({"gpu": gpu}) == [("GPU", line)]
    assert facts({"gpu": gpu}).get("name", "") == line


def test_a_comparison_names_what_differs_of_the_cards():
    old, new = ({"machine": {"gpu": {"name": "H200", "driver": driver, "cupy": "13"}}} for driver in ("570", "580"))
    assert differences(old, new) == ["gpu driver: 570 -> 580"]
    assert differences({"machine": {"gpu": "H200"}}, new) == []
    assert differences({"machine": {"gpu": "T4"}}, new) == ["gpu name: T4 -> H200"]
    assert differences({"machine": {"gpu": None}}, new) == ["gpu name: none -> H200"]


def small(kernel: str) -> Launch:
    """A kernel with little to do: 16 blocks, few rounds, a buffer of five tiles."""
    work = launch(kernel, 1, tiles=TILES)
    return dataclasses.replace(
        work, macros=tuple((name, 3 if "ROUNDS" in name else value) for name, value in work.macros)
    )


@pytest.mark.parametrize(
    "card", [CAPABILITIES[0], *(pytest.param(card, marks=pytest.mark.long) for card in CAPABILITIES[1:])]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sources_compile_for_every_card(dtype, card):
    compile_for(card, launch("multiply_add", 132, tiles=2**17), dtype)


@needs_the_host()
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_timed_is_done(kernel, dtype, tmp_path):
    work = small(kernel)
    program = host.program(work.code, work.name, work.options(dtype), work.blocks, work.threads)
    threads, lanes = work.blocks * THREADS, 16 // np.dtype(dtype).itemsize
    numbers = TILES * THREADS * BURST * lanes
    arrays = {
        "x": np.random.default_rng(0).integers(-8, 8, numbers).astype(dtype),  # so that sums are exact
        "weights": np.random.default_rng(1).integers(-8, 8, (CHAINS + 2) * THREADS).astype(dtype),
        "out": np.full(max(threads, numbers), np.nan, dtype),
        "scratch": np.zeros(1, dtype),
    }
    for name, array in arrays.items():
        array.tofile(tmp_path / name)
    subprocess.run([program, *(tmp_path / name for name in arrays)], check=True)
    out = np.fromfile(tmp_path / "out", dtype)
    rows = arrays["weights"].reshape(-1, THREADS)
    if kernel == "fill_memory":
        assert np.unique(out[:numbers]).size > 0.99 * numbers
        assert np.abs(out[:numbers]).max() <= 1
        assert abs(out[:numbers].mean()) < 0.02
        expected = out[:numbers]
    elif kernel == "multiply_add":
        chains = rows[:CHAINS]
        for _ in range(3):
            chains = chains * rows[CHAINS + 1] + rows[CHAINS]
        expected = np.tile(chains.sum(0), work.blocks)
    elif kernel == "read_memory":
        assert out[:threads].sum() == arrays["x"].sum()
        tiles = arrays["x"].reshape(TILES, BURST, THREADS, lanes)
        expected = np.zeros((work.blocks, THREADS))
        expected[:TILES] = tiles.sum((1, 3))
    elif kernel == "read_shared":
        memory = np.resize(rows[:CHAINS], (THREADS + 64 + 32 * BURST, lanes)).sum(1)
        reads = np.arange(THREADS)[:, None, None] + np.arange(3)[:, None] + 32 * np.arange(BURST)
        expected = np.tile(memory[reads].sum((1, 2)), work.blocks)
    elif kernel == "copy_memory":
        expected = arrays["x"]
    else:
        expected = np.tile(rows[:lanes].T, (TILES * BURST, 1))
    np.testing.assert_array_equal(out[: expected.size], expected.ravel())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_of_a_card_stay_random_numbers_however_long_they_are(dtype):
    rows = weights(dtype).reshape(CHAINS + 2, THREADS)
    sums, addend, factor = rows[:CHAINS], rows[CHAINS], rows[CHAINS + 1]
    assert (np.abs(factor) < 1).all()
    for _ in range(ROUNDS):
        sums = factor * sums + addend
    assert np.unique(sums).size > 0.99 * sums.size
    assert (np.abs(sums) > 1e-6).all()
    assert (np.abs(sums) < 100).all()


@on_the_host
@pytest.mark.usefixtures("fakes")
def test_what_a_card_reads_and_writes_is_random(monkeypatch):
    gpu, held = EXECUTORS["gpu"], []

    def empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        held.append(gpu.module().empty(shape, dtype))
        held[-1].view(np.ndarray).fill(0)
        return held[-1]

    monkeypatch.setattr(gpu, "empty", empty, raising=False)
    size = 4 * gpu_peaks.TILE_BYTES
    calls = gpu_peaks._traffic(gpu, size)
    source, target, *_ = (array.view(np.ndarray) for array in held)
    for buffer in (source, target):
        assert buffer.nbytes == size
        assert np.unique(buffer).size > 0.99 * buffer.size
    target.fill(0)
    calls["write"][0]()
    assert min(np.unique(line).size for line in target.reshape(-1, 64)) > 60
    calls["copy"][0]()
    np.testing.assert_array_equal(target, source)


class Broken:
    """A device that has too little memory, or fails in the middle."""

    def __init__(self, free: int, fail: str = "") -> None:
        self._free, self._fail = free, fail

    def available(self) -> None:
        return None

    def module(self) -> SimpleNamespace:
        runtime = SimpleNamespace(memGetInfo=lambda: (self._free, 2 * self._free))
        return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if self._fail == "memory":
            raise type("OutOfMemoryError", (MemoryError,), {})("Out of memory\nallocating 4 bytes")
        return np.empty(min(shape[0], 8), dtype)

    def open(self, _work: object, _cores: int) -> object:
        return lambda _x, _out: None

    def seconds(self, _call: object, _loops: int) -> float:
        if self._fail == "launch":
            raise RuntimeError("an illegal instruction was encountered")
        return 0.01


@pytest.mark.parametrize(
    ("broken", "measured", "reason"),
    [
        (Broken(2**34), {"multiply_add_float32", "multiply_add_float64", "shared", "read", "write", "copy"}, None),
        (Broken(2**17), {"multiply_add_float32", "multiply_add_float64", "shared"}, "out of device memory: only 0 MiB"),
        (Broken(2**34, "memory"), set(), "out of device memory: Out of memory allocating 4 bytes"),
        (Broken(2**34, "launch"), set(), "RuntimeError: an illegal instruction"),
    ],
)
def test_what_cannot_be_measured_says_why_and_the_rest_goes_on(monkeypatch, broken, measured, reason):
    monkeypatch.setattr(gpu_peaks, "gpu_executor", lambda _: broken)
    found = measure_gpu_peaks(3)
    assert set(found["rates"]) == measured
    assert all(len(rates) == 3 for rates in found["rates"].values())
    assert found.get("reason", "").startswith(reason or "")
    assert ("reason" in found) == (reason is not None)
    assert "; " not in found.get("reason", ""), "the same reason is said once"


def test_without_a_card_nothing_is_there():
    if EXECUTORS["gpu"].available() is None:
        pytest.skip("there is a GPU")
    assert "device" not in WorkerProcess.peaks([1], 1)
    assert Limits.of_gpu({"peaks": {"cores": {"1": {"read": [1e9]}}}}).rates == {}


def test_the_cards_peak_is_what_its_cells_are_measured_against():
    limits = Limits.of_gpu({"peaks": {"device": {"rates": {"multiply_add_float32": [5e13, 6e13], "read": [4e12]}}}})
    assert limits.share_of_peak("float32", 3e13, 1) == 0.5
    assert limits.share_of_peak("float64", 3e13, 1) is None
    assert limits.roof(10, "float32", 1) == 4e13


@pytest.mark.long
@on_the_host
def test_a_sweep_records_the_card_and_what_it_told(tmp_path):
    words = ["--problem", PROBLEM, "--algorithms", "direct", "--executors", "serial,gpu", "--runs", "1"]
    done = with_fake_gpu("-m", "convbench", "sweep", *words, "--output", tmp_path, BRIEF_PEAKS="1")
    assert done.returncode == 0, done.stderr
    sweep = load(tmp_path)
    assert sweep.header["machine"]["gpu"]["name"] == "a GPU on the host"
    peaks = sweep.header["machine"]["peaks"]["device"]
    assert set(peaks["rates"]) >= {"multiply_add_float32", "multiply_add_float64", "read", "write", "copy"}
    assert "reason" not in peaks
    for record in sweep.records:
        if record.executor == "gpu":
            assert len(record.device) == len(record.samples)
            assert "power_capped" in record.flags
            assert "throttled" not in record.flags
            assert {"power_capped"} <= set(record.sample_flags[0])
            assert record.counters["energy_joules"] == pytest.approx(2 * len(record.samples))
        else:
            assert record.device == ()
            assert "energy_joules" not in record.counters
    write_report(sweep, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "of the GPU's peak" in report
    assert "What the GPU can do at most" in report
    assert "half-full ones a GPU" in report
    assert "The GPU right after samples" in report
    assert "power cap (after" in report
    assert "compute capability 9.0" in report


@pytest.mark.long
@on_the_host
def test_the_machine_shows_its_card_and_what_it_can_do():
    done = with_fake_gpu("-m", "convbench", "machine", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["gpu"]["driver"] == "580.95.05"
    assert len(found["peaks"]["device"]["rates"]["read"]) == 1


@pytest.mark.gpu
@pytest.mark.skipif(EXECUTORS["gpu"].available() is not None, reason=str(EXECUTORS["gpu"].available()))
def test_a_card_is_described_and_measured_on_a_gpu():
    done = subprocess.run(command(["machine", "--json"]), capture_output=True, text=True, check=True, timeout=DEADLINE)
    found = json.loads(done.stdout)
    gpu, peaks = found["gpu"], found["peaks"]["device"]
    assert "reason" not in peaks
    limits = Limits.of_gpu(found)
    for kind in ("multiply_add_float32", "read", "write", "copy", "shared"):
        assert limits.best(kind, 1) > 1e10
    if "max_sm_mhz" in gpu:  # 64 or 128 multiply-adds a cycle and multiprocessor
        cycles = 1e6 * gpu["max_sm_mhz"] * gpu["multiprocessors"]
        assert 32 < limits.best("multiply_add_float32", 1) / (2 * cycles) < 130
        assert limits.best("shared", 1) / cycles < 130  # bytes
    assert card.nvml() is None or card.nvml().levels()
