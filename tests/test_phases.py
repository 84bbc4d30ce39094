"""Work of several phases under any caller, on every executor of the host."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callers import HOST, PROBLEM, inputs_and_outputs, is_struck, needs_fork
from conftest import Struck, data
from noted import NOTES

from convbench.algorithms import naive
from convbench.epilogue import NO_EPILOGUE
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS, driver
from convbench.executors import threads as threads_module
from convbench.executors.pool import Pool, pool
from convbench.executors.pool_line import Worker
from convbench.kernels import tile
from convbench.kernels.tile import FunctionName, Phase, TileName, Work, jit
from convbench.plans import Plan, forms, plan
from convbench.plans.work import prepared
from convbench.problem import Problem


def in_two_phases(executor: str) -> Plan:
    """A plan whose second phase adds the bias to what the first one left in the output."""
    cores = 2 if EXECUTORS[executor].scales else 1
    bias = np.arange(PROBLEM.out_channels) - 3.0
    found = plan(
        PROBLEM, data(PROBLEM)[1], algorithm="naive", executor=executor, cores=cores, bias=bias, activation="relu"
    )
    assert len(found._runner._work.phases) == 2
    return found


def with_changed_work(monkeypatch: pytest.MonkeyPatch, change: Callable[[Work], Work]) -> None:
    """Have plans run another work than their form's."""
    monkeypatch.setattr(forms, "prepared", lambda *given: change(prepared(*given)))


@pytest.mark.parametrize("executor", HOST)
def test_four_threads_may_call_one_plan(executor):
    with in_two_phases(executor) as one:
        pairs = inputs_and_outputs(one, 4)

        def wrong(number: int) -> int:
            x, expected = pairs[number]
            return sum(not np.array_equal(one(x), expected) for _ in range(30))

        with ThreadPoolExecutor(4) as callers:
            assert list(callers.map(wrong, range(4))) == [0] * 4


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("executor", [*HOST, "forked threads"])
def test_calls_after_an_alarm_in_any_phase_are_right_and_nothing_is_written_after_it(executor, monkeypatch):
    moments = np.random.default_rng(2)
    with in_two_phases(executor.split()[-1]) as one:
        pairs = inputs_and_outputs(one, 2)
        if executor == "forked threads":
            monkeypatch.setattr(threads_module._process, "is_forked", True)
        out = one.empty_output()
        for number in range(100):
            x, expected = pairs[number % 2]
            assert is_struck(moments.uniform(1e-6, 4e-3), partial(one, x, out))
            out.fill(7)
            assert np.array_equal(one(x), expected)
            assert (out == 7).all()


@needs_fork
@pytest.mark.parametrize("executor", HOST)
def test_a_forked_child_computes_every_phase(executor):
    with in_two_phases(executor) as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        child = os.fork()
        if child == 0:
            right = False
            try:
                right = all(np.array_equal(one(x), expected) for _ in range(5))
            finally:
                pool().stop()
                os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert np.array_equal(one(x), expected)


# -- set-up -------------------------------------------------------------------------------------------------------


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """Plans whose processes note that they were set up; who has."""
    notes = tmp_path / "notes"
    notes.touch()
    monkeypatch.setenv(NOTES, str(notes))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    pool().stop()  # workers that are started from now on find the module
    set_up = FunctionName("noted", "note")
    with_changed_work(monkeypatch, lambda work: dataclasses.replace(work, set_up=set_up))
    yield lambda: sorted(map(int, notes.read_text().split()))
    pool().stop()
    tile._SET_UP.discard(set_up)


def test_each_worker_process_is_set_up_once_and_so_is_the_one_that_takes_its_place(noted):
    with in_two_phases("processes") as one, in_two_phases("processes") as other:
        [(x, _)] = inputs_and_outputs(one, 1)
        other(x)
        assert noted() == sorted(one.pids)
        before = one.pids
        os.kill(before[0], signal.SIGKILL)
        with pytest.raises(UnavailableError, match="is gone"):
            one(x)
        one(x)
        assert noted() == sorted({*before, *one.pids})


