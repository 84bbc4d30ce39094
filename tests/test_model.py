"""The model of a machine: fitted rates, corrections by neighbours, and what is written and read back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.algorithms import Cost
from convbench.problem import Problem
from convbench.select import known, written
from convbench.select.contenders import CALL, candidate_of, counted, name_of
from convbench.select.fitting import fit, fitted, surprise
from convbench.select.likeness import coordinates, distances, outside
from convbench.select.model import Model, Rates

SHAPES = [
    f"mb1ic{channels}ih{rows}oc{filters}kh{taps}ph{taps // 2}"
    for channels in (3, 16, 64)
    for rows in (7, 14, 56)
    for filters in (8, 64)
    for taps in (1, 3)
]
PROBLEMS = [Problem.parse(shape) for shape in SHAPES]
TRUE = {"multiply-adds": 2e-10, "loads": 1e-10, CALL: 5e-6}


def seconds_of(problem: Problem, name: str = "direct/serial/1") -> float:
    counts = counted(problem, name)
    return sum(rate * counts.get(kind, 0.0) for kind, rate in TRUE.items())


def test_fitted_rates_predict_what_they_were_fitted_to():
    times = {"direct/serial/1": [seconds_of(problem) for problem in PROBLEMS]}
    model = fit(PROBLEMS, times)
    for problem in (Problem.parse("mb1ic32ih28oc32kh3ph1"), Problem.parse("mb1ic128ih28oc100kh1")):
        assert model.predict(problem, times)["direct/serial/1"].seconds == pytest.approx(seconds_of(problem), rel=0.15)


def test_rates_are_never_negative_and_a_few_disturbed_times_change_little():
    work = [counted(problem, "direct/serial/1") for problem in PROBLEMS]
    quiet = np.array([seconds_of(problem) for problem in PROBLEMS])
    disturbed = quiet.copy()
    disturbed[[3, 11, 20]] *= 40
    rates = fitted(work, disturbed)
    assert min(rates.values()) > 0
    found = np.array([sum(rate * counts.get(kind, 0.0) for kind, rate in rates.items()) for counts in work])
    assert np.median(np.abs(found / quiet - 1)) < 0.05


def test_a_neighbour_corrects_what_counting_misses():
    times = {"direct/serial/1": np.array([seconds_of(problem) for problem in PROBLEMS])}
    slow = [number for number, problem in enumerate(PROBLEMS) if problem.kernel_height == 1 and problem.height == 7]
    times["direct/serial/1"][slow] *= 1.5
    model = fit(PROBLEMS, times)
    alike, other = Problem.parse("mb1ic64ih7oc60kh1"), Problem.parse("mb1ic64ih56oc60kh3ph1")
    estimates = [model.predict(problem, times)["direct/serial/1"].seconds for problem in (alike, other)]
    assert estimates[0] / seconds_of(alike) > 1.2
    assert estimates[1] / seconds_of(other) < 1.15


def test_an_estimate_lies_in_its_interval_and_counts_of_cores_that_were_not_measured_are_estimated():
    model = fit(PROBLEMS, {"direct/threads/2": [seconds_of(problem, "direct/threads/2") for problem in PROBLEMS]})
    estimates = model.predict(PROBLEMS[-1], ["direct/threads/2", "direct/threads/8", "direct/serial/1", "nothing"])
    assert estimates.keys() == {"direct/threads/2", "direct/threads/8"}
    for seconds, low, high in estimates.values():
        assert 0 < low <= seconds <= high
    assert estimates["direct/threads/8"].seconds < estimates["direct/threads/2"].seconds


def test_contenders_of_others_have_the_work_of_the_problem():
    assert candidate_of("DIRECT") is None
    assert candidate_of("direct/threads/0") is None
    assert candidate_of("direct/threads/99999999") is None
    assert name_of(candidate_of("fft/threads/4")) == "fft/threads/4"
    problem = Problem.parse("mb1ic4ih8oc8kh3")
    assert counted(problem, "UNROLL")["multiply-adds"] == problem.multiply_adds
    assert counted(problem, "unrolled/serial/1").keys() >= {"multiply-adds", CALL}


def test_the_busiest_worker_of_a_problem_with_one_unit_does_it_all():
    problem = Problem.parse("mb1ic1ih1iw1oc1kh1kw1")
    assert counted(problem, "direct/threads/64") == counted(problem, "direct/serial/1")


@pytest.mark.parametrize(
    ("shares", "workers", "busiest"),
    [
        ((0.25, 0.25, 0.25, 0.25), 2, 0.5),
        ((0.4, 0.4, 0.1, 0.1), 2, 0.6),  # the second worker, after its own units, takes over the second one
        ((0.4, 0.2, 0.2, 0.2), 2, 0.6),
        ((0.2, 0.2, 0.2, 0.4), 2, 0.6),
        ((0.5, 0.5), 4, 0.5),
        ((1.0,), 3, 1.0),
    ],
)
def test_workers_have_their_own_units_and_take_over_others(shares, workers, busiest):
    assert Cost({}, len(shares), shares).busiest(workers) == pytest.approx(busiest)


def test_what_is_off_is_told_beside_the_other_contenders():
    """The machine's speed is no surprise; a contender that should be among the fastest is one however slow it was."""
    seconds = {"a": 1.0, "b": 1.2, "c": 1.5}
    assert surprise(seconds, {"a": 0.3, "b": 0.3, "c": 0.3}) == pytest.approx(0.0)
    assert surprise(seconds, {"a": 0.0, "b": 0.0, "c": 0.5}) == pytest.approx(0.5)
    assert surprise({"a": 1.0, "b": 1.1, "c": 4.0}, {"a": 0.0, "b": 0.0, "c": 1.5}) == pytest.approx(1.5)
    assert surprise({"a": 1.0, "b": 1.1, "c": 40.0}, {"a": 0.0, "b": 0.0, "c": 1.5}) == pytest.approx(0.0)
    assert surprise({"a": 1.0, "b": 1.3}, {"a": 0.0, "b": 0.3}) == pytest.approx(0.3), "of two, either may be off"
    assert surprise({"a": 1.0}, {"a": 0.7}) == surprise({"a": 1.0}, {}) == surprise({}, {}) == 0.0


