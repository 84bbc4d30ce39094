"""Choices: limits, sources, reasons, what is remembered, and what is measured when asked to."""

from __future__ import annotations

import json
import os
import threading
import time
import warnings

import pytest

import convbench
from convbench import machine
from convbench.errors import RequestError, UnavailableError
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select import bursts, choosing, known, measuring, remembering, written
from convbench.select.choosing import choose, forget
from convbench.select.contenders import able, core_counts
from convbench.select.design import design, random_problem
from convbench.select.measuring import LEAST_ROUNDS, Times, measure

LAYER = "mb1ic64ih14oc64kh3ph1"
TINY = "mb1ic2ih6iw7oc3kh3kw3sh2sw2"  # of forms whose tiles take seconds to compile, none can


pytestmark = pytest.mark.usefixtures("own_data")


@pytest.fixture(autouse=True)
def never_waited(monkeypatch):
    """No burst is disturbed, on a busy machine as on a quiet one."""
    monkeypatch.setattr(bursts, "_waited", lambda: 0.0)


def test_a_choice_says_what_and_why():
    choice = choose(LAYER)
    assert choice.source == "default"
    assert choice.candidate == Candidate(choice.algorithm, choice.executor, choice.cores)
    assert choice.interval[0] <= choice.predicted_seconds <= choice.interval[1]
    assert str(choice.candidate) in choice.explain()
    assert "convbench tune" in choice.explain()
    seconds = [each.seconds for each in choice.ranked if each.seconds is not None]
    assert seconds[0] <= min(seconds) * 1.01
    assert json.loads(json.dumps(choice.as_data()))["algorithm"] == choice.algorithm


def test_the_second_choice_is_the_first_one():
    assert choose(LAYER) is choose(LAYER)
    assert choose(Problem.parse(LAYER)).candidate == choose(LAYER).candidate
    assert choose(LAYER, packed=False) is not choose(LAYER)


def test_the_name_of_a_layer_does_not_matter():
    assert choose(f'{LAYER}n"a:b*3"').ranked == choose(LAYER).ranked


@pytest.mark.parametrize("cores", [None, 1, 2, 3])
def test_no_choice_takes_more_cores_than_there_are(cores):
    choice = choose(LAYER, cores=cores)
    most = machine.usable_cores() if cores is None else min(cores, machine.usable_cores())
    assert all(each.candidate.cores <= most for each in choice.ranked)
    assert any(each.candidate.cores == most for each in choice.ranked)


def test_a_process_that_is_confined_to_one_processor_gets_one_core():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert {each.candidate.cores for each in choose(LAYER).ranked} == {1}
    finally:
        os.sched_setaffinity(0, before)


def test_a_limit_of_memory_is_kept():
    everything = choose(LAYER).ranked
    needs = sorted({each.memory for each in everything})
    for limit in needs:
        assert all(each.memory <= limit for each in choose(LAYER, memory_limit=limit).ranked)
    assert choose(LAYER, memory_limit=0).algorithm == "naive"
    with pytest.raises(RequestError, match="at least 5 bytes"):
        choose(LAYER, memory_limit=4, spent=5)
    least = min(each.memory for each in choose(LAYER, algorithm="direct").ranked)
    with pytest.raises(RequestError, match=f"at least {least} bytes"):
        choose(LAYER, memory_limit=least - 1, algorithm="direct")


@pytest.mark.parametrize(
    "arguments",
    [
        {"cores": 0},
        {"cores": "2"},
        {"memory_limit": -1},
        {"measure": "yes"},
        {"packed": 2},
        {"algorithm": "best"},
        {"arithmetic": "wrong"},
        {"cores": [1]},
        {"backend": "cuda"},
        {"backend": ["numba"]},
        {"backend": "any", "measure": 1},
        {"spent": -1},
        {"spent": "all"},
    ],
)
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(RequestError):
        choose(LAYER, **arguments)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"cores": 1}, {"cores": True}),
        ({"cores": 1}, {"cores": 1.0}),
        ({"memory_limit": 10**9}, {"memory_limit": 1e9}),
        ({"packed": True}, {"packed": 1}),
        ({"measure": False}, {"measure": 0}),
    ],
)
def test_what_makes_no_sense_is_refused_after_what_equals_it(first, second):
    choose(LAYER, **first)
    with pytest.raises(RequestError):
        choose(LAYER, **second)