@needs_fork
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_forked_child_is_set_up_before_it_computes(executor, noted):
    with in_two_phases(executor) as one:
        [(x, _)] = inputs_and_outputs(one, 1)
        assert noted() == [os.getpid()]
        child = os.fork()
        if child == 0:
            try:
                one(x)
                one(x)
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert noted() == sorted([os.getpid(), child])


# -- shortage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [2**45, 2**61, 2**62])
@pytest.mark.parametrize("executor", HOST)
def test_a_workspace_for_which_there_is_no_memory_is_one_clear_error(executor, elements, monkeypatch):
    with_changed_work(monkeypatch, lambda work: dataclasses.replace(work, workspace_size=elements))
    with pytest.raises(UnavailableError, match="memory"):
        in_two_phases(executor)
    monkeypatch.undo()
    with in_two_phases(executor) as one:
        one(data(PROBLEM)[0])


@pytest.mark.parametrize("executor", HOST)
def test_a_call_for_which_there_is_no_memory_is_one_clear_error(executor, monkeypatch):
    with in_two_phases(executor) as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        idle, one._runner._idle = one._runner._idle, []  # as in the middle of another call
        error = OSError(12, "Cannot allocate memory") if executor == "processes" else MemoryError()

        def refuse(*_: object) -> None:
            raise error

        for place in ("memory.shared_together", "driver.new_workspace"):
            monkeypatch.setattr(f"convbench.executors.{place}", refuse)
        with pytest.raises(UnavailableError, match="memory"):
            one(x)
        monkeypatch.undo()
        one._runner._idle = idle
        assert np.array_equal(one(x), expected)


def test_more_phases_than_a_message_holds_are_one_clear_error(monkeypatch):
    def many(work: Work) -> Work:
        return dataclasses.replace(work, phases=(work.phases[0],) + 400 * (work.phases[1],))

    with_changed_work(monkeypatch, many)
    bias = np.ones(PROBLEM.out_channels)
    bind: Callable[..., Plan] = partial(plan, PROBLEM, data(PROBLEM)[1], algorithm="naive", bias=bias, cores=2)
    with pytest.raises(UnavailableError, match="401 phases are more than a message to a worker process holds"):
        bind(executor="processes")
    x, _ = data(PROBLEM)
    with bind(executor="threads") as one, bind(executor="serial", cores=1) as other:
        np.testing.assert_array_equal(one(x), other(x))


# -- interrupts ---------------------------------------------------------------------------------------------------


def test_a_second_interrupt_while_the_first_breaks_off_the_call_leaves_nobody_computing(monkeypatch):
    """Workers that went on would claim units of the next call, and fill them in this one's output."""
    wait = Worker.wait

    def strike(*_: object) -> str:
        monkeypatch.setattr(Worker, "wait", wait)
        raise KeyboardInterrupt

    def strike_again(*_: object) -> None:
        raise Struck

    with in_two_phases("processes") as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        call = Pool.call

        def struck_twice(*given: Any, **more: Any) -> None:
            call(*given, **{**more, "cancel": strike_again})

        monkeypatch.setattr(Worker, "wait", strike)
        monkeypatch.setattr(Pool, "call", struck_twice)
        with pytest.raises(Struck):
            one(x)
        monkeypatch.undo()
        assert not pool()._workers
        assert np.array_equal(one(x), expected)


def test_a_worker_computes_its_own_share_first_and_then_those_of_others():
    """One of two workers, alone: it takes over what the other has not claimed."""
    problem = Problem.parse("mb4ic1ih6iw7oc5kh3kw3")
    x, weights = data(problem)
    work = naive.prepare(problem, weights, NO_EPILOGUE)
    loaded, claim = driver.load_phases(work.phases, work.first_stages, "float32"), driver.compiled_claim("float32")
    [phase], expected = work.phases, plan(problem, weights, algorithm="naive")(x)

    def computed(*claimed_by_others: int) -> np.ndarray:
        """Whether each image was computed by worker 1, where shares of units were claimed before."""
        out, counters = np.full(problem.output_shape, np.nan, np.float32), driver.new_counters(1, 2)[0]
        for worker in claimed_by_others:
            counters[worker * driver.COUNTER] = phase.units
        own = driver.new_workspace(work), driver.new_scratch(work, 1)[0], driver.new_clock(1)[0]
        claim(loaded.table[0], x, work.weights, out, loaded.parameters, *own, counters, 1)
        done = np.isfinite(out).all(axis=(1, 2, 3))
        assert np.array_equal(out[done], expected[done])
        return done.tolist()

    assert computed() == [True, True, True, True]
    assert computed(0) == [False, False, True, True]
    assert computed(1) == [True, True, False, False]
    assert computed(0, 1) == [False, False, False, False]


