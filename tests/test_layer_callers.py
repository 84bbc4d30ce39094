"""`Conv2d` and `conv2d` under any caller: threads and processes together, forks, interrupts, signal handlers."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import psutil
import pytest
from callers import is_struck, needs_fork
from conftest import DEADLINE, Struck, data, script

import convbench
from convbench import Conv2d
from convbench.layer import given_weights, operation
from convbench.problem import Problem

PROBLEM = Problem(height=30, width=41, channels=2, out_channels=10, kernel_height=5, kernel_width=5)
X, W = data(PROBLEM)

UNCLOSED = "ignore:.*FileIO:pytest.PytestUnraisableExceptionWarning"  # an interrupt between `open` and `with`

MIXED = """
    import random, sys, threading, time
    import numpy as np, psutil
    import convbench
    from convbench.layer import given_weights
    seconds, rng = float(sys.argv[1]), np.random.default_rng(0)
    def array(*shape): return rng.standard_normal(shape).astype("f4")
    banks = [array(10, 3, 3, 3), array(16, 3, 5, 5), array(4, 3, 1, 1), array(8, 3, 7, 7)]
    fixed = [bank.copy() for bank in banks]
    for bank in fixed: bank.setflags(write=False)
    bias = [array(len(bank)) for bank in banks]
    layers = [convbench.Conv2d(bank, b, padding=1, plans=3) for bank, b in zip(banks, bias)]
    closing = [convbench.Conv2d(bank, b, padding=1, cores=1, plans=2) for bank, b in zip(banks, bias)]
    images = [array(3, 8 + 3 * n, 9 + 2 * n) for n in range(6)] + [array(2, 3, 12, 12), array(1, 3, 30, 10)]
    def compute(way, n, x):
        if way == 0: return layers[n](x)
        if way == 1: return closing[n](x)
        if way == 2: return convbench.conv2d(x, fixed[n], bias[n], padding=1)
        if way == 3: return convbench.conv2d(x, banks[n], bias[n], padding=1, cores=1)
        if way == 4: return convbench.Conv2d(fixed[n], bias[n], padding=1, cores=1)(x)
        own = fixed[n].copy()
        own.setflags(write=False)
        return convbench.conv2d(x, own, bias[n], padding=1, cores=1)
    expected = [[convbench.conv2d(x, b, c, padding=1, algorithm="naive") for x in images] for b, c in zip(banks, bias)]
    wrong, calls, stop = [], [0] * 8, False
    def work(number):
        draw = random.Random(number)
        while not (stop or wrong):
            way, n, image = draw.randrange(6), draw.randrange(len(banks)), draw.randrange(len(images))
            try:
                y = compute(way, n, images[image])
                if not np.allclose(y, expected[n][image], atol=1e-3): wrong.append((way, n, image))
            except BaseException as error:
                wrong.append(error)
            calls[number] += 1
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads: thread.start()
    while sum(calls) < 800 and not wrong: time.sleep(0.01)  # by now all is there that stays
    before = psutil.Process().memory_info().rss
    time.sleep(seconds)
    stop = True
    for thread in threads: thread.join()
    grown = psutil.Process().memory_info().rss - before
    kept = [len(layer._plans) for layer in layers], [len(layer._plans) for layer in closing]
    print(f"{sum(calls)} calls, {grown / 2**20:.1f} MiB more", file=sys.stderr)
    print(wrong, grown < 2**24, max(kept[0]) <= 3, max(kept[1]) <= 2, len(given_weights._given) <= 4 + 8)
"""


@pytest.mark.long
def test_eight_threads_in_two_processes_compute_rightly_in_bounded_memory():
    with ThreadPoolExecutor(2) as threads:
        for done in threads.map(partial(script, MIXED), [60] * 2):
            assert (done.stdout, done.returncode) == ("[] True True True True\n", 0), done.stderr


FORKED = """
    import os, sys, threading
    import numpy as np
    import convbench
    rng = np.random.default_rng(0)
    w = rng.standard_normal((10, 2, 5, 5)).astype("f4")
    xs = [rng.standard_normal((2, 20 + n, 30)).astype("f4") for n in range(9)]
    fixed = w.copy()
    fixed.setflags(write=False)
    layer = convbench.Conv2d(w, cores=2, plans=4)
    expected = [convbench.conv2d(x, w, algorithm="naive") for x in xs]
    stop, wrong = False, []
    def right(n):
        found = layer(xs[n]), convbench.conv2d(xs[n], fixed, cores=2)
        return all(np.allclose(y, expected[n], atol=1e-3) for y in found)
    def busy(first):
        n = first
        while not stop:
            n = (n + 1) % len(xs)
            if not right(n): wrong.append(n)
    threads = [threading.Thread(target=busy, args=(first,)) for first in (0, 3, 6)]
    for thread in threads: thread.start()
    failed = 0
    for _ in range(int(sys.argv[1])):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(map(right, range(len(xs)))) and len(layer._plans) <= 4 else 1)
        failed += os.waitpid(child, 0)[1] != 0
    stop = True
    for thread in threads: thread.join()
    print(failed, wrong, all(map(right, range(len(xs)))))
