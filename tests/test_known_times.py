"""What is known beforehand is what is measured, compared and reported: on a simulated machine, to the last digit."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
from conftest import PROBLEMS
from simulated import SMALL

from convbench.analysis.compare import compare
from convbench.analysis.series import group, widest_interval
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.results.store import load

PRECISION = re.compile(r"widest interval ±([\d.]+)% of its mean after (\d+) runs")


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
    request = ["sweep", "--problem", SMALL, "--algorithms", "naive", "--executors", "simulated", "--cores", "1"]
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
    spec = make_spec(
        [PROBLEMS["channels and batch"]], algorithms=("unrolled",), executors=("simulated",), cores=(1, 4), runs=1
    )
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
    spec = make_spec([SMALL], algorithms=("naive",), executors=("simulated",), cores=(1, 2), runs=2)
    run_sweep(dataclasses.replace(spec, timing=Timing(peak_repetitions=0)), tmp_path, on_progress=seen.append)
    assert [progress.done for progress in seen] == [0, 1, 2, 3, 4]
    assert {progress.total for progress in seen} == {4}
    assert seen[0].seconds_left is None
    took = {progress.record.cell: progress.record.wall_seconds for progress in seen[1:3]}
    assert seen[1].seconds_left == pytest.approx(3 * seen[1].record.wall_seconds)
    assert seen[2].seconds_left == pytest.approx(sum(took.values()))
    assert seen[3].seconds_left == pytest.approx(sum(took.values()) - took[seen[3].record.cell])
    assert seen[4].seconds_left == 0