@jit
def note(x, weights, out, parameters, workspace, scratch, clock, first, last):  # noqa: ARG001  # those of a tile
    """A tile that adds to the output of each unit how many units it is called for."""
    out.reshape(out.size)[first:last] += last - first


@pytest.mark.parametrize(
    ("together", "expected"), [(1, [1] * 12), (4, [3, 3, 3, 1, 1, 1] * 2), (2, [2, 2, 2, 2, 1, 1] * 2)]
)
def test_units_are_claimed_together_half_of_what_is_left_at_a_time_and_each_once(together, expected):
    work = Work(
        (Phase(TileName(__name__, "note"), 12, np.zeros(1, np.int64), together=together),), np.zeros(1, "float32"), 1
    )
    loaded, claim = driver.load_phases(work.phases, work.first_stages, "float32"), driver.compiled_claim("float32")
    x = out = np.zeros((1, 1, 1, 12), np.float32)
    own = driver.new_workspace(work), driver.new_scratch(work, 1)[0], driver.new_clock(1)[0]
    claim(loaded.table[0], x, work.weights, out, loaded.parameters, *own, driver.new_counters(1, 2)[0], 0)
    assert out.ravel().tolist() == expected
    cancelled = driver.new_counters(1, 2)[0]
    cancelled.fill(12)
    claim(loaded.table[0], x, work.weights, out, loaded.parameters, *own, cancelled, 0)
    assert out.ravel().tolist() == expected


@jit
def tally(x, weights, out, parameters, workspace, scratch, clock, first, last):  # noqa: ARG001  # those of a tile
    """A tile that adds 1 to the output of each unit."""
    out.reshape(out.size)[first:last] += 1


@pytest.mark.parametrize("together", [1, 2, 3, 4, 7])
def test_shares_begin_between_units_that_are_claimed_together_and_have_each_unit_once(together):
    """Of as many workers as there are, one after another, the first of which leaves nothing to the others."""
    claim = driver.compiled_claim("float32")
    for units, workers in [(1, 1), (1, 5), (29, 3), (96, 2), (97, 3), (101, 5), (426, 16)]:
        phase = Phase(TileName(__name__, "tally"), units, np.zeros(1, np.int64), together=together)
        work = Work((phase,), np.zeros(1, "float32"), 1)
        loaded, x = driver.load_phases(work.phases, work.first_stages, "float32"), np.zeros((1, 1, 1, 1), np.float32)
        own = driver.new_workspace(work), driver.new_scratch(work, 1)[0], driver.new_clock(1)[0]
        out, counters = np.zeros((1, 1, 1, units), np.float32), driver.new_counters(1, workers)[0]
        for worker in reversed(range(workers)):
            claim(loaded.table[0], x, work.weights, out, loaded.parameters, *own, counters, worker)
        assert (out == 1).all(), (units, workers)


def test_one_worker_alone_claims_as_many_as_may_be_together():
    phase = Phase(TileName(__name__, "note"), 10, np.zeros(1, np.int64), together=4)
    work = Work((phase,), np.zeros(1, "float32"), 1)
    loaded, claim = driver.load_phases(work.phases, work.first_stages, "float32"), driver.compiled_claim("float32")
    x = out = np.zeros((1, 1, 1, 10), np.float32)
    own = driver.new_workspace(work), driver.new_scratch(work, 1)[0], driver.new_clock(1)[0]
    claim(loaded.table[0], x, work.weights, out, loaded.parameters, *own, driver.new_counters(1, 1)[0], 0)
    assert out.ravel().tolist() == [4] * 8 + [2] * 2
