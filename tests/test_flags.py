"""What was read back is compared with what the cell asked for, and only pools that compute count."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from convbench import machine
from convbench.analysis.drift import drifted
from convbench.analysis.interference import raised
from convbench.measure import cell as module
from convbench.measure.affinity import library_threads
from convbench.measure.cell import Laboratory
from convbench.measure.flags import disturbances, not_as_asked
from convbench.measure.instruments import host
from convbench.measure.spec import Timing, make_spec
from convbench.results.record import Record

SITE = "/home/somebody/torch-tests/.venv/lib/python3.11/site-packages"
GOMP = {"user_api": "openmp", "filepath": "/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0", "num_threads": 64}
TORCH = {"user_api": "openmp", "filepath": f"{SITE}/torch/lib/libgomp-a34b3233.so.1", "num_threads": 3}
BLAS = {"user_api": "blas", "filepath": f"{SITE}/scipy.libs/libscipy_openblas-6cdc3b4a.so", "num_threads": 8}
WORKER = {"affinity": [0, 2], "threads": 2, "blas_threads": 1, "library_threads": None}


@pytest.mark.parametrize(
    ("read", "unpinned", "differ"),
    [
        ({}, False, False),
        ({"affinity": None}, False, False),
        ({"affinity": [0, 1, 2]}, True, False),
        ({"affinity": [0]}, True, False),
        ({"affinity": []}, True, False),
        ({"threads": None, "blas_threads": None}, False, False),
        ({"threads": 1}, False, True),
        ({"blas_threads": 2}, False, True),
        ({"library_threads": 2}, False, False),
        ({"library_threads": 8}, False, True),
    ],
)
def test_affinity_and_threads_are_compared_with_what_was_asked_for(read, unpinned, differ):
    found = not_as_asked({**WORKER, **read}, [2, 0], 2, pinned=True)
    assert found == {"unpinned": unpinned, "threads_differ": differ}
    assert not_as_asked({**WORKER, **read}, [2, 0], 2, pinned=False)["unpinned"]


@pytest.mark.parametrize(
    ("counted", "cores", "preempted"),
    [
        ({"involuntary_switches": 60}, 1, True),
        ({"involuntary_switches": 60, "voluntary_switches": 5}, 1, True),
        ({"involuntary_switches": 60, "voluntary_switches": 5}, 2, False),
        ({"involuntary_switches": 1800, "voluntary_switches": 3700}, 1, False),  # a worker and who waits for it
        ({"involuntary_switches": 1800, "voluntary_switches": 1700}, 1, True),
        ({"voluntary_switches": 1000}, 1, False),
        ({}, 1, False),
    ],
)
def test_switches_between_a_cells_own_threads_are_nobody_elses(counted, cores, preempted):
    assert disturbances({"elapsed_seconds": 1.0, **counted}, 3, cores)["preempted"] == preempted


@pytest.mark.parametrize(
    ("algorithm", "threads"),
    [
        ("torch", 3),
        ("torch-channels-last", 3),
        ("direct", None),  # Numba tells its pool for each call how many threads to take
        ("scipy", None),
        ("onnxruntime", None),
        ("opencv", None),
    ],
)
def test_only_the_pool_that_a_measured_library_brought_counts(algorithm, threads):
    assert library_threads([GOMP, TORCH, BLAS], algorithm) == threads
    assert library_threads([GOMP, BLAS], algorithm) is None


@pytest.fixture
def measure(monkeypatch):
    """Measures a cell on one core in this process, which no cell pins."""
    monkeypatch.setattr(module, "pin", lambda *_: True)
    monkeypatch.setattr(host, "Eviction", lambda _: lambda: None)
    timing = Timing(min_samples=1, min_seconds=0, max_samples=2, sample_seconds=1e-6, peak_repetitions=0)

    def measured() -> Record:
        spec = make_spec(["mb1ic1ih20iw30oc4kh3kw3"], algorithms=("direct",), executors=("serial",), cores=(1,), runs=1)
        spec = dataclasses.replace(spec, timing=timing, cache="cold")
        record = Laboratory(spec, 0, {}).measure(0, spec.cells()[0])
        assert record.status == "ok", record.reason
        return record

    return measured


def test_a_cell_that_left_its_cpus_says_so(measure, monkeypatch):
    first = machine.allowed_cpus()[0]
    monkeypatch.setattr(module, "affinity", lambda _: [first])
    record = measure()
    assert "unpinned" not in record.flags
    assert "threads_differ" not in record.flags
    monkeypatch.setattr(module, "affinity", lambda _: [first, first + 1])
    assert "unpinned" in measure().flags


def test_a_librarys_pool_of_another_size_says_so(measure, monkeypatch):
    monkeypatch.setattr(module, "library_threads", lambda *_: 2)
    record = measure()
    assert record.worker["library_threads"] == 2
    assert "threads_differ" in record.flags


def test_clocks_and_placement_are_in_the_record_where_there_is_something_to_tell(measure, monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "clocks", lambda cpus: asked.append(list(cpus)) or {"0": 2596.1})
    record = measure()
    assert record.worker["mhz"] == {"0": 2596.1}
    assert asked == [machine.allowed_cpus()[:1]]
    assert Record.from_json(record.to_json()).worker["mhz"] == {"0": 2596.1}
    monkeypatch.setattr(machine, "clocks", lambda _: {})
    monkeypatch.setattr(machine, "numa", list)
    assert not {"mhz", "placement"} & set(measure().worker)


def test_a_cells_arrays_are_placed_on_the_nodes_that_may_be_used(measure, monkeypatch):
    cpus, placed = machine.allowed_cpus(), []
    nodes = [cpus[:1], [10_000]]
    monkeypatch.setattr(module, "nodes_of", lambda allowed: nodes if allowed == cpus else None)
    monkeypatch.setattr(host, "place", lambda array, on: placed.append((array.shape, on)))
    record = measure()
    assert [shape for shape, _ in placed] == [(1, 1, 20, 30), (1, 4, 18, 28)]
    assert all(on == nodes for _, on in placed)
    assert record.worker["placement"] == "blocks of 2 MiB touched in turns on 2 nodes"


# -- drift --------------------------------------------------------------------------------------------------------


def written(run: int, *calibrations: float, flags: tuple[str, ...] = ()) -> list[Record]:
    """Records of a run with these seconds of the fixed piece of work."""
    words = {"problem": "mb1ic1ih20iw30oc4kh3kw3", "algorithm": "direct", "executor": "serial", "cores": 1}
    return [
        Record(run=run, order=order, status="ok", samples=(1.0,), calibration=seconds, flags=flags, **words)
        for order, seconds in enumerate(calibrations)
    ]


def test_a_run_that_is_slow_as_a_whole_has_drifted():
    records = [*written(0, 1.0e-3, 1.05e-3), *written(1, 1.2e-3, 1.21e-3), *written(2, 1.09e-3)]
    assert drifted(records) == [False, False, True, True, False]
    assert raised(records) == {"drift": 2}
    assert raised(iter(records)) == {"drift": 2}


def test_the_fastest_may_come_last():
    records = [*written(0, 1.2e-3, flags=("starved",)), *written(1, 1.0e-3, flags=("starved", "steal"))]
    assert drifted(records) == [True, False]
    assert raised(records) == {"starved": 2, "drift": 1, "steal": 1}


def test_a_record_counts_once_whoever_saw_it():
    assert raised([*written(0, 1.0e-3), *written(0, 1.3e-3, flags=("drift",))]) == {"drift": 1}


def test_what_has_no_calibration_has_not_drifted():
    skipped = dataclasses.replace(written(0, 0.0)[0], status="skipped", samples=())
    assert drifted([skipped, *written(1, 1e-3), *written(1, 2e-3)]) == [False, False, True]
    assert drifted([skipped]) == [False]
    assert drifted([]) == []
    assert not np.any(drifted(written(0, 1e-3)))
