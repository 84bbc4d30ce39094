"""What disturbs a measurement is noticed, flagged and told; what is known beforehand is what is measured."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import python
from simulated import CALIBRATION, Simulated

from convbench import cgroup
from convbench.analysis.compare import compare
from convbench.analysis.interference import Interference
from convbench.analysis.series import group, widest_interval
from convbench.measure import counters
from convbench.measure.cell import FAULTS_IN_A_SAMPLE
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.report.write import write_report
from convbench.results.record import Record
from convbench.results.store import Sweep, load

PROBLEM = "mb1ic1ih12iw14oc4kh3kw3"
PRECISION = re.compile(r"widest interval ±([\d.]+)% of its mean after (\d+) runs")
HAS_AFFINITY = hasattr(os, "sched_setaffinity")


@dataclasses.dataclass(frozen=True)
class Found:
    """A sweep that was measured."""

    sweep: Sweep

    @property
    def records(self) -> tuple[Record, ...]:
        return self.sweep.records

    def report(self) -> str:
        """Its report, as text."""
        write_report(self.sweep, self.sweep.directory)
        return (self.sweep.directory / "report.md").read_text()


Measured = Callable[..., Found]


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Runs a small sweep in processes of its own; gives what it found."""

    def run(*more: str, cores: str = "1", **variables: str) -> Found:
        directory = tmp_path / "sweep"
        request = ["--problem", PROBLEM, "--algorithms", "naive", "--cores", cores, "--runs", "1", *more]
        done = python("-m", "convbench", "sweep", *request, "--output", directory, **variables)
        assert done.returncode == 0, done.stderr
        return Found(load(directory))

    return run


@pytest.fixture
def told(tmp_path: Path, simulated: Simulated) -> Measured:
    """The same on the simulated machine."""

    def run(name: str = "sweep", **request: object) -> Found:
        words = {"algorithms": ("naive",), "executors": ("simulated",), "cores": (1,), "runs": 1, **request}
        spec = dataclasses.replace(make_spec([PROBLEM], **words), timing=Timing(peak_repetitions=0))
        return Found(run_sweep(spec, tmp_path / name))

    assert simulated.machine.now == 0
    return run


# -- noticed ------------------------------------------------------------------------------------------------------


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
        simulated.machine.share = 0.4 if len(calls) == 6 else 1.0  # after the check and two calls that warm up
        return 0.2

    simulated.law = law
    [record] = told().records
    assert [flags for flags in record.sample_flags if flags] == [("starved",)]
    assert record.sample_flags[2] == ("starved",)


def test_the_first_sample_and_times_that_do_not_settle_are_flagged(simulated, told):
    times = iter([0.1, *(0.1, 0.2) * 3, 0.5])  # the check, the warm-up, a first sample
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
    """Facts that no other program can change: memory that is touched, and what is compiled."""
    import numba

    before = counters.read((), ())
    size = 1000 * os.sysconf("SC_PAGESIZE")
    touched = np.frombuffer(bytearray(size), np.uint8)
    compiled = numba.njit(lambda x: x + 1)(1)
    read = counters.since(before, counters.read((), ()))
    assert (touched.sum(), compiled) == (0, 2)
    assert read["compilations"] >= 1
    if sys.platform == "linux":
        assert read["minor_faults"] >= 1
        assert read["threads"] == 0
        assert read["involuntary_switches"] >= 0


# -- known times --------------------------------------------------------------------------------------------------


def amdahl(cores: int) -> float:
    """Seconds where a fifth of the work is serial."""
    return 0.1 * (0.2 + 0.8 / cores)


def test_a_known_serial_fraction_is_found(simulated, told):
    simulated.law = amdahl
    found = told(cores=(1, 2, 4, 8), runs=3)
    records = found.records
    [series] = group(records)
    assert all(cell.fit for cell in series.cells.values())
    for cores in (2, 4, 8):
        assert series.cells[cores].mean.value == pytest.approx(amdahl(cores))
        assert series.speedup(1, cores).value == pytest.approx(amdahl(1) / amdahl(cores))
        assert series.serial_fraction(cores).value == pytest.approx(0.2)
    assert series.amdahl().value == pytest.approx(0.2)
    assert "naive" in found.report()


def test_a_known_serial_fraction_is_found_in_noise(simulated, told):
    """Calls vary by 2 % and runs by 3 %; the interval has the truth in it."""
    random = np.random.default_rng(0)
    of_a_run = iter(random.lognormal(0, 0.03, 10))
    install, factor = simulated.open, [1.0]

    def begin(work, cores):
        factor[0] = next(of_a_run) if cores == 1 else factor[0]
        return install(work, cores)

    simulated.open = begin
    simulated.law = lambda cores: amdahl(cores) * random.lognormal(0, 0.02) * factor[0]
    records = told(cores=(1, 2, 4, 8), runs=10).records
    [series] = group(records)
    fraction = series.amdahl()
    assert fraction.low < 0.2 < fraction.high
    assert fraction.high - fraction.low < 0.2


def test_comparing_tells_the_same_code_from_a_slower_one(simulated, told, in_process, tmp_path):
    random = np.random.default_rng(0)
    for name, seconds in (("before", 0.02), ("same", 0.02), ("slower", 0.022)):
        simulated.law = lambda _, seconds=seconds: seconds * random.lognormal(0, 0.01)
        told(name, runs=4)
    before, same, slower = (load(tmp_path / name).records for name in ("before", "same", "slower"))
    assert [cell.verdict for cell in compare(before, same)] == ["no difference seen"]
    [cell] = compare(before, slower)
    assert cell.verdict == "slower"
    assert cell.ratio.low <= 1.1 <= cell.ratio.high
    for after, status, verdict in (("same", 0, "no difference seen"), ("slower", 1, "slower")):
        left, shown, _ = in_process("compare", tmp_path / "before", tmp_path / after)
        assert left == status
        assert verdict in shown


