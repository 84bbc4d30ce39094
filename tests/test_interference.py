"""What disturbs a measurement is noticed, flagged and told."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import python, script
from simulated import CALIBRATION, SMALL, Found

from convbench.analysis.interference import Interference
from convbench.machine import cgroup
from convbench.measure import counters
from convbench.measure.flags import FAULTS_IN_A_SAMPLE
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.results.record import Cell
from convbench.results.store import load

HAS_AFFINITY = hasattr(os, "sched_setaffinity")
RUNS = 2  # of a sweep whose page faults are counted


Measured = Callable[..., Found]


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Runs a small sweep in processes of its own; gives what it found."""

    def run(*more: str, cores: str = "1", **variables: str) -> Found:
        directory = tmp_path / "sweep"
        request = ["--problem", SMALL, "--algorithms", "naive", "--cores", cores, "--runs", "1", *more]
        done = python("-m", "convbench", "sweep", *request, "--output", directory, **variables)
        assert done.returncode == 0, done.stderr
        return Found(load(directory))

    return run


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no affinity")
def test_an_affinity_to_one_cpu_is_what_there_is(measured):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        found = measured("--executors", "threads", cores="1,2")
    finally:
        os.sched_setaffinity(0, before)
    records = found.records
    assert {record.cores: "oversubscribed" in record.flags for record in records} == {1: False, 2: True}
    assert all(record.worker["affinity"] == [min(before)] for record in records)
    assert "1 usable" in found.report()
    assert "more cores were asked for than the process may use" in found.report()


def test_variables_that_rule_thread_pools_are_told_and_overruled(measured):
    found = measured("--executors", "serial,threads", OMP_NUM_THREADS="8")
    records = found.records
    for record in records:
        assert "thread_variables" in record.flags
        assert record.worker["threads"] == 1
        assert record.worker["blas_threads"] == 1
    assert "OMP_NUM_THREADS=8" in found.report()


def test_on_a_quiet_machine_nothing_is_flagged(told):
    found = told(cores=(1, 2, 8))
    records = found.records
    assert [record.status for record in records] == ["ok"] * 3
    for record in records:
        assert record.flags == ()
        assert set(record.sample_flags) == {()}
        assert record.samples == pytest.approx([0.02 / record.cores] * len(record.samples))
    assert Interference.of(records).busy == pytest.approx(1)
    assert "Flags that were raised" not in found.report()


@pytest.mark.parametrize(
    ("disturbed", "flag", "line"),
    [
        ({"share": 0.5}, "starved", "the cores computed for less than 80 % of the time"),
        ({"rates": {"involuntary_switches": 400}}, "preempted", "other programs wanted the same cores"),
        ({"rates": {"steal_seconds": 0.05}}, "steal", "the hypervisor gave over 1 % of the time to others"),
        ({"rates": {"throttled_seconds": 0.05}}, "throttled", "the control group's quota held the processes back"),
        ({"rates": {"minor_faults": 1e5}}, "page_faults", "memory was touched for the first time"),
        ({"rates": {"major_faults": 100}}, "page_faults", "or read from a disk"),
        ({"rates": {"compilations": 100}}, "late_setup", "something was compiled, or a thread was started"),
        ({"rates": {"threads": 100}}, "late_setup", "something was compiled, or a thread was started"),
    ],
)
def test_what_disturbs_every_sample_is_flagged_and_told(simulated, told, disturbed, flag, line):
    for name, value in disturbed.items():
        setattr(simulated.machine, name, value)
    simulated.machine.counters |= dict.fromkeys(simulated.machine.rates, 0.0)
    simulated.law = lambda _: 0.2
    found = told()
    [record] = found.records
    assert record.flags == (flag,)
    assert set(record.sample_flags) == {(flag,)}
    assert f"| {flag} |" in found.report()
    assert line in found.report()
    assert Interference.of([record]).busy == pytest.approx(simulated.machine.share)


def test_a_sample_that_was_disturbed_is_told_from_the_others(simulated, told):
    """The third call of the samples meets a neighbour."""
    calls = []

    def law(_: int) -> float:
        calls.append(0.2)
        # after the check, a call that wakes and two that warm up
        simulated.machine.share = 0.4 if len(calls) == 7 else 1.0
        return 0.2

    simulated.law = law
    [record] = told().records
    assert [flags for flags in record.sample_flags if flags] == [("starved",)]
    assert record.sample_flags[2] == ("starved",)


