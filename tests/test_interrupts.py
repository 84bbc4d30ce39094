"""Interrupts, alarms and calls from signal handlers at any moment: later calls are right, and nothing is left over."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

import numpy as np
import psutil
import pytest
from callers import HOST, PROBLEM, bound, inputs_and_outputs, is_struck, needs_fork
from conftest import DEADLINE, Struck, data, script, wait_until

from convbench.errors import UnavailableError
from convbench.executors import driver
from convbench.executors import pool as pool_module
from convbench.executors import threads as threads_module
from convbench.executors.pool import pool
from convbench.executors.pool_line import Worker


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("executor", HOST)
def test_calls_after_an_alarm_at_any_moment_are_right(executor):
    moments = np.random.default_rng(0)
    with bound(executor) as one, bound(executor, "winograd") as other:
        pairs, others = inputs_and_outputs(one, 3), inputs_and_outputs(other, 3)
        out = one.empty_output()
        for number in range(300):
            x, expected = pairs[number % 3]
            assert is_struck(moments.uniform(1e-6, 1e-3), partial(one, x, out))
            x, expected = others[number % 3]
            assert np.array_equal(other(x), expected)
            x, expected = pairs[number % 3]
            assert np.array_equal(one(x, out), expected)
        assert len(pool()._workers) <= 2


@pytest.mark.parametrize("executor", HOST)
def test_a_signal_handler_may_call_the_plan_that_it_interrupts(executor):
    with bound(executor) as one:
        (x, expected), (x2, expected2) = inputs_and_outputs(one, 2)
        inside: list[bool] = []

        def call_once_more(*_: object) -> None:
            inside.append(np.array_equal(one(x2), expected2))
            signal.setitimer(signal.ITIMER_REAL, 1e-3)  # not before, or a busy machine is never done with handlers

        before = signal.signal(signal.SIGALRM, call_once_more)
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-3)
            deadline = time.monotonic() + DEADLINE
            while len(inside) < 100:
                assert time.monotonic() < deadline
                assert np.array_equal(one(x), expected)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert all(inside)


def test_an_interrupt_of_the_terminal_does_not_reach_the_workers():
    x, _ = data(PROBLEM)
    with bound("processes") as one:
        expected, pids = one(x), one.pids
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        np.testing.assert_array_equal(one(x), expected)
        assert one.pids == pids


def test_a_plan_outlives_its_workers():
    """A worker that dies costs a call; the plan, and every other one, starts new workers with the next."""
    x, _ = data(PROBLEM)
    with bound("processes") as one, bound("processes", "winograd") as other:
        expected, others = one(x), other(x)
        os.kill(one.pids[1], signal.SIGKILL)
        with pytest.raises(UnavailableError, match="is gone"):
            one(x)
        np.testing.assert_array_equal(other(x), others)
        np.testing.assert_array_equal(one(x), expected)


@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("executor", HOST)
def test_nothing_is_written_once_an_interrupted_call_has_ended(executor):
    moments = np.random.default_rng(1)
    with bound(executor) as one:
        [(x, _)] = inputs_and_outputs(one, 1)
        out = one.empty_output()
        for _ in range(100):
            assert is_struck(moments.uniform(1e-6, 1e-3), partial(one, x, out))
            out.fill(7)
            assert (one(x) != 7).all()
            assert (out == 7).all()


def test_a_call_in_the_middle_of_a_message_leaves_the_outer_one_its_answer(monkeypatch):
    """The handler runs when the outer request has its number and is not yet sent, and makes requests of its own."""
    with bound("processes") as one:
        (x, expected), (x2, expected2) = inputs_and_outputs(one, 2)
        out, send, inner = one.empty_output(), Worker._send, []

        def call_once_more(worker: Worker, message: bytes, *fds: int) -> None:
            if message[:1] == b"r" and not inner:
                inner.append(None)
                inner[0] = one(x2).copy()
            send(worker, message, *fds)

        monkeypatch.setattr(Worker, "_send", call_once_more)
        for _ in range(5):
            inner.clear()
            out.fill(np.nan)
            assert np.array_equal(one(x, out), expected)
            assert np.array_equal(inner[0], expected2)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_one_call_at_a_time_has_the_cores(executor, monkeypatch):
    inside, most = [0], [0]

    def counted(compute: Any) -> Any:
        def call(*arguments: object, **more: object) -> object:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            try:
                return compute(*arguments, **more)
            finally:
                inside[0] -= 1

        return call

    if executor == "processes":
        monkeypatch.setattr(pool_module.Pool, "_carry_out", counted(pool_module.Pool._carry_out))
    else:
        monkeypatch.setattr(threads_module.ThreadsRunner, "_on_pool", counted(threads_module.ThreadsRunner._on_pool))
    with bound(executor) as one:
        pairs = inputs_and_outputs(one, 3)
        switched = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            callers = [threading.Thread(target=lambda p=pair: [one(p[0]) for _ in range(30)]) for pair in pairs]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        finally:
            sys.setswitchinterval(switched)
    assert most == [1]


@pytest.mark.usefixtures("alarms")
def test_workers_do_no_more_than_their_unit_of_an_interrupted_call(monkeypatch):
    with bound("processes") as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        [space] = one._runner._idle
        wait = Worker.wait

        def strike(*_: object) -> str:
            monkeypatch.setattr(Worker, "wait", wait)
            raise Struck

        monkeypatch.setattr(Worker, "wait", strike)
        with pytest.raises(Struck):
            one(x)
        assert min(space.counters[:: driver.COUNTER]) >= one._runner._work.phases[0].units
        assert one._runner._idle == [space], "by now nobody claims from it"
        assert np.array_equal(one(x), expected)


@pytest.mark.usefixtures("alarms")
def test_an_interrupt_while_workers_are_started_loses_none(monkeypatch):
    started, begun, go_on = [], threading.Event(), threading.Event()
    start = pool_module.Pool._start_worker

    def slowly(one: pool_module.Pool) -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        start(one)
        started.append(one._workers[-1].pid)

    with bound("processes") as plan:
        [(x, expected)] = inputs_and_outputs(plan, 1)
        pool().stop(kill=True)
        monkeypatch.setattr(pool_module.Pool, "_start_worker", slowly)
        main = threading.main_thread().ident
        threading.Thread(target=lambda: (begun.wait(), signal.pthread_kill(main, signal.SIGALRM))).start()
        with pytest.raises(Struck):
            plan(x)
        go_on.set()
        wait_until(lambda: len(started) == 1, DEADLINE)
        assert np.array_equal(plan(x), expected)
        assert set(started) == set(plan.pids)
        children = psutil.Process().children()
        assert {child.pid for child in children if child.pid in started and child.status() != "zombie"} == set(started)


IN_A_CHILD = """
    import os, signal, sys
    import numpy as np
    from convbench import Problem, plan
    problem = Problem(height=60, width=89, channels=2, out_channels=20, kernel_height=5, kernel_width=5)
    random = np.random.default_rng(0)
    w = random.standard_normal(problem.weights_shape).astype("f4")
    xs = [random.standard_normal(problem.input_shape).astype("f4") for _ in range(3)]
    one = plan(problem, w, algorithm="direct", executor="threads", cores=2)
    expected = [one(x).copy() for x in xs]
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1])
        sys.exit()
    class Struck(Exception): pass
    def strike(*_): raise Struck
    signal.signal(signal.SIGALRM, strike)
    out, wrong = one.empty_output(), 0
    for number in range(int(sys.argv[1])):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))
            while True: one(xs[number % 3], out)
        except Struck: pass
        later = (number + 1) % 3
        wrong += not np.allclose(one(xs[later], np.full(problem.output_shape, 7, "f4")), expected[later], atol=1e-4)
    os._exit(min(wrong, 100))
"""


@needs_fork
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_in_a_forked_child_calls_after_an_alarm_are_right(count):
    """There the units are filled on Python's threads."""
    done = script(IN_A_CHILD, count)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


@pytest.mark.long
@pytest.mark.usefixtures("alarms")
@pytest.mark.parametrize("executor", HOST)
def test_ten_thousand_interrupts_leave_nothing_behind(executor):
    moments = np.random.default_rng(2)
    process = psutil.Process()
    with bound(executor) as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        out, memory, children, files = one.empty_output(), 0, 0, 0
        for number in range(10_000):
            if number == 1000:  # by now all is there that stays
                memory, children, files = process.memory_info().rss, len(process.children()), process.num_fds()
            assert is_struck(moments.uniform(1e-6, 3e-4), partial(one, x, out if number % 2 else None))
            assert np.array_equal(one(x, out), expected)
        assert process.memory_info().rss < memory + 2**24
        assert len(process.children()) <= children
        assert process.num_fds() <= files