"""


@needs_fork
@pytest.mark.parametrize("forks", [3, pytest.param(50, marks=pytest.mark.long)])
def test_a_fork_while_plans_are_made_and_called_leaves_no_lock_behind(forks):
    """Three threads make, drop and call plans; each child has those that its parent had, and makes others."""
    done = script(FORKED, forks)
    assert (done.stdout, done.returncode) == ("0 [] True\n", 0), done.stderr


def _of_new_shapes() -> Callable[[], object]:
    """A call that makes a plan almost every time."""
    layer, weights, number = Conv2d(W, plans=3), W.copy(), [0]
    weights.setflags(write=False)

    def call() -> None:
        number[0] += 1
        x = X[:, : 10 + number[0] % 9]
        assert layer(x).shape == convbench.conv2d(x, weights).shape
        if number[0] % 5 == 0:
            given_weights._given.clear()

    return call


@pytest.mark.usefixtures("alarms")
@pytest.mark.filterwarnings(UNCLOSED)
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.long)])
def test_an_interrupt_while_plans_are_made_costs_its_call_alone(count):
    layer, weights, call = Conv2d(W, plans=3), W.copy(), _of_new_shapes()
    weights.setflags(write=False)
    call()
    expected, moments = layer(X), np.random.default_rng(0)
    np.testing.assert_array_equal(convbench.conv2d(X, weights), expected)
    for _ in range(count):
        assert is_struck(moments.uniform(1e-6, 5e-3), call)
        np.testing.assert_array_equal(layer(X), expected)
        np.testing.assert_array_equal(convbench.conv2d(X, weights), expected)
        call()
        assert threading.Thread(target=call).start() is None
    assert len(layer._plans) <= 3


@pytest.mark.usefixtures("alarms")
def test_an_interrupt_in_the_making_of_a_plan_leaves_it_to_the_next_call(monkeypatch):
    layer, make = Conv2d(W), operation.Plan

    def strike(*_: object, **__: object) -> None:
        monkeypatch.setattr(operation, "Plan", make)
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(operation, "Plan", strike)
    with pytest.raises(Struck):
        layer(X)
    assert len(layer._plans) == 0
    found: list[np.ndarray] = []
    other = threading.Thread(target=lambda: found.append(layer(X)))  # a lock that was left would stop it
    other.start()
    other.join(DEADLINE)
    np.testing.assert_array_equal(found[0], layer(X))


def test_a_signal_handler_may_call_the_layer_that_makes_a_plan(monkeypatch):
    layer, make, inside = Conv2d(W), operation.Plan, []
    expected = convbench.conv2d(X, W)

    def once_more(*_: object) -> None:
        inside.append(layer(X))

    def interrupted(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(operation, "Plan", make)
        signal.raise_signal(signal.SIGALRM)
        return make(*arguments, **options)

    monkeypatch.setattr(operation, "Plan", interrupted)
    before = signal.signal(signal.SIGALRM, once_more)
    try:
        np.testing.assert_array_equal(layer(X), expected)
    finally:
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(inside[0], expected)
    assert len(layer._plans) == 1


@pytest.mark.long
def test_layers_that_come_and_go_take_no_more_memory():
    """Each has plans of 2 MiB or more."""
    weights, x = np.ones((128, 128, 3, 3), np.float32), np.ones((128, 8, 8), np.float32)
    process, before, gone = psutil.Process(), 0, []
    for number in range(60):
        layer = Conv2d(weights, cores=1)
        layer(x)
        fixed = weights.copy()
        fixed.setflags(write=False)
        convbench.conv2d(x, fixed, cores=1)
        gone.append(weakref.ref(layer))
        if number == 20:
            before = process.memory_info().rss
    del layer, fixed
    gc.collect()
    assert all(reference() is None for reference in gone)
    assert process.memory_info().rss - before < 2**24


@pytest.mark.long
@pytest.mark.usefixtures("alarms")
@pytest.mark.filterwarnings(UNCLOSED)
def test_thousands_of_interrupts_leave_nothing_behind():
    call, moments, process = _of_new_shapes(), np.random.default_rng(1), psutil.Process()
    begin, memory = time.monotonic(), 0
    for number in range(4000):
        if number == 1000:
            memory = process.memory_info().rss
        assert is_struck(moments.uniform(1e-6, 2e-3), call)
        if time.monotonic() - begin > DEADLINE / 2 and memory:
            break
    call()
    assert process.memory_info().rss < memory + 2**24
