"""Comparing two sweeps: verdicts, and how often they are wrong."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from convbench.analysis.compare import compare, slowdown
from convbench.analysis.differences import differences
from convbench.analysis.evidence import DRIFT_SHARE
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


def test_what_differs_between_machines_is_named():
    one = {"machine": {"cpu": "A", "usable_cores": 2}, "versions": {"numpy": "2.0", "numba": "0.61"}}
    other = {"machine": {"cpu": "B", "usable_cores": 2}, "versions": {"numpy": "2.1", "numba": "0.61"}}
    assert differences(one, other) == ["cpu: A -> B", "numpy: 2.0 -> 2.1"]
    assert differences(one, one) == []


def write(directory, records: list[Record]) -> None:
    directory.mkdir()
    header = {"schema": 1, "spec": {}, "machine": {"cpu": directory.name}, "versions": {}, "started": ""}
    (directory / "sweep.json").write_text(json.dumps(header))
    (directory / "results.jsonl").write_text("".join(record.to_json() + "\n" for record in records))


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
