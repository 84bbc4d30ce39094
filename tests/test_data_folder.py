"""What a user's data folder may hold, or be, without a choice that hangs, crashes or is wrong."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from convbench.errors import UnavailableError
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.select import known, remembering, tuning, written
from convbench.select.choosing import choose
from convbench.select.contenders import name_of
from convbench.select.fitting import fit
from convbench.select.judging.tuned import tuned_table
from convbench.select.measuring import Times
from convbench.select.model import Model, Rates

LAYER = "mb1ic64ih14oc64kh3ph1"
TINY = "mb1ic2ih6iw7oc3kh3kw3"
FILES = (known.MODEL, known.KNOWN)


pytestmark = pytest.mark.usefixtures("own_data")


def default() -> Model:
    return written.model_from(known.DEFAULT.read_bytes(), None)


def times(*names: str, seconds: float = 1e-5) -> dict[str, Times]:
    return {name: Times(seconds, (seconds,), 1e-5) for name in names}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["pipe", "endless device", "folder", "loop", "too large"])
def test_what_is_no_file_to_read_is_named_in_a_warning(name, what):
    place = known.folder() / name
    place.parent.mkdir(parents=True)
    if what == "pipe":
        os.mkfifo(place)
    elif what == "endless device":
        place.symlink_to("/dev/zero")
    elif what == "folder":
        place.mkdir()
    elif what == "loop":
        place.symlink_to(place)
    else:
        place.touch()
        os.truncate(place, known.LARGEST + 1)
    with pytest.warns(RuntimeWarning, match=f"{name} is not used: it (is|has|cannot be read)"):
        assert choose(LAYER).source == "default"


@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "too large"])
def test_measurements_that_are_no_file_are_none(what):
    place = known.folder() / known.MEASURED
    place.parent.mkdir(parents=True)
    if what == "pipe":
        os.mkfifo(place)
    elif what == "folder":
        place.mkdir()
    elif what == "loop":
        place.symlink_to(place)
    else:
        place.touch()
        os.truncate(place, remembering.LARGEST + 1)
    assert remembering.lines() == []
    if what != "too large":
        with pytest.raises(UnavailableError, match="cannot be written"):
            remembering.append(remembering.line(Problem.parse(TINY), times("direct/serial/1"), "tune"))


def test_without_a_home_nothing_is_looked_for_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: Path("data/convbench"))  # as of old versions
    place = Path("data/convbench") / known.folder().name / known.MODEL
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(written.model_to(default(), known.fingerprint())))
    assert choose(LAYER).source == "default"
    with pytest.raises(UnavailableError, match="set HOME or XDG_DATA_HOME"):
        known.save(known.KNOWN, {})
    with pytest.raises(UnavailableError, match="set HOME or XDG_DATA_HOME"):
        remembering.append({})


def test_a_model_without_any_problem_chooses():
    empty = Model(
        {name: Rates({"call": 1e-6}, {}, (-0.1, 0.1)) for name in ("direct/serial/1", "direct/threads/2")},
        (),
        np.zeros((0, 11)),
        {name: np.zeros(0) for name in ("direct/serial/1", "direct/threads/2")},
    )
    known.save(known.MODEL, written.model_to(empty, known.fingerprint()))
    choice = choose(LAYER)
    assert choice.source == "default"
    assert choice.algorithm == "direct"


def test_a_model_with_places_that_are_none_is_refused():
    data = written.model_to(default(), known.fingerprint())
    data["points"][3] = [None] * len(data["points"][3])
    known.save(known.MODEL, data)
    with pytest.warns(RuntimeWarning, match="null among its points"):
        choice = choose(LAYER)
    assert choice.predicted_seconds > 0


def test_a_candidate_with_a_number_of_cores_that_is_none_is_somebody_elses():
    data = written.model_to(default(), known.fingerprint())
    for name in ("direct/serial/" + "9" * 5000, "direct/serial/0", "direct/threads/\N{ARABIC-INDIC DIGIT TWO}"):
        data["rates"][name] = data["rates"]["direct/serial/1"]
        data["corrections"][name] = data["corrections"]["direct/serial/1"]
    known.save(known.MODEL, data)
    assert choose(LAYER, cores=1).source == "model"


def test_measured_problems_that_are_none_are_left_out():
    line = remembering.line(Problem.parse(TINY), times("direct/serial/1"), "tune")
    remembering.append({**line, "problem": "nonsense"})
    remembering.append({**line, "samples": {}, "problem": LAYER})
    remembering.append(line)
    assert tuning.refit().problems == 1
    known.save(known.KNOWN, written.seconds_to({"nonsense": {"a": 1.0}, TINY: {"a": 1.0}}, known.fingerprint()))
    assert [str(problem) for problem in tuned_table().problems] == [str(Problem.parse(TINY))]


@pytest.mark.parametrize("value", ["true", "1e-300", "1e12", "0", "-1", "null", '"1"'])
def test_measured_seconds_that_are_none_are_refused(value):
    text = '{"schema": 1, "machine": {}, "seconds": {"ic1": {"direct/serial/1": %s}}}' % value  # noqa: UP031
    with pytest.raises(ValueError, match="no seconds for 'ic1'"):
        written.seconds_from(text.encode(), None)


def test_reading_in_many_threads_swallows_no_later_warning(monkeypatch):
    import threading
    import time

    known.save(known.MODEL, {"schema": 7})
    usable = known.usable

    def slowly(*arguments, **options):
        time.sleep(0.02)
        return usable(*arguments, **options)

    monkeypatch.setattr(known, "usable", slowly)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = warnings._showwarnmsg_impl  # what a recorder replaces
        threads = [threading.Thread(target=choose, args=(f"ic{number}ih9oc8kh3",)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
            time.sleep(0.005)
        for thread in threads:
            thread.join()
        assert warnings._showwarnmsg_impl is shown


def test_a_model_that_knows_one_core_alone_leaves_the_others_in_play(monkeypatch):
    monkeypatch.setattr("convbench.select.choosing.allowed_cores", lambda _cores: 2)
    monkeypatch.setattr("convbench.machine.usable_cores", lambda: 2)
    whole = default()
    serial = [name for name in whole.rates if "/serial/" in name]
    one_core = Model(
        {name: whole.rates[name] for name in serial},
        whole.problems,
        whole.points,
        {name: whole.corrections[name] for name in serial},
    )
    known.save(known.MODEL, written.model_to(one_core, known.fingerprint()))
    choice = choose("mb1ic256ih56oc256kh3ph1")
    assert choice.cores == 2
    assert choice.source == "default"
    assert "not measured on this machine" in choice.explain()


def test_on_a_slower_machine_than_the_models_what_was_measured_is_chosen(monkeypatch):
    few = [each.candidate for each in choose(LAYER).ranked[:4]]
    predicted = {name_of(each.candidate): each.seconds for each in choose(LAYER).ranked[:4]}

    def slowly(_problem: Problem, candidates: list[Candidate], _seconds: float) -> dict[str, Times]:
        assert candidates == few
        return {name: Times(50 * seconds, (50 * seconds,), 0.0) for name, seconds in predicted.items()}

    monkeypatch.setattr("convbench.select.measuring.measure", slowly)
    choice = choose(LAYER, measure=True)
    assert choice.source == "measured"
    assert choice.candidate in few


def test_a_candidate_is_unknown_where_none_of_its_work_was_measured():
    stride, dense = Problem.parse("mb1ic3ih65oc8kh3sh2"), Problem.parse(LAYER)
    names = ["A", "unrolled/serial/1"]
    model = Model(
        {"A": Rates({"call": 1e-6}, {}, (-0.1, 0.1)), names[1]: Rates({"gathered bytes": 1e-9}, {}, (-0.1, 0.1))},
        (),
        np.zeros((0, 11)),
        {name: np.zeros(0) for name in names},
    )
    assert model.predict(stride, names).keys() == set(names)
    assert model.predict(dense, names).keys() == {"A"}


def test_packing_that_a_sweep_says_nothing_of_is_unknown():
    problems = [Problem.parse(LAYER), Problem.parse(TINY)]
    seconds = {"direct/serial/1": [1e-3, 1e-5]}
    assert fit(problems, seconds, {"direct/serial/1": [0.0, 0.0]}).packing(problems[0], "direct/serial/1") == 0
    assert fit(problems, seconds, {"direct/serial/1": [0.0, 1e-4]}).packing(problems[1], "direct/serial/1") > 0


def test_one_problem_or_one_contender_is_fitted():
    one = Problem.parse(LAYER)
    for seconds in ({"direct/serial/1": [1e-3]}, {"A": [1e-3], "B": [2e-3]}, {"A": [1e-3], "B": [np.nan]}):
        model = fit([one], seconds)
        estimates = model.predict(one, seconds)
        assert estimates
        for name, estimate in estimates.items():
            assert estimate.seconds == pytest.approx(seconds[name][0], rel=0.5)


def test_a_form_is_not_counted_where_it_cannot_compute():
    inexact, plain = Problem.parse("mb1ic8192ih32oc8kh15"), Problem.parse(LAYER)
    model = fit([inexact, plain], {"winograd/serial/1": [np.nan, 1e-3], "direct/serial/1": [1.0, 2e-3]})
    assert model.predict(plain, ["winograd/serial/1"])["winograd/serial/1"].seconds > 0
