"""Statistics over runs and scaling laws, against numbers that are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from convbench.analysis.fastest import rank
from convbench.analysis.interference import Interference
from convbench.analysis.limits import TRAFFIC, Limits
from convbench.analysis.scaling import (
    Usl,
    amdahl_fraction,
    efficiency,
    scaled_serial_fraction,
    serial_fraction,
    usl,
)
from convbench.analysis.series import group
from convbench.analysis.statistics import geometric_mean, mean, mean_time, median
from convbench.analysis.times import WAITING
from convbench.problem import Problem
from convbench.results.paper import multicore_experiment
from convbench.results.record import Record


def record(run: int, cores: int, *samples: float, flags: tuple[str, ...] = (), status: str = "ok") -> Record:
    return Record(
        run=run,
        order=0,
        problem="p",
        algorithm="a",
        executor="e",
        cores=cores,
        status=status,
        samples=samples,
        flags=flags,
    )


def test_a_mean_has_students_interval():
    values = [1.0, 2.0, 4.0, 5.0]
    estimate = mean(values)
    low, high = stats.t.interval(0.95, 3, loc=3.0, scale=stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, low, high))


KINDS = {  # how a run's time comes about, and its mean
    "symmetric": (lambda random, shape: random.normal(1, 0.02, shape), 1.0),
    "symmetric and wide": (lambda random, shape: random.normal(1, 0.15, shape), 1.0),
    "log-normal": (lambda random, shape: random.lognormal(0, 0.2, shape), np.exp(0.02)),
    "a floor and a tail": (lambda random, shape: 1 + 0.05 * random.gamma(2, 1, shape), 1.1),
    "a floor and an exponential tail": (lambda random, shape: 1 + 0.05 * random.exponential(1, shape), 1.05),
}


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_is_covered_as_often_as_promised(kind, runs):
    """2,000 sweeps of five samples a run, with variance between runs and within them."""
    draw, truth = KINDS[kind]
    random = np.random.default_rng(0)
    times = draw(random, (2000, runs, 1)) * random.lognormal(-(0.01**2) / 2, 0.01, (2000, runs, 5))
    found = [mean_time(list(values)) for values in times.mean(axis=2)]
    known = [estimate for estimate in found if estimate.low is not None]
    assert len(known) > 0.95 * len(found)
    assert all(0 < estimate.low <= estimate.value <= estimate.high for estimate in known)
    wrong = sum(not estimate.low <= truth <= estimate.high for estimate in known) / len(found)
    assert 0.025 <= wrong <= 0.07


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_a_speedup_inside_runs_is_covered_as_often_as_promised(kind, runs):
    """Both cells of a run share what the machine did in it; the truth is the ratio of their geometric means."""
    draw, _ = KINDS[kind]
    random = np.random.default_rng(1)
    machine = draw(random, (2000, runs))
    slow, fast = (draw(random, (2000, runs)) for _ in range(2))
    ratios = (2 * machine * slow) / (machine * fast)
    found = [geometric_mean(list(values)) for values in ratios]
    known = [estimate for estimate in found if estimate.low is not None]
    assert len(known) > 0.95 * len(found)
    wrong = sum(not estimate.low <= 2 <= estimate.high for estimate in known) / len(found)
    assert 0.025 <= wrong <= 0.07


def test_two_runs_have_no_interval_and_say_what_it_takes():
    for estimate in (mean_time([0.1, 1.1]), geometric_mean([0.1, 16.0]), mean([0.2, 0.3])):
        assert (estimate.low, estimate.high, estimate.runs) == (None, None, 2)
        assert "3 runs" in estimate.lacks
    assert "6" in median([1.0, 2.0, 3.0]).lacks


@given(st.lists(st.floats(1e-9, 1e5), min_size=3, max_size=12))
def test_no_interval_of_a_time_or_a_ratio_holds_what_cannot_be(values):
    for estimate in (mean_time(values), geometric_mean(values)):
        if estimate.low is None or estimate.high is None:
            assert "factor of 10" in estimate.lacks
        else:
            assert estimate.value / 10.001 <= estimate.low <= estimate.value <= estimate.high <= 10.001 * estimate.value


def test_skewness_moves_an_interval_to_the_right():
    values = [1.0, 1.01, 1.02, 1.03, 1.05, 1.3]
    low, high = stats.t.interval(0.95, 5, loc=np.mean(values), scale=stats.sem(values))
    for estimate in (mean(values), mean_time(values)):
        assert estimate.low > low
        assert estimate.high > high


def test_a_median_has_an_interval_from_ranks_from_six_runs_up():
    assert median([3.0, 1.0, 2.0, 5.0, 4.0]).low is None
    estimate = median([float(x) for x in range(1, 11)])
    assert (estimate.value, estimate.low, estimate.high) == (5.5, 2.0, 9.0)
    random = np.random.default_rng(2)
    found = [median(list(values)) for values in random.exponential(1, (1000, 10))]
    assert np.mean([estimate.low <= np.log(2) <= estimate.high for estimate in found]) >= 0.95


def test_one_run_has_no_interval():
    for estimate in (mean([2.0]), mean_time([2.0])):
        assert (estimate.low, estimate.high, estimate.runs) == (None, None, 1)


def test_a_geometric_mean_has_the_interval_of_the_logarithms():
    values = [1.9, 2.0, 2.0, 4 / 1.9]
    estimate = geometric_mean(values)
    assert estimate.value == pytest.approx(2.0)
    assert estimate.low * estimate.high == pytest.approx(4.0)
    logarithms = mean(list(np.log(values)))
    assert np.log([estimate.low, estimate.high]) == pytest.approx([logarithms.low, logarithms.high])


def test_serial_fraction_and_efficiency_are_karp_and_flatts():
    assert serial_fraction(6.0162, 8) == pytest.approx((1 / 6.0162 - 1 / 8) / (1 - 1 / 8))
    assert serial_fraction(2.0, 2) == pytest.approx(0)
    assert efficiency(6.0, 8) == 0.75


@given(st.floats(0, 1), st.lists(st.integers(2, 64), min_size=1, max_size=6, unique=True))
def test_a_program_that_follows_amdahl_gets_its_fraction_back(fraction, counts):
    speedups = {cores: 1 / (fraction + (1 - fraction) / cores) for cores in (1, *counts)}
    assert amdahl_fraction(speedups) == pytest.approx(fraction, abs=1e-9)
    for cores in counts:
        assert serial_fraction(speedups[cores], cores) == pytest.approx(fraction, abs=1e-9)


def test_one_core_alone_says_nothing_of_amdahl():
    assert amdahl_fraction({1: 1.0}) is None


def test_samples_are_averaged_inside_their_run_and_never_pooled():
    [series] = group([record(0, 1, 1.0, 1.0, 1.0, 1.0), record(1, 1, 3.0)])
    assert series.cells[1].runs == {0: 1.0, 1: 3.0}
    assert series.cells[1].mean.value == 2.0
    assert series.cells[1].mean.runs == 2
    assert series.cells[1].minimum == 1.0


def test_speedups_are_computed_inside_runs():
    """Run 1 was twice as slow altogether; the speedup inside it is the same."""
    records = [record(run, 1, 1.0 + run) for run in range(4)] + [record(run, 2, (1.0 + run) / 2) for run in range(3)]
    [series] = group(records)
    speedup = series.speedup(1, 2)
    assert (speedup.value, speedup.low, speedup.high, speedup.runs) == pytest.approx((2, 2, 2, 3))


def test_what_is_not_ok_and_what_is_oversubscribed_stays_out():
    records = [record(0, 1, 1.0), record(0, 2, 0.6), record(0, 4, 5.0, flags=("oversubscribed",))]
    [series] = group([*records, record(1, 1, status="failed"), record(0, 8, status="skipped")])
    assert list(series.cells) == [1, 2, 4]
    assert not series.cells[4].fit
    assert series.amdahl().value == pytest.approx(serial_fraction(1 / 0.6, 2))


def test_series_come_in_the_order_asked_for_and_cores_ascend():
    def named(algorithm: str, executor: str, cores: int) -> Record:
        return Record(
            run=0,
            order=0,
            problem="p",
            algorithm=algorithm,
            executor=executor,
            cores=cores,
            status="ok",
            samples=(1.0,),
        )

    records = [named("b", "y", 4), named("c", "y", 1), named("b", "x", 1), named("a", "x", 2), named("a", "x", 1)]
    found = group(records, [["p"], ["a", "b"], ["x", "y"]])
    assert [(s.algorithm, s.executor, list(s.cells)) for s in found] == [
        ("a", "x", [1, 2]),
        ("b", "x", [1]),
        ("b", "y", [4]),
        ("c", "y", [1]),
    ]


def test_the_papers_numbers_come_out_of_its_runs():
    [series] = group(multicore_experiment().records)
    averages = {cores: cell.mean.value for cores, cell in series.cells.items()}
    assert averages == pytest.approx({1: 85.9125, 2: 49.0634, 4: 25.3766, 8: 14.2801}, abs=1e-9)
    expected = {(1, 2): 1.751, (1, 4): 3.386, (1, 8): 6.016, (2, 4): 1.933, (2, 8): 3.436, (4, 8): 1.777}
    for (base, cores), speedup in expected.items():
        assert round(series.ratio_of_means(base, cores), 3) == speedup
        assert series.speedup(base, cores).value == pytest.approx(speedup, abs=2e-3)
    assert 0.04 < series.amdahl().value < 0.1


def law(cores: int, contention: float = 0.05, coherency: float = 0.002) -> float:
    """Time of the Universal Scalability Law, of one second on one core."""
    return (1 + contention * (cores - 1) + coherency * cores * (cores - 1)) / cores


def test_the_universal_law_gives_its_parameters_back_from_six_counts_up():
    assert usl({p: law(p) for p in (1, 2, 4, 8, 16)}) is None
    assert usl({p: 7 * law(p) for p in (1, 2, 4, 8, 16, 32)}) == pytest.approx((0.05, 0.002))


@pytest.mark.parametrize("runs", [3, 10])
@pytest.mark.parametrize("counts", [(1, 2, 4, 8, 16, 32), (1, 2, 3, 4, 6, 8)])
def test_the_universal_laws_parameters_are_covered_as_often_as_promised(counts, runs):
    """The time on one core is measured as badly as every other; the machine is another in every run."""
    random = np.random.default_rng(4)
    hits = []
    for _ in range(500):
        machine = random.lognormal(0, 0.2, runs)
        times = [{p: law(p) * speed * random.lognormal(0, 0.02) for p in counts} for speed in machine]
        found = Usl.of([usl(one) for one in times])
        hits.append(
            [
                one.low is not None and one.low <= truth <= one.high
                for one, truth in ((found.contention, 0.05), (found.coherency, 0.002))
            ]
        )
    for covered in np.mean(hits, axis=0):
        assert 0.92 <= covered <= 0.98


def test_the_universal_laws_parameters_are_never_negative():
    ideal = [(-0.01, 0.0), (0.02, -1e-4), (0.005, 1e-4)]
    found = Usl.of(ideal)
    assert found.contention.low == 0.0
    assert found.contention.high > 0
    superlinear = Usl.of([(-0.1, 0.001), (-0.101, 0.001), (-0.102, 0.001)]).contention
    assert (superlinear.value, superlinear.low, superlinear.high) == (0.0, None, None)
    assert "ideal" in superlinear.lacks


def test_a_series_is_fitted_over_the_counts_that_were_free():
    counts = (1, 2, 4, 8, 16, 32)
    records = [record(run, p, law(p)) for run in range(2) for p in counts]
    records += [record(run, 64, 1.0, flags=("oversubscribed",)) for run in range(2)]
    [series] = group(records)
    fitted = series.usl()
    assert fitted.contention.value == pytest.approx(0.05, abs=1e-6)
    assert fitted.coherency.value == pytest.approx(0.002, abs=1e-6)
    [short] = group([one for one in records if one.cores <= 16])
    assert short.usl() is None


def test_gustafsons_law_gives_its_serial_fraction_back():
    for cores in (2, 4, 8):
        assert scaled_serial_fraction(cores - 0.3 * (cores - 1), cores) == pytest.approx(0.3)
    assert scaled_serial_fraction(8.0, 8) == 0


def test_where_the_problem_grows_with_the_cores_work_a_second_counts():
    base = Problem.parse("mb1ic1ih20iw30oc4kh3kw3")
    records = [
        dataclasses.replace(record(run, cores, seconds), problem=str(base.grown(cores)), base=str(base))
        for run in range(2)
        for cores, seconds in ((1, 1.0), (2, 1.25), (4, 1.6))
    ]
    [series] = group(records)
    assert series.scaled
    assert series.problem == str(base)
    assert series.speedup(1, 2).value == pytest.approx(1.6)
    assert series.ratio_of_means(2, 4) == pytest.approx(2 * 1.25 / 1.6)
    assert series.efficiency(4).value == pytest.approx(1 / 1.6)
    assert series.serial_fraction(4).value == pytest.approx((4 - 2.5) / 3)
    assert series.amdahl() is None
    assert series.cells[4].rate == pytest.approx(4 * base.flops / 1.6)


def test_stages_and_what_is_left_of_a_call():
    stages = {"pad": (0.1, 0.3), "product": (0.5, 0.5)}
    [series] = group([dataclasses.replace(record(run, 1, 0.8, 1.0), stages=stages) for run in range(3)])
    cell = series.cells[1]
    assert cell.stage("pad") == pytest.approx(0.2)
    assert cell.stage(WAITING) == pytest.approx(0.2)
    assert cell.stage("product") == pytest.approx(0.5)
    assert cell.stage("another") is None


def test_how_quiet_a_machine_was_is_summed_over_cells_that_had_their_cores():
    counters = {"elapsed_seconds": 2.0, "cpu_seconds": 3.6, "steal_seconds": 0.1, "minor_faults": 8}
    free = dataclasses.replace(
        record(0, 2, 1.0, 1.0), counters=counters, sample_flags=((), ("steal",)), calibration=0.001, wall_seconds=4.0
    )
    crowded = dataclasses.replace(
        free, cores=4, flags=("oversubscribed",), counters={**counters, "cpu_seconds": 0.0}, calibration=0.0011
    )
    seen = Interference.of([free, crowded])
    assert (seen.samples, seen.flagged) == (2, 1)
    assert seen.busy == pytest.approx(0.9)
    assert seen.stolen == pytest.approx(0.025)
    assert seen.faults == 4
    assert seen.slowest == pytest.approx(1.1)
    assert seen.inside == pytest.approx(0.5)
    assert seen.throttled is None
    assert Interference.of([]).busy is None


RUNS = {  # seconds of cells in the same runs, and whether they are tied with the first
    "reference": ((1.0, 1.0, 1.0), False),
    "a little slower": ((1.1, 1.11, 1.09), False),
    "perhaps slower": ((1.0, 1.1, 0.95), True),
    "slower by a factor that nobody knows": ((50.0, 400.0, 3000.0), False),
    "slower or faster, nobody knows": ((1.0, 30.0, 0.9), True),
    "in two runs": ((2.0, 2.0), True),
}


def test_a_tie_is_claimed_where_an_interval_holds_1_however_wide_it_is_and_not_where_it_leaves_out_1():
    cells = {
        name: group([record(run, 1, seconds) for run, seconds in enumerate(times)])[0].cells[1]
        for name, (times, _) in RUNS.items()
    }
    ranking = rank(cells)
    assert ranking.reference == "reference"
    assert set(ranking.tied) == {name for name, (_, tied) in RUNS.items() if tied}
    for name in ("slower by a factor that nobody knows", "slower or faster, nobody knows"):
        assert ranking.ratios[name].low is None
        assert ranking.ratios[name].vast


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.integers(1, 9),
        st.dictionaries(st.sampled_from(TRAFFIC), st.lists(st.floats(1, 9), max_size=3)),
        min_size=1,
    )
)
def test_more_cores_can_do_what_fewer_can(rates):
    limits = Limits.of({"peaks": {"cores": {str(cores): kinds for cores, kinds in rates.items()}}})
    for kind in TRAFFIC:
        measured = [cores for cores in sorted(rates) if rates[cores].get(kind)]
        best = [limits.best(kind, cores) for cores in measured]
        assert best == sorted(best)
        assert all(limits.best(kind, cores) >= max(rates[cores][kind]) for cores in measured)
        assert all(limits.best(kind, cores) is None for cores in range(1, 11) if cores not in measured)
    assert Limits({1: {"read": [5.0]}, 2: {"read": [3.0]}, 4: {"copy": [7.0]}}).best("read", 2) == 5.0