def test_what_nobody_can_compute_is_said_to_be_so():
    with pytest.raises(UnavailableError, match="backward_data"):
        choose(f"--dir=BWD_D {LAYER}")
    with pytest.raises(RequestError):
        choose("nonsense")


def test_an_algorithm_that_is_asked_for_is_the_only_one():
    assert {each.candidate.algorithm for each in choose(LAYER, algorithm="unrolled").ranked} == {"unrolled"}
    assert choose(LAYER, algorithm="naive").algorithm == "naive"
    with pytest.raises(UnavailableError, match="stride"):
        choose("mb1ic4ih9oc4kh3sh2", algorithm="fft")


def test_packing_counts_where_weights_are_packed_at_every_call():
    once, always = choose(LAYER), choose(LAYER, packed=False)
    of_winograd = [
        next(each.seconds for each in choice.ranked if each.candidate == Candidate("winograd", "serial", 1))
        for choice in (once, always)
    ]
    assert of_winograd[1] > of_winograd[0]


def test_measuring_is_done_once_and_remembered():
    first = choose(TINY, measure=True)
    assert first.source == "measured"
    lines = remembering.lines()
    assert len(lines) == 1
    assert first.candidate in [each.candidate for each in choose(TINY).ranked[:1]]
    assert choose(TINY).source == "measured"
    forget()
    assert choose(f'{TINY}n"x:y"', measure=True).source == "measured"
    assert remembering.lines() == lines
    assert choose(LAYER).source == "default"


def test_measuring_works_where_nothing_can_be_written():
    known.folder().parent.parent.mkdir(exist_ok=True)
    known.folder().parent.write_text("a file where a folder should be")
    choice = choose(TINY, measure=True)
    assert choice.source == "measured"
    assert choose(TINY) is not None


def test_measured_times_are_of_every_candidate_and_positive():
    problem = Problem.parse(TINY)
    times = measure(problem, able(problem, "numba", core_counts(2)), 0.0)
    assert len(times) == 6
    for each in times.values():
        assert len(each.samples) >= 1
        assert each.seconds > 0
        assert each.packing >= 0
    assert max(len(each.samples) for each in times.values()) > LEAST_ROUNDS


def test_bursts_in_which_threads_waited_count_only_where_there_are_no_others(monkeypatch):
    problem, waited = Problem.parse(TINY), iter(range(10**9))
    monkeypatch.setattr(measuring, "PAUSE", 0)
    monkeypatch.setattr(measuring, "LONG_PAUSE", 0)
    monkeypatch.setattr(bursts, "_waited", lambda: float(next(waited)))
    times = measure(problem, able(problem, "numba", (1,), "direct"), 0.0)
    assert [len(each.samples) for each in times.values()] == [1]
    assert measuring.settled({"one": [None, None], "other": [None, 2.0]}) == {"other": pytest.approx(2.0)}


def test_what_does_not_fit_the_memory_is_not_measured():
    with pytest.raises(UnavailableError, match="GiB"):
        choose("mb1ic1ih2000000iw200000oc8kh3kw3", measure=True, algorithm="direct")


@pytest.mark.parametrize(
    "text", [b"", b'{"schema": 1', b'{"schema": 7}', b"[" * 50_000, b'{"schema": 1, "x": 1e999}', b"\x80"]
)
@pytest.mark.parametrize("name", [known.MODEL, known.KNOWN])
def test_a_file_that_cannot_be_used_is_named_in_a_warning_and_the_default_is_used(name, text):
    place = known.folder() / name
    place.parent.mkdir(parents=True)
    place.write_bytes(text)
    with pytest.warns(RuntimeWarning, match=f"{name} is not used"):
        choice = choose(LAYER)
    assert choice.source == "default"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(TINY).source == "default"