def test_likeness():
    here, there = (np.array(coordinates(Problem.parse(text))) for text in ("ic8ih8oc8kh3mb1", "ic16ih8oc8kh3mb1"))
    assert distances(np.array([here, there]), here).tolist() == [0, 1]
    assert outside(np.array([here]), here) == []
    assert outside(np.array([here]), coordinates(Problem.parse("ic64ih8oc8kh3mb1"))) == ["channels of a group"]


def model() -> Model:
    times = {
        "direct/serial/1": [seconds_of(problem) for problem in PROBLEMS],
        "winograd/serial/1": [seconds_of(problem) if problem.kernel_height == 3 else math.nan for problem in PROBLEMS],
    }
    return fit(PROBLEMS, times, {"winograd/serial/1": [1e-3] * len(PROBLEMS)})


def test_a_model_is_read_as_it_was_written():
    data = json.dumps(written.model_to(model(), {"cpu": "this"})).encode()
    found = written.model_from(data, {"cpu": "this"})
    assert json.dumps(written.model_to(found, {"cpu": "this"})).encode() == data
    for problem in PROBLEMS:
        names = ["direct/serial/1"] + ["winograd/serial/1"] * (problem.kernel_height == 3)
        for name, estimate in model().predict(problem, names).items():
            assert found.predict(problem, names)[name].seconds == pytest.approx(estimate.seconds, rel=1e-3)


def test_a_model_of_another_machine_is_refused():
    data = json.dumps(written.model_to(model(), {"cpu": "this", "vectors": "AVX2"})).encode()
    with pytest.raises(ValueError, match=r"another machine or state of the code \(cpu\)"):
        written.model_from(data, {"cpu": "that", "vectors": "AVX2"})


def hostile() -> dict[str, bytes]:
    good = written.model_to(model(), {})

    def changed(**fields: object) -> bytes:
        return json.dumps({**good, **fields}).encode()

    deep: object = 0
    for _ in range(100):
        deep = [deep]
    rates = good["rates"]["direct/serial/1"]
    return {
        "nothing": b"",
        "cut off": changed()[:-20],
        "no text": b"\xff\xfe\x00",
        "a list": b"[1, 2]",
        "another schema": changed(schema=2),
        "no schema": json.dumps({key: value for key, value in good.items() if key != "schema"}).encode(),
        "a huge number": changed().replace(b'"schema": 1', b'"schema": 1, "other": 1e999'),
        "a number of a million digits": changed().replace(b'"schema": 1', b'"schema": 1, "other": ' + b"9" * 10**6),
        "nested": changed(machine=deep),
        "deeply nested": b"[" * 100_000 + b"]" * 100_000,
        "a negative rate": changed(rates={"direct/serial/1": {**rates, "seconds": {"call": -1.0}}}),
        "an error that is none": changed(rates={"direct/serial/1": {**rates, "error": [0.1, 0.2]}}),
        "text for a rate": changed(rates={"direct/serial/1": {**rates, "seconds": {"call": "x"}}}),
        "points that lack one": changed(points=good["points"][1:]),
        "points of other lengths": changed(points=[[1.0]] * len(SHAPES)),
        "points far away": changed(points=[[1e9] * 11] * len(SHAPES)),
        "corrections of others": changed(corrections={"fft/serial/1": [0.0] * len(SHAPES)}),
        "huge corrections": changed(corrections={name: [1e5] * len(SHAPES) for name in good["corrections"]}),
        "problems that are none": changed(problems=3),
    }


@pytest.mark.parametrize("case", hostile())
def test_a_damaged_model_is_refused_in_a_line(case):
    with pytest.raises(ValueError, match=r"^\S.{0,300}$"):
        written.model_from(hostile()[case], None)


@given(st.binary(max_size=200))
def test_no_bytes_make_a_model(text):
    with pytest.raises(ValueError, match=r"\w"):
        written.model_from(text, None)


def test_a_model_without_any_problem_predicts_by_counting():
    rates = {"direct/serial/1": Rates(TRUE, {}, (-0.1, 0.1))}
    empty = Model(rates, (), np.zeros((0, 11)), {"direct/serial/1": np.zeros(0)})
    assert written.model_from(json.dumps(written.model_to(empty, {})).encode(), None).problems == ()
    assert empty.predict(PROBLEMS[0], rates)["direct/serial/1"].seconds == pytest.approx(seconds_of(PROBLEMS[0]))


def test_the_model_that_comes_with_the_package_can_be_read():
    assert known.DEFAULT.stat().st_size < 2**18
    found = written.model_from(known.DEFAULT.read_bytes(), None)
    assert len(found.problems) > 100
    assert {"direct/serial/1", "direct/threads/2", "winograd/threads/2"} <= found.rates.keys()
