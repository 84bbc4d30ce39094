"""Comparing two sweeps: verdicts, and how often they are wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from convbench.analysis.compare import FEW_RUNS, compare, slowdown, slower_beyond, widest_ratio
from convbench.analysis.differences import differences
from convbench.analysis.evidence import DRIFT_SHARE
from convbench.analysis.statistics import FAR_APART
from convbench.results.record import Record

DESCRIPTOR = "mb1ic1ih9oh7kh3iw9ow7kw3oc2"


def sweep(times: list[float], algorithm: str = "direct") -> list[Record]:
    """One cell with these times, a run each."""
    return [
        Record(
            run=run,
            order=0,
            problem=DESCRIPTOR,
            algorithm=algorithm,
            executor="serial",
            cores=1,
            status="ok",
            samples=(time, time),
        )
        for run, time in enumerate(times)
    ]


def times(random: np.random.Generator, mean: float, runs: int = 10, spread: float = 0.02) -> list[float]:
    """Runs that vary by `spread`, with a tail to the right."""
    return list(mean * (1 - spread + spread * random.gamma(1, 1, runs)))


def test_verdicts_are_what_the_intervals_say():
    [faster] = compare(sweep([1.0, 1.01, 0.99]), sweep([0.5, 0.505, 0.495]))
    assert (faster.verdict, faster.ratio.value) == ("faster", pytest.approx(0.5))
    [slower] = compare(sweep([1.0, 1.01, 0.99]), sweep([1.2, 1.21, 1.19]))
    assert slower.verdict == "slower"
    assert slower.ratio.low <= 1.2 <= slower.ratio.high
    [same] = compare(sweep([1.0, 1.01, 0.99]), sweep([1.001, 1.011, 0.991]))
    assert same.verdict == "no difference seen"
    [wide] = compare(sweep([1.0, 1.5, 0.7]), sweep([1.1, 1.4, 0.8]))
    assert wide.verdict == "cannot tell"
    [single] = compare(sweep([1.0]), sweep([2.0]))
    assert (single.verdict, single.ratio.low) == ("cannot tell", None)


def test_only_cells_of_both_are_compared():
    assert compare(sweep([1.0]), sweep([1.0], algorithm="unrolled")) == []


@pytest.mark.parametrize(("drift", "coverage"), [(0.0, 0.93), (DRIFT_SHARE, 0.9)], ids=["steady", "drifting"])
def test_the_same_is_seldom_called_different_and_five_percent_is_mostly_found(drift, coverage):
    """Sweeps of ten runs that vary by 2 %, on a machine that drifts a little, or not, from one sweep to the next."""
    random = np.random.default_rng(0)

    def measured(mean: float) -> list[Record]:
        return sweep(times(random, mean * random.lognormal(0, 0.02 * np.sqrt(drift))))

    same = [compare(measured(1), measured(1))[0] for _ in range(400)]
    assert np.mean([one.verdict in ("faster", "slower") for one in same]) <= 0.08
    slowed = [compare(measured(1), measured(1.05))[0] for _ in range(400)]
    assert np.mean([one.verdict == "slower" for one in slowed]) >= 0.9
    assert np.mean([one.ratio.low <= 1.05 <= one.ratio.high for one in slowed]) >= coverage


def test_a_slower_machine_is_not_taken_for_slower_code():
    """Everything takes 4 % longer, the fixed piece of work as well; a cell that takes 10 % longer is still slower."""
    calm, throttled = (
        [
            dataclasses.replace(record, calibration=0.001 * speed)
            for record in sweep([speed * time for time in (1.0, 1.002, 0.998, 1.001)])
        ]
        for speed in (1.0, 1.04)
    )
    assert slowdown(calm, throttled) == pytest.approx(1.04)
    [one] = compare(calm, throttled)
    assert one.verdict == "no difference seen"
    assert one.ratio.low < 1 < one.ratio.high
    worse = [dataclasses.replace(record, samples=(record.samples[0] * 1.1,)) for record in throttled]
    assert compare(calm, worse)[0].verdict == "slower"
    assert slowdown(sweep([1.0]), sweep([2.0])) == 1


def test_sweeps_of_unequal_runs_with_duplicate_records_are_compared():
    first, second = sweep([1.0, 1.01, 0.99]), sweep([1.2, 1.21, 1.19, 1.2, 1.22])
    [one] = compare(first, second)
    assert (one.verdict, one.ratio.runs) == ("slower", 3)
    assert compare(first, [*second, *sweep([9.0] * 5)])[0].ratio == one.ratio
    [single] = compare(first, second[:1])
    assert (single.verdict, single.ratio.low) == ("cannot tell", None)
    [steady] = compare(sweep([1.0] * 3), sweep([1.0] * 3))
    assert (steady.ratio.low, steady.ratio.high, steady.verdict) == (1.0, 1.0, "no difference seen")


def many(random: np.random.Generator, mean: float, cells: int = 40) -> list[Record]:
    return [
        record
        for cell in range(cells)
        for record in sweep(list(mean * np.exp(random.normal(0, 0.02, 10))), algorithm=f"cell-{cell}")
    ]


def test_forty_cells_are_not_taken_for_one():
    """If each were tested alone, most pairs of sweeps of the same code would have a cell that is called different."""
    random = np.random.default_rng(2)
    pairs = [compare(many(random, 1), many(random, 1)) for _ in range(60)]
    assert np.mean([any(one.verdict in ("faster", "slower") for one in found) for found in pairs]) <= 0.08
    alone = [any(one.evidence.p_value(0.0) <= 0.05 for one in found) for found in pairs]
    assert np.mean(alone) > 0.15, "the tests of single cells are what they were"


def test_no_sweep_fails_for_cells_that_are_as_slow_as_is_allowed():
    random = np.random.default_rng(3)
    pairs = [compare(many(random, 1), many(random, 1.05)) for _ in range(60)]
    assert np.mean([any(one.verdict == "slower" for one in found) for found in pairs]) > 0.9
    assert np.mean([bool(slower_beyond(found, 0.05)) for found in pairs]) <= 0.05
    worse = [slower_beyond(compare(many(random, 1), many(random, 1.12)), 0.05) for _ in range(5)]
    assert np.mean([len(found) for found in worse]) > 35
    for found in pairs + worse:
        for one in slower_beyond(found, 0.02):
            assert one.ratio.low > 1.02


def test_libraries_that_were_loaded_in_another_order_are_no_difference():
    one, other = ({"internal_api": "openblas", "version": version} for version in ("0.3.27", "0.3.30"))
    first, second = ({"machine": {"blas": blas}} for blas in ([one, other], [other, one]))
    assert differences(first, second) == []
    twice = {"machine": {"blas": [one, one]}}
    assert differences(first, twice) == ["blas: openblas 0.3.27, openblas 0.3.30 -> openblas 0.3.27, openblas 0.3.27"]


def test_how_long_was_measured_is_a_difference():
    first, second = ({"spec": {"timing": {"min_seconds": seconds, "max_samples": 30}}} for seconds in (0.6, 0.1))
    assert differences(first, second) == ["timing min_seconds: 0.6 -> 0.1"]
    assert differences(first, {"spec": {"timing": {"max_samples": 30}}}) == []
    assert differences(first, {"spec": {}}) == []


@pytest.mark.parametrize(("key", "one", "other"), [("cache", "hot", "cold"), ("scaling", "strong", "weak")])
def test_what_is_not_the_same_quantity_is_not_compared(convbench, tmp_path, key, one, other):
    for name, value in (("a", one), ("b", other)):
        write(tmp_path / name, sweep([1.0, 1.01, 0.99]), spec={key: value})
    done = convbench("compare", tmp_path / "a", tmp_path / "b")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"first sweep is of {one}" in line
    assert f"measure both with --{key} {one} or both with --{key} {other}" in line


def test_a_title_says_how_each_was_measured_where_that_differs(convbench, tmp_path):
    for name, allowed in (("a", False), ("b", True)):
        write(tmp_path / name, sweep([1.0, 1.01, 0.99]), spec={"cache": "cold", "allow_tf32": allowed})
    title = " ".join(convbench("compare", tmp_path / "a", tmp_path / "b").stdout.split())
    assert (
        "time in the second (cold caches, TF32 allowed on GPUs) over time in the first (cold caches) algorithm" in title
    )
    same = " ".join(convbench("compare", tmp_path / "a", tmp_path / "a").stdout.split())
    assert "time in the second over time in the first (cold caches) algorithm" in same


def test_what_differs_between_machines_is_named():
    one = {"machine": {"cpu": "A", "usable_cores": 2}, "versions": {"numpy": "2.0", "numba": "0.61"}}
    other = {"machine": {"cpu": "B", "usable_cores": 2}, "versions": {"numpy": "2.1", "numba": "0.61"}}
    assert differences(one, other) == ["cpu: A -> B", "numpy: 2.0 -> 2.1"]
    assert differences(one, one) == []


def write(directory: Path, records: list[Record], **header: object) -> None:
    directory.mkdir()
    header = {"schema": 1, "spec": {}, "machine": {"cpu": directory.name}, "versions": {}, "started": "", **header}
    (directory / "sweep.json").write_text(json.dumps(header))
    (directory / "results.jsonl").write_text("".join(record.to_json() + "\n" for record in records))


def test_the_command_tells_the_same_code_from_a_slower_one_and_names_what_it_saw(convbench, tmp_path):
    for name, factor in (("before", 1.0), ("same", 1.0), ("slower", 1.1)):
        write(tmp_path / name, sweep([factor * time for time in (0.0201, 0.0200, 0.0202, 0.0201)]))
    same = convbench("compare", tmp_path / "before", tmp_path / "same")
    assert same.returncode == 0, same.stdout
    assert "no difference seen" in same.stdout
    slower = convbench("compare", tmp_path / "before", tmp_path / "slower")
    assert slower.returncode == 1, slower.stdout
    [line] = [line for line in slower.stdout.splitlines() if line.startswith("direct")]
    _, _, _, ratio, low, high, verdict = line.split()
    assert (ratio, verdict) == ("1.100", "slower")
    assert float(low) <= 1.1 <= float(high)
    assert "1 of 1 cells slower, beyond doubt, by more than 5.0%" in slower.stderr


def test_the_command_fails_on_the_intervals_bound_and_not_on_the_estimate(convbench, tmp_path):
    """About 1.08 times as long, but it may be 1.03 times."""
    write(tmp_path / "a", sweep([1.0, 1.03, 0.97, 1.02, 0.98, 1.0]))
    write(tmp_path / "b", sweep([1.08, 1.12, 1.04, 1.11, 1.05, 1.08]))
    done = convbench("compare", tmp_path / "a", tmp_path / "b")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("direct")]
    *_, ratio, low, _, verdict = line.split()
    assert float(ratio) > 1.05 > float(low) > 1.01
    assert verdict == "slower"
    assert done.returncode == 0, done.stderr
    assert "0 of 1 cells slower, beyond doubt, by more than 5.0%" in done.stderr
    assert convbench("compare", tmp_path / "a", tmp_path / "b", "--fail-above", "2").returncode == 1


def test_the_command_compares_inside_runs_what_was_measured_in_turns(convbench, tmp_path):
    """From the seventh run on, the machine takes 20 % longer; the second version 3 % longer in each."""
    times = [1.0 + 0.002 * (run % 3) + 0.2 * (run > 5) for run in range(12)]
    pair = {"id": "one", "python": "/other/python", "versions": {}}
    write(tmp_path / "a", sweep(times), pair={**pair, "side": "against"})
    write(tmp_path / "b", sweep([1.03 * time for time in times]), pair={**pair, "side": "this"})
    write(tmp_path / "c", sweep([1.03 * time for time in times]), pair={**pair, "id": "two", "side": "this"})
    done = convbench("compare", tmp_path / "a", tmp_path / "b", "--fail-above", "1")
    assert done.returncode == 1, done.stderr
    assert "measured in turns, compared inside runs by their fastest samples" in " ".join(done.stdout.split())
    assert "slower" in done.stdout
    for one, other in (("a", "c"), ("c", "b")):
        apart = convbench("compare", tmp_path / one, tmp_path / other)
        assert "cannot tell" in apart.stdout
        assert "in turns" not in apart.stdout


def test_too_few_runs_for_an_interval_are_named(convbench, tmp_path):
    write(tmp_path / "a", sweep([1.0]))
    done = convbench("compare", tmp_path / "a", tmp_path / "a")
    assert "1 of 1 cells have no interval: too few runs" in done.stderr


@pytest.mark.parametrize("percent", ["-5", "nan", "inf"])
def test_a_percentage_that_makes_no_sense_is_refused(convbench, tmp_path, percent):
    write(tmp_path / "a", sweep([1.0, 1.1]))
    done = convbench("compare", tmp_path / "a", tmp_path / "a", "--fail-above", percent)
    assert done.returncode == 2
    assert f"fail_above={percent} is not allowed; give a percentage from 0 up" in done.stderr


def test_the_command_exits_1_for_a_real_slowdown_alone(convbench, tmp_path):
    random = np.random.default_rng(1)
    for name, mean, algorithm in (
        ("a", 1, "direct"),
        ("b", 1, "direct"),
        ("slow", 1.1, "direct"),
        ("other", 1, "naive"),
    ):
        write(tmp_path / name, sweep(times(random, mean, spread=0.01), algorithm))
    same = convbench("compare", tmp_path / "a", tmp_path / "b")
    assert same.returncode == 0, same.stderr
    assert "differs: cpu: a -> b" in same.stderr
    slow = convbench("compare", tmp_path / "a", tmp_path / "slow")
    assert slow.returncode == 1
    assert "slower" in slow.stdout
    assert convbench("compare", tmp_path / "a", tmp_path / "slow", "--fail-above", "20").returncode == 0
    assert convbench("compare", tmp_path / "slow", tmp_path / "a").returncode == 0
    nothing = convbench("compare", tmp_path / "a", tmp_path / "other")
    assert nothing.returncode == 2
    assert "nothing to compare" in nothing.stderr


FAR_APART_RUNS = [1.0, 1.5, 0.2], [5.0, 50.0, 3000.0]


@pytest.mark.parametrize("in_turns", [False, True])
@pytest.mark.parametrize("runs", [([1.0, 1.0], [2.0, 2.0]), ([1.0, 9.0], [5.0, 0.2])], ids=["alike", "far apart"])
def test_two_runs_claim_nothing_however_alike_they_are(runs, in_turns):
    first, second = map(sweep, runs)
    [one] = found = compare(first, second, in_turns=in_turns)
    assert (one.verdict, one.ratio.bounds, one.ratio.runs) == ("cannot tell", None, 2)
    assert one.ratio.lacks == FEW_RUNS
    assert not slower_beyond(found, 0.0)
    assert widest_ratio(first, second) == math.inf


def test_a_ratio_is_not_tight_enough_before_fifteen_runs():
    times = [1 + run % 2 / 100 for run in range(15)]
    assert widest_ratio(sweep(times[:14]), sweep(times[:14])) == math.inf
    assert widest_ratio(sweep(times), sweep(times)) < 0.01
    assert widest_ratio(sweep(times[:14]), sweep(times[:14]), least_runs=3) < 0.01


def test_an_interval_that_says_next_to_nothing_is_none_and_may_still_tell_on_which_side_the_ratio_is():
    first, second = FAR_APART_RUNS
    [one] = found = compare(sweep(first), sweep(second))
    assert (one.ratio.low, one.ratio.high, one.ratio.lacks) == (None, None, FAR_APART)
    assert one.ratio.bounds[0] < 1 < one.ratio.bounds[1]
    assert one.verdict == "cannot tell"
    assert not slower_beyond(found, 0.05)
    [much] = found = compare(sweep(first), sweep([1e6 * time for time in second]))
    assert (much.ratio.low, much.ratio.lacks, much.verdict) == (None, FAR_APART, "slower")
    assert much.ratio.bounds[0] > 1
    assert slower_beyond(found, 0.05) == found
    [other_way] = compare(sweep([1e6 * time for time in second]), sweep(first))
    assert other_way.verdict == "faster"


def test_intervals_beyond_what_a_float_can_hold_are_numbers_and_claim_nothing():
    """A hundred cells of runs from a picosecond to thirty years: no float holds the bounds."""
    first, second = (
        [record for cell in range(100) for record in sweep(times, algorithm=f"cell-{cell}")]
        for times in ([1e-12, 1e-12, 1e9], [1.0] * 3)
    )
    for found in (compare(first, second), compare(second, first)):
        for one in found:
            low, high = one.evidence.interval(0.05 / 100)
            assert (low < -710, high > 710) == (True, True)
            assert 0 < one.ratio.bounds[0] < 1 < one.ratio.bounds[1] < math.inf
            assert (one.verdict, one.ratio.low, one.ratio.lacks) == ("cannot tell", None, FAR_APART)
        assert not slower_beyond(found, 0.0)


def test_the_command_shows_no_interval_where_there_is_none_and_says_why_for_each_reason(in_process, tmp_path):
    few = ([1.0, 9.0], [2.0, 18.0])
    for name, apart, alone in zip("ab", FAR_APART_RUNS, few, strict=True):
        write(tmp_path / name, [*sweep(apart), *sweep(alone, "naive")], machine={})
    status, shown, said = in_process("compare", tmp_path / "a", tmp_path / "b", "--fail-above", "0")
    assert status == 0
    rows = [line.split() for line in shown.splitlines() if "serial" in line]
    assert rows == [
        ["direct", "serial", "1", "135.721", "cannot", "tell"],
        ["naive", "serial", "1", "2.000", "cannot", "tell"],
    ]
    assert said == (
        f"1 of 2 cells have no interval: {FAR_APART} 1 of 2 cells have no interval: {FEW_RUNS} "
        "0 of 2 cells slower, beyond doubt, by more than 0.0%"
    )


def test_the_command_names_a_line_that_cannot_be_used_of_either_sweep_and_compares_the_rest(in_process, tmp_path):
    for name in ("whole", "torn", "worse"):
        write(tmp_path / name, sweep([1.0, 1.01, 0.99, 1.0]), machine={})
    for name, places in (("torn", [1]), ("worse", [0, 2])):
        lines = (tmp_path / name / "results.jsonl").read_text().splitlines()
        broken = ["garbage{" if place in places else line for place, line in enumerate(lines)]
        (tmp_path / name / "results.jsonl").write_text("".join(f"{line}\n" for line in [*broken, lines[0]]))
    torn, worse = (tmp_path / name / "results.jsonl" for name in ("torn", "worse"))
    for pair in (("torn", "whole"), ("whole", "torn")):
        status, shown, said = in_process("compare", *(tmp_path / name for name in pair))
        assert status == 0
        assert "no difference seen" in shown
        assert said.startswith(f"{torn} line 2 cannot be used: it is not JSON")
        assert "(and 1 more); the other 3 records are used 0 of 1 cells slower" in said
    status, shown, said = in_process("compare", tmp_path / "torn", tmp_path / "worse")
    assert said.index(f"{torn} line 2 cannot be used") < said.index(f"{worse} line 1 cannot be used")
    assert status == 0