def test_a_model_of_another_machine_is_not_used():
    model = written.model_from(known.DEFAULT.read_bytes(), None)
    known.save(known.MODEL, written.model_to(model, {**known.fingerprint(), "cpu": "another"}))
    with pytest.warns(RuntimeWarning, match=r"of another machine or state of the code \(cpu\)"):
        assert choose(LAYER).source == "default"


def test_a_model_of_this_machine_is_used():
    model = written.model_from(known.DEFAULT.read_bytes(), None)
    known.save(known.MODEL, written.model_to(model, known.fingerprint()))
    choice = choose(LAYER)
    assert choice.source == "model"
    assert "a model of this machine" in choice.explain()


def test_outside_of_what_was_measured_the_choice_says_so():
    model = written.model_from(known.DEFAULT.read_bytes(), None)
    known.save(known.MODEL, written.model_to(model, known.fingerprint()))
    choice = choose("mb4096ic1ih8iw8oc1kh3kw3")
    assert choice.source == "default"
    assert "outside of what was measured in images" in choice.explain()


def test_a_torn_or_foreign_line_of_measurements_is_left_out():
    problem = Problem.parse(TINY)
    times = {"direct/serial/1": Times(1e-5, (1e-5, 2e-5), 1e-4)}
    remembering.append(remembering.line(problem, times, "tune"))
    path = known.folder() / known.MEASURED
    path.write_bytes(path.read_bytes() + b'{"problem": "torn')
    remembering.append(remembering.line(problem, {"direct/serial/1": Times(5e-6, (5e-6,), 1e-4)}, "tune"))
    remembering.append({**remembering.line(problem, times, "tune"), "machine": {"cpu": "other"}})
    assert len(remembering.lines()) == 2
    assert remembering.seconds(remembering.lines()) == {str(problem): {"direct/serial/1": pytest.approx(5e-6)}}


def test_the_design_is_the_same_for_the_same_seed_and_names_no_problem_twice():
    first = [problem for _, problem in zip(range(400), design(3), strict=False)]
    again = [problem for _, problem in zip(range(400), design(3), strict=False)]
    assert first == again
    assert len(set(first)) == 400


def test_eight_threads_choose_at_once():
    problems = [f"mb1ic{channels}ih9oc8kh3" for channels in range(1, 40)]
    found: list[list[object]] = []

    def work() -> None:
        found.append([choose(problem).candidate for problem in problems])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(one == found[0] for one in found)


def test_a_forked_child_chooses():
    choose(LAYER)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if choose(TINY).candidate else 1
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_choices_are_bounded(monkeypatch):
    monkeypatch.setattr(choosing, "MOST_CHOICES", 10)
    for channels in range(1, 30):
        choose(f"mb1ic{channels}ih9oc8kh3")
    assert len(choosing._state.choices) <= 10


def chosen_for_random_problems(count: int, seed: int) -> None:
    import random

    draw = random.Random(seed)
    done = 0
    while done < count:
        problem = random_problem(draw)
        if problem is None:
            continue
        done += 1
        choice = choose(Problem.parse(str(problem)), packed=done % 2 == 0)
        assert choice.candidate.unsupported_reason(problem) is None
        assert choice.predicted_seconds is None or choice.predicted_seconds > 0


def test_a_problem_beyond_any_machine_is_counted_as_quickly_as_another():
    begin = time.perf_counter()
    high = "g3mb1ic9ih1440961iw2oc443739kh1026kw2sh2sw1"
    for descriptor in ("mb1ic1ih1000000000iw1000000000oc1kh3kw3", "mb1ic1ih1iw1000000000000oc1kh1kw3", high):
        choice = choose(descriptor)
        assert choice.predicted_seconds > 1
    assert time.perf_counter() - begin < 10


def test_every_random_problem_gets_a_candidate_that_can_compute_it():
    chosen_for_random_problems(300, 1)


@pytest.mark.long
def test_very_many_random_problems():
    chosen_for_random_problems(20_000, 2)


def test_the_library_has_it():
    assert convbench.choose is choose