def test_the_first_sample_and_times_that_do_not_settle_are_flagged(simulated, told):
    times = iter([0.1, 0.1, *(0.1, 0.2) * 3, 0.5])  # the check, a call that wakes, the warm-up, a first sample
    simulated.law = lambda _: next(times, 0.4)
    [record] = told().records
    assert {"first_sample", "unsettled"} == set(record.flags)


def test_a_machine_that_slows_down_within_a_run_is_seen_to_drift(simulated, told):
    def law(cores: int) -> float:
        simulated.machine.speed *= 0.99  # with every call
        return 0.2 / cores

    simulated.law = law
    found = told(cores=(1, 2, 4, 8))
    records = found.records
    slowest, fastest = (extreme(record.calibration for record in records) for extreme in (max, min))
    assert fastest == pytest.approx(CALIBRATION, rel=0.02)
    assert Interference.of(records).slowest == pytest.approx(slowest / fastest)
    for record in records:
        assert ("drift" in record.flags) == (record.calibration > 1.1 * fastest)
    assert "| drift |" in found.report()


@pytest.mark.parametrize(
    ("name", "line"), [("cpu.stat", "throttled_usec {}"), ("cpu/cpu.stat", "throttled_time {}000")], ids=["v2", "v1"]
)
def test_a_quota_that_holds_back_is_felt(simulated, told, tmp_path, monkeypatch, name, line):
    """The control group's own file says so, as the system would write it."""
    stat = tmp_path / "cgroup" / name
    stat.parent.mkdir(parents=True)
    held_back = 0.0

    def law(_: int) -> float:
        nonlocal held_back
        held_back += 1e6 * 0.02
        stat.write_text(f"nr_throttled 7\n{line.format(round(held_back))}\n")
        return 0.1

    simulated.law = law
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path / "cgroup")
    cgroup._groups.cache_clear()
    throttled = cgroup.throttled_seconds
    monkeypatch.setattr(
        counters, "read", lambda _pids, _cpus: {**simulated.machine.counters, "throttled_seconds": throttled() or 0}
    )
    try:
        found = told()
    finally:
        cgroup._groups.cache_clear()
    [record] = found.records
    assert record.flags == ("throttled",)
    assert record.counters["throttled_seconds"] == pytest.approx(0.02 * len(record.samples))
    assert "the control group's quota held the processes back" in found.report()


def test_what_the_system_counts_of_a_process_is_read():
    """Facts that no other program can change: memory that is touched, and what is compiled.

    In a process of its own, since threads that other tests have started may end at any time in this one.
    """
    done = script("""
        import json, os
        import numba
        import numpy as np
        from convbench.measure import counters

        numba.njit(lambda x: x)(1)  # what Numba loads to compile may bring threads of its own
        before = counters.read((), ())
        touched = np.frombuffer(bytearray(1000 * os.sysconf("SC_PAGESIZE")), np.uint8)
        compiled = numba.njit(lambda x: x + 1)(1)
        read = counters.since(before, counters.read((), ()))
        assert (touched.sum(), compiled) == (0, 2)
        print(json.dumps(read))
    """)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read["compilations"] >= 1
    if sys.platform == "linux":
        assert read["minor_faults"] >= 1
        assert read["threads"] == 0
        assert read["involuntary_switches"] >= 0


@pytest.mark.long
@pytest.mark.parametrize("algorithms", [("naive",), ("direct", "unrolled", "winograd", "fft")])
def test_no_sample_pays_for_what_is_done_once(tmp_path, monkeypatch, algorithms):
    """Nothing is compiled yet, no pool runs, and no memory was touched when the sweep begins.

    A system that moves pages about makes faults of its own, now and then; what a process does once, every run shows.
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    executors = ("serial", "threads", "processes")
    spec = make_spec(
        ["mb1ic1ih200iw300oc32kh7kw7"], algorithms=algorithms, executors=executors, cores=(1, 2), runs=RUNS
    )
    timing = Timing(peak_repetitions=0, max_samples=3, min_seconds=0)
    records = run_sweep(dataclasses.replace(spec, timing=timing), tmp_path / "sweep").records
    assert {record.status for record in records} == {"ok"}
    assert list((tmp_path / "cache").rglob("*tile*.nbi")), "it was compiled in the sweep"
    fewest_faults: dict[Cell, float] = {}
    for record in records:
        assert "late_setup" not in record.flags, record
        assert record.counters["compilations"] == 0
        assert record.counters.get("threads", 0) == 0
        faults = record.counters.get("minor_faults", 0) / len(record.samples)
        fewest_faults[record.cell] = min(faults, fewest_faults.get(record.cell, math.inf))
    assert max(fewest_faults.values()) <= FAULTS_IN_A_SAMPLE, fewest_faults