def test_runs_are_added_until_the_interval_is_as_tight_as_asked_for(simulated, in_process, tmp_path):
    """Runs take 0.018, 0.022, 0.018, ... seconds."""
    turns, open_runner = itertools.cycle([0.018, 0.022]), simulated.open

    def begin(work, cores):
        seconds = next(turns)
        simulated.law = lambda _: seconds
        return open_runner(work, cores)

    simulated.open = begin
    request = ["sweep", "--problem", PROBLEM, "--algorithms", "naive", "--executors", "simulated", "--cores", "1"]
    request += ["--runs", "2"]
    status, _, told = in_process(*request, "--precision", "15%", "--output", tmp_path / "tight")
    assert status == 0
    reached, runs = PRECISION.search(told).groups()
    records = load(tmp_path / "tight").records
    assert len(records) == int(runs) > 2
    assert float(reached) <= 15 < 100 * widest_interval(records[:-1])
    limit = 3.5 * records[0].wall_seconds
    status, _, told = in_process(
        *request, "--precision", "0.1%", "--time-limit", limit, "--output", tmp_path / "limited"
    )
    assert status == 0
    assert PRECISION.search(told).groups()[1] == "4"
    assert "±0.10% was asked for" in told
    for wrong in ("0", "120%", "tight"):
        status, _, told = in_process(*request, "--precision", wrong, "--output", tmp_path / "refused")
        assert status == 2
        assert "precision=" in told
    assert not (tmp_path / "refused").exists()


def test_cold_caches_are_emptied_before_every_sample_and_at_no_other_time(simulated, told):
    simulated.law = lambda _: 0.03 if simulated.machine.cold else 0.01
    [hot] = told("hot").records
    assert hot.samples == pytest.approx([0.01] * len(hot.samples))
    assert simulated.machine.evictions == 0
    [cold] = told("cold", cache="cold").records
    assert cold.samples == pytest.approx([0.03] * len(cold.samples))
    assert cold.warmups == pytest.approx([0.01] * len(cold.warmups))
    assert cold.loops == 1
    assert simulated.machine.evictions == len(cold.samples)
    assert cold.counters["elapsed_seconds"] == pytest.approx(sum(cold.samples)), "emptying them is not counted"


def test_the_stages_of_a_call_are_the_shares_that_it_spent_in_them(simulated, tmp_path):
    simulated.stages = (0.2, 0.7)
    spec = make_spec([PROBLEM], algorithms=("direct",), executors=("simulated",), cores=(1, 4), runs=1)
    spec = dataclasses.replace(spec, timing=Timing(peak_repetitions=0))
    for record in run_sweep(spec, tmp_path).records:
        first, second, *others = record.stages.values()
        assert first == pytest.approx([0.2 * sample for sample in record.samples])
        assert second == pytest.approx([0.7 * sample for sample in record.samples])
        assert not any(map(any, others))


def test_a_sweeps_time_is_told_by_what_its_cells_took(simulated, tmp_path):
    """Two runs of two cells; what is left is estimated from what the same cells took before."""
    simulated.law = lambda cores: 0.3 / cores
    seen = []
    spec = make_spec([PROBLEM], algorithms=("naive",), executors=("simulated",), cores=(1, 2), runs=2)
    run_sweep(dataclasses.replace(spec, timing=Timing(peak_repetitions=0)), tmp_path, on_progress=seen.append)
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 4]
    assert {progress.total for progress in seen} == {4}
    assert seen[0].seconds_left is None
    took = {progress.record.cell: progress.record.wall_seconds for progress in seen[1:3]}
    assert seen[1].seconds_left == pytest.approx(3 * seen[1].record.wall_seconds)
    assert seen[2].seconds_left == pytest.approx(sum(took.values()))
    assert seen[3].seconds_left == pytest.approx(sum(took.values()) - took[seen[3].record.cell])
    assert seen[4].seconds_left == 0


# -- nothing but calls in a sample --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithms", [("naive",), pytest.param(("direct", "unrolled", "winograd", "fft"), marks=pytest.mark.long)]
)
def test_no_sample_pays_for_what_is_done_once(tmp_path, monkeypatch, algorithms):
    """Nothing is compiled yet, no pool runs, and no memory was touched when the sweep begins."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    executors = ("serial", "threads", "processes")
    spec = make_spec(["mb1ic1ih200iw300oc32kh7kw7"], algorithms=algorithms, executors=executors, cores=(1, 2), runs=1)
    timing = Timing(peak_repetitions=0, max_samples=3, min_seconds=0)
    records = run_sweep(dataclasses.replace(spec, timing=timing), tmp_path / "sweep").records
    assert {record.status for record in records} == {"ok"}
    assert list((tmp_path / "cache").rglob("*tile*.nbi")), "it was compiled in the sweep"
    for record in records:
        assert "late_setup" not in record.flags, record
        assert record.counters.get("minor_faults", 0) <= FAULTS_IN_A_SAMPLE * len(record.samples)
        assert record.counters["compilations"] == 0
        assert record.counters.get("threads", 0) == 0
