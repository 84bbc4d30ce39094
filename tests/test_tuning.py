"""Tuning, with measurements that a test makes up: budgets, interrupts, what is kept, and what sweeps add."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import pytest

from convbench import machine
from convbench.errors import UnavailableError
from convbench.problem import Problem
from convbench.results.record import Record
from convbench.select import bursts, known, remembering, tuning
from convbench.select.calibration import Calibration
from convbench.select.choosing import choose
from convbench.select.contenders import name_of
from convbench.select.from_sweeps import learn, times_of
from convbench.select.measuring import Times

LAYER = "mb1ic64ih14oc64kh3ph1"


pytestmark = pytest.mark.usefixtures("own_data")


class Shares:
    """A calibration that tells what it is told to; by default every moment is fair."""

    told = ()

    def __init__(self, _cores):
        self._left = iter(self.told)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        pass

    def share(self):
        return next(self._left, 1.0)


@pytest.fixture
def measured(monkeypatch):
    """The problems that were measured, in time by a clock that counts seconds of the budget."""
    seen = []
    clock = itertools.count()

    def measure(problem, candidates, _seconds, _seed=0):
        seen.append(problem)
        each = problem.multiply_adds * 1e-11 + 1e-6
        return {name_of(one): Times(each / one.cores, (each / one.cores,), 1e-5) for one in candidates}

    monkeypatch.setattr(tuning, "measure", measure)
    monkeypatch.setattr(tuning, "Calibration", Shares)
    monkeypatch.setattr(tuning, "SURPRISING", math.inf)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: float(next(clock)))
    return seen


def interrupted_after(count):
    def on_progress(progress):
        if progress.problems >= count:
            raise KeyboardInterrupt

    return on_progress


def test_no_budget_measures_one_problem(measured):
    found = tuning.tune(0.0)
    assert len(measured) == found.measured == found.problems == 1
    assert found.path.exists()


def test_another_tuning_goes_on(measured):
    tuning.tune(5.0)
    again = tuning.tune(5.0)
    assert again.problems == len(measured) == len(set(measured))
    assert again.problems > again.measured


def test_an_interrupt_keeps_and_fits_what_was_measured(measured):
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(100.0, interrupted_after(3))
    assert len(remembering.lines()) == len(measured) == 3
    assert len(known.load().model.problems) == 3
    assert choose(measured[0]).source == "measured"


def test_a_problem_is_measured_again_where_the_cores_gave_little(measured, monkeypatch):
    monkeypatch.setattr(Shares, "told", (0.5, 0.99))
    tuning.tune(0.0)
    assert len(measured) == 2
    assert len(set(measured)) == len(remembering.lines()) == 1


def test_the_fairest_moment_counts_where_none_was_fair(measured, monkeypatch):
    monkeypatch.setattr(Shares, "told", (0.5, 0.7, 0.6))
    found = itertools.count(1)

    def measure(problem, candidates, _seconds, _seed=0):
        measured.append(problem)
        number = next(found)
        return {name_of(one): Times(float(number), (float(number),), 1e-5) for one in candidates}

    monkeypatch.setattr(tuning, "measure", measure)
    tuning.tune(0.0)
    assert len(measured) == 3
    assert {samples[0] for samples in remembering.lines()[0]["samples"].values()} == {2.0}


def test_what_the_model_does_not_believe_is_measured_again(measured, monkeypatch):
    """A candidate that took ten times as long as on all problems before, for as long as its plan lived.

    The model expects the times that this test makes up within a factor of three, on any processor.
    """
    tuning.tune(30.0)
    before, believable = len(measured), tuning.measure
    monkeypatch.setattr(tuning, "SURPRISING", math.log(4))

    def measure(problem, candidates, seconds, seed=0):
        times = believable(problem, candidates, seconds, seed)
        if len(measured) == before + 1:
            name = min(times, key=lambda each: times[each].seconds)
            times[name] = Times(10 * times[name].seconds, (10 * times[name].seconds,), 1e-5)
        return times

    monkeypatch.setattr(tuning, "measure", measure)
    tuning.tune(0.0)
    assert len(measured) == before + 2
    assert measured[-1] == measured[-2]
    usual = measured[-1].multiply_adds * 1e-11 + 1e-6
    for name, [kept] in remembering.lines()[-1]["samples"].items():
        assert kept == pytest.approx(usual / int(name.rpartition("/")[2]))


@pytest.mark.long
def test_what_was_disturbed_for_long_is_looked_at_again_once_a_model_tells(measured, monkeypatch):
    """One contender of an early problem takes three times as long whenever it is measured at first, and not later."""
    monkeypatch.setattr(tuning, "SURPRISING", math.log(4))
    right = tuning.measure

    def measure(problem, candidates, seconds, seed=0):
        times = right(problem, candidates, seconds, seed)
        if len(set(measured)) == 10:
            name = min(times, key=lambda each: times[each].seconds)
            times[name] = Times(10 * times[name].seconds, (10 * times[name].seconds,), 1e-5)
        return times

    monkeypatch.setattr(tuning, "measure", measure)
    tuning.tune(200.0)
    disturbed = list(dict.fromkeys(measured))[9]
    places = [place for place, one in enumerate(measured) if one == disturbed]
    assert max(places) >= tuning.REFIT > min(places)
    assert len(places) <= tuning.LOOKS
    work = disturbed.multiply_adds * 1e-11 + 1e-6
    for name, seconds in remembering.seconds(remembering.lines())[str(disturbed)].items():
        assert seconds == pytest.approx(work / int(name.rpartition("/")[2]))


@pytest.mark.long
def test_a_further_look_at_a_worse_moment_does_not_count(measured, monkeypatch):
    """Every moment of the first problem is unfair, the later ones more so."""

    class Worse(Shares):
        told = (0.7, 0.6, 0.5)

        def share(self):
            return next(self._left, None) or (0.1 if measured[-1] == measured[0] else 1.0)

    monkeypatch.setattr(tuning, "Calibration", Worse)
    tuning.tune(200.0)
    first = str(measured[0])
    assert measured.count(measured[0]) > tuning.ATTEMPTS
    assert [line["problem"] for line in remembering.lines()].count(first) == 1


@pytest.mark.long
@pytest.mark.parametrize("cores", [1, 2])
def test_a_calibration_tells_a_share_of_what_is_usual(cores):
    with Calibration(cores) as calibration:
        calibration.wait()
        assert calibration.share() == 1 if cores == 1 else calibration.share() > 0


def test_a_thread_that_ends_while_they_are_counted_hides_no_other(tmp_path, monkeypatch):
    for thread in range(8):
        (tmp_path / str(thread)).mkdir()
        if thread % 4:
            (tmp_path / str(thread) / "schedstat").write_text("9 1000000000 9\n")
    monkeypatch.setattr(bursts, "TASKS", tmp_path)
    assert bursts._waited() == 6
    monkeypatch.setattr(bursts, "TASKS", tmp_path / "nowhere")
    assert bursts._waited() == 0


def test_an_interrupt_before_anything_was_measured_is_an_interrupt(monkeypatch):
    def measure(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "measure", measure)
    monkeypatch.setattr(tuning, "Calibration", Shares)
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(100.0)
    assert known.load().is_default


def test_a_machine_without_memory_ends_with_its_budget(measured, monkeypatch):
    def measure(*_):
        raise UnavailableError("no memory")

    monkeypatch.setattr(tuning, "measure", measure)
    with pytest.raises(UnavailableError, match="nothing has been measured"):
        tuning.tune(5.0)
    assert not measured


def record(run: int, candidate: str, seconds: float, **fields: object) -> Record:
    algorithm, executor, cores = candidate.split("/")
    return Record(
        **{
            "run": run,
            "order": 0,
            "problem": LAYER,
            "algorithm": algorithm,
            "executor": executor,
            "cores": int(cores),
            "status": "ok",
            "samples": (seconds, 2 * seconds),
            **fields,
        }
    )


def test_the_runs_of_a_sweep_are_turns():
    records = [
        *(record(run, "direct/serial/1", seconds) for run, seconds in enumerate((1e-3, 2e-3, 1e-3))),
        record(0, "unrolled/serial/1", 2e-3),
        record(1, "unrolled/serial/1", 9e-3, flags=("drift",)),
        record(2, "unrolled/serial/1", 2e-3),
        record(0, "mkl/library/1", 1e-9, peer=True),
        record(0, "direct/processes/2", 1e-9),
    ]
    [(problem, times)] = times_of(records).items()
    assert problem == Problem.parse(LAYER)
    assert times["direct/serial/1"].samples == (1e-3, 2e-3, 1e-3)
    assert times["unrolled/serial/1"].samples == (2e-3, None, 2e-3)
    assert times.keys() == {"direct/serial/1", "unrolled/serial/1"}


def swept(cpu: str | None = None):
    header = {"spec": {}, "machine": {"cpu": cpu or machine.cpu_name()}}
    return SimpleNamespace(header=header, records=(record(0, "direct/serial/1", 1e-3),))


def test_only_a_tuned_machine_learns_from_sweeps(measured):
    assert learn(swept()) == 0
    tuning.tune(0.0)
    assert learn(swept("another one")) == 0
    assert learn(swept()) == 1
    assert json.loads((known.folder() / known.MEASURED).read_text().splitlines()[-1])["by"] == "sweep"
    assert len(known.load().model.problems) == len(measured) + 1


def test_a_sweep_ends_well_where_the_data_folder_cannot_be_looked_into(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/" + "x" * 300)  # as a folder without permission, for whoever may do anything
    assert learn(swept()) == 0
