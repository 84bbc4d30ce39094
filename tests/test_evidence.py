"""What runs that were measured in turns say of two versions, on simulated hosts; and what many tests say together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_compare import sweep

from convbench.analysis.compare import compare
from convbench.analysis.evidence import InTurns, discoveries
from convbench.results.record import Record


def in_turns(
    random: np.random.Generator, ratio: float, cells: int = 10, runs: int = 12
) -> tuple[list[Record], list[Record]]:
    """Two versions measured in turns on a busy host, the second of which takes `ratio` times as long.

    The host becomes slower and faster over runs; a third of all turns is in somebody's way for most of it, by 30 % on
    average; single samples have a long tail, and each process is a little slower or faster than others.
    """
    drift, found = 0.0, ([], [])
    for run in range(runs):
        drift = 0.9 * drift + random.normal(0, 0.02)
        for side, records in enumerate(found):
            busy = random.exponential(0.3)
            share = 0.85 if random.random() < 0.35 else 0.15
            for cell in range(cells):
                held_up = 1 + busy * (random.random(15) < share)
                samples = np.exp(drift + random.normal(0, 0.005)) * held_up * (1 + 0.003 * random.pareto(1.5, 15))
                [record] = sweep([1.0], algorithm=f"cell-{cell}")
                its = tuple(float(sample) for sample in samples * (ratio if side else 1))
                records.append(dataclasses.replace(record, run=run, samples=its))
    return found


@pytest.mark.parametrize("pairs", [6, pytest.param(20, marks=pytest.mark.long)])
def test_in_turns_a_busy_host_makes_no_difference_and_five_percent_of_work_does(pairs):
    """Ten cells a pair of sweeps: less than 3 % of the same called different, 95 % of what is slower found."""
    random = np.random.default_rng(0)
    same = [one for _ in range(pairs) for one in compare(*in_turns(random, 1.0), in_turns=True)]
    assert len(same) == 10 * pairs
    assert np.mean([one.verdict in ("faster", "slower") for one in same]) <= 0.03
    slowed = [one for _ in range(pairs) for one in compare(*in_turns(random, 1.05), in_turns=True)]
    assert np.mean([one.verdict == "slower" for one in slowed]) >= 0.95
    assert np.mean([one.ratio.low <= 1.05 <= one.ratio.high for one in slowed]) >= 0.95
    assert np.median([one.ratio.high / one.ratio.low for one in slowed]) < 1.05
    apart = [one for _ in range(pairs // 4) for one in compare(*in_turns(random, 1.05))]
    assert np.mean([one.verdict == "slower" for one in apart]) < 0.5, "means of the same runs do not show it"


def test_in_turns_the_interval_and_the_test_agree():
    random = np.random.default_rng(1)
    for runs in (5, 12, 20):
        for ratio in (0.9, 1.0, 1.02, 1.3):
            first, second = (np.exp(random.normal(0, 0.02, runs)) for _ in range(2))
            evidence = InTurns.of(first, ratio * second)
            low, high = evidence.interval(0.1)
            assert low <= evidence.value <= high
            assert (low <= 0 <= high) == (evidence.p_value(0.0) > 0.1)
            assert evidence.p_value(evidence.value) > 0.9
            again = InTurns.of(first, 2 * ratio * second)
            assert again.value == pytest.approx(evidence.value + np.log(2))
            assert again.interval(0.1) == pytest.approx((low + np.log(2), high + np.log(2)), abs=1e-3)
            other_way = InTurns.of(ratio * second, first)
            assert other_way.value == pytest.approx(-evidence.value)


def test_in_turns_chances_are_exact():
    """Of four runs, each of them slower in the second: one in eight ways to exchange them is as extreme."""
    evidence = InTurns.of([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3])
    assert evidence.p_value(0.0) == 2 / 2**4
    assert evidence.interval(0.05) is None
    assert evidence.interval(0.2) is not None
    assert InTurns.of([1.0], [3.0]).p_value(0.0) == 1
    assert InTurns.of([1.0], [3.0]).interval(0.05) is None
    assert InTurns.of([1.0] * 6, [1.0] * 6).p_value(0.0) == 1


def test_in_turns_only_runs_of_both_count_and_the_first_record_of_each():
    first = sweep([1.0 + 0.001 * run for run in range(8)])
    second = [record for record in sweep([1.1 + 0.001 * run for run in range(9)]) if record.run != 3]
    [one] = compare(first, second, in_turns=True)
    assert one.ratio.runs == 7
    assert one.verdict == "slower"
    doubled = [*second, *(dataclasses.replace(record, samples=(9.0,)) for record in second)]
    assert compare(first, doubled, in_turns=True)[0].ratio == one.ratio
    assert compare(first, second[::-1], in_turns=True)[0].ratio == one.ratio
    failed = [dataclasses.replace(record, status="failed", samples=()) for record in first]
    assert compare([*failed, *first], second, in_turns=True)[0].ratio == one.ratio
    assert compare(sweep([1.0]), second[2:], in_turns=True) == [], "no run in common"
    [single] = compare(first[:1], second, in_turns=True)
    assert (single.verdict, single.ratio.low, single.ratio.runs) == ("cannot tell", None, 1)


def test_discoveries_are_as_many_as_the_procedure_of_benjamini_and_hochberg_rejects():
    """The fifteen p-values of their paper's example, of which the four smallest are rejected at 5 %."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262, 0.5719, 0.6528]
    p_values += [0.759, 1.0]
    assert discoveries(p_values, 0.05) == 4
    assert discoveries(p_values[::-1], 0.05) == 4
    assert discoveries([], 0.05) == 0
    assert discoveries([0.2], 0.05) == 0
