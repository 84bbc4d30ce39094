"""Loading, compiling and starting run to completion, whatever signals, threads and forks come between."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, Struck, python, script, wait_until
from numba import int64
from numba.core.caching import IndexDataCacheFile

from convbench.kernels import cached as caching
from convbench.kernels.cached import cached
from convbench.kernels.tile import compile_for
from convbench.runtime import loading

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_what_a_function_returns_or_raises_passes_through():
    assert loading.run_to_completion(lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        loading.run_to_completion(lambda: 1 // 0)
    nested = loading.run_to_completion(loading.run_to_completion, threading.get_ident)
    assert nested != threading.get_ident(), "in one other thread"
    assert loading.load("json") is sys.modules["json"]


def test_where_no_thread_can_be_had_it_is_done_here(monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(loading._thread, "start_new_thread", refuse)
    assert loading.run_to_completion(threading.get_ident) == threading.get_ident()


@pytest.mark.usefixtures("alarms")
def test_an_interrupt_ends_the_wait_and_not_what_is_waited_for():
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        assert go_on.wait(DEADLINE)
        ended.set()

    def strike_when_it_has_begun() -> None:
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    threading.Thread(target=strike_when_it_has_begun).start()
    with pytest.raises(Struck):
        loading.run_to_completion(task)
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(DEADLINE)
    assert loading.run_to_completion(lambda: "the next") == "the next"


def test_a_handler_may_load_while_something_is_loaded():
    begun, found = threading.Event(), []

    def task() -> str:
        begun.set()
        wait_until(lambda: len(waiting) > 0, DEADLINE)
        return "outer"

    waiting: list[bool] = []

    def handle(*_: object) -> None:
        waiting.append(True)
        found.append(loading.run_to_completion(lambda: "inner"))

    before = signal.signal(signal.SIGALRM, handle)
    try:
        threading.Thread(target=lambda: (begun.wait(), signal.pthread_kill(main, signal.SIGALRM))).start()
        main = threading.main_thread().ident
        assert loading.run_to_completion(task) == "outer"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert found == ["inner"]


@needs_fork
def test_a_fork_waits_for_what_is_loaded_in_another_thread():
    begun, go_on = threading.Event(), threading.Event()
    state: list[str] = []

    def task() -> None:
        state.append("half")
        begun.set()
        assert go_on.wait(DEADLINE)
        state.append("whole")

    thread = threading.Thread(target=loading.run_to_completion, args=(task,))
    thread.start()
    begun.wait()
    threading.Timer(0.2, go_on.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0 if state == ["half", "whole"] and loading.run_to_completion(lambda: 1) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


PROGRAM = """
    import os, signal, sys, threading, time
    import numpy as np, convbench
    x = np.random.default_rng(0).random((2, 30, 41), np.float32)
    w = np.random.default_rng(1).random((10, 2, 5, 5), np.float32)
    class Struck(Exception): pass
    def compute(): return convbench.conv2d(x, w, cores=2)
    seen = []
"""
FORK = """
    child = os.fork()
    if child == 0:
        os._exit(0 if np.isfinite(compute()).all() else 1)
    print(os.waitpid(child, 0)[1] == 0)
    thread.join()
"""
FIRST_CALL_INTERRUPTED = """
    def strike(*_): raise Struck
    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    try:
        compute()
    except Struck:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(np.array_equal(compute(), compute()))
"""
FIRST_CALL_IN_A_HANDLER = """
    def call(*_): seen.append(compute())
    signal.signal(signal.SIGALRM, call)
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    found = compute()
    while not seen: pass
    print(np.array_equal(found, seen[0]) and np.array_equal(compute(), found))
"""
FORK_IN_THE_FIRST_CALL = (
    """
    thread = threading.Thread(target=compute); thread.start()
    time.sleep(float(sys.argv[1]))
"""
    + FORK
)


@needs_fork
@pytest.mark.parametrize("program", [FIRST_CALL_INTERRUPTED, FIRST_CALL_IN_A_HANDLER, FORK_IN_THE_FIRST_CALL])
@pytest.mark.parametrize(
    "moment",
    [0.2, *(pytest.param(moment, marks=pytest.mark.long) for moment in (0.002, 0.005, 0.01, 0.1, 0.3, 0.4, 0.6, 0.9))],
)
def test_the_first_call_of_a_process_may_be_interrupted_repeated_and_forked(program, moment):
    done = script(textwrap.dedent(PROGRAM) + textwrap.dedent(program), moment)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


FORK_WHILE_LOADING_IS_IMPORTED = (
    """
    begun = threading.Event()
    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == "convbench.runtime.loading": begun.set()
            if name in ("convbench.runtime.loading", "convbench.plans"): time.sleep(float(sys.argv[1]))
    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=compute); thread.start()
    begun.wait()
"""
    + FORK
)


@needs_fork
def test_a_fork_that_waits_for_the_first_import_waits_for_what_comes_next():
    done = script(textwrap.dedent(PROGRAM) + textwrap.dedent(FORK_WHILE_LOADING_IS_IMPORTED), 0.5)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


FORK_IN_A_FORK = """
    import os, signal
    def strike():
        if not depth: signal.raise_signal(signal.SIGUSR1)
    def fork(*_):
        depth.append(True)
        child = os.fork()
        if child == 0: os._exit(0)
        os.waitpid(child, 0)
        if sys.argv[1] == "raises": raise Struck
    depth = []
    signal.signal(signal.SIGUSR1, fork)
    os.register_at_fork(before=strike)  # called after those of convbench, which are registered later
"""


@needs_fork
@pytest.mark.parametrize("way", ["returns", "raises"])
@pytest.mark.parametrize("first", [False, True])
def test_a_signal_handler_may_fork_while_a_fork_waits(way, first):
    call = "compute()" if first else ""
    after = f"""
    {call}
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
    print(np.isfinite(compute()).all())
    """
    done = script(*(textwrap.dedent(FORK_IN_A_FORK) + textwrap.dedent(PROGRAM) + textwrap.dedent(after), way))
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


NOTHING_ELSE_IMPORTS = """
    import sys
    import numpy as np, convbench
    from convbench.runtime import loading
    found = []
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if not getattr(loading._tasks, "running", False): found.append(name)
    rng = np.random.default_rng(0)
    x, w = (rng.random(shape, np.float32) for shape in ((2, 30, 41), (10, 2, 5, 5)))
    sys.meta_path.insert(0, Finder())
    if sys.argv[1] == "conv2d": convbench.conv2d(x, w, cores=2)
    elif sys.argv[1] == "Conv2d": convbench.Conv2d(w, cores=2)(x)
    else:
        problem = convbench.Problem.parse("mb1ic2ih30iw41oc10kh5kw5")
        with convbench.plan(problem, w, algorithm="direct", executor=sys.argv[1]) as plan: plan(x[None])
    print(found)
"""


@pytest.mark.parametrize(
    "way", ["conv2d", "threads", *(pytest.param(way, marks=pytest.mark.long) for way in ("Conv2d", "serial"))]
)
def test_a_first_call_imports_nothing_that_a_fork_or_an_interrupt_could_leave_half_done(way):
    done = script(NOTHING_ELSE_IMPORTS, way)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.fixture
def twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Gives a function that was compiled, or read from its cache in `tmp_path`, as a new process has it."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "twice.py"
    source.write_text("import numba\n\n\n@numba.njit(cache=True)\ndef twice(x):\n    return 2 * x\n")

    def compiled() -> Any:
        spec = importlib.util.spec_from_file_location("twice", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        compile_for(module.twice, int64(int64))
        assert module.twice(3) == 6
        return module.twice

    return compiled


@pytest.mark.parametrize(
    "left", [lambda text: text[:0], lambda text: text[: len(text) // 2], lambda text: bytes(len(text))]
)
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_damaged_cache_is_made_anew(twice, tmp_path, kind, left):
    twice()
    (file,) = (tmp_path / "cache").rglob(f"*.{kind}")
    file.write_bytes(left(file.read_bytes()))
    assert not twice().stats.cache_hits, "compiled once more"
    assert twice().stats.cache_hits


def test_what_cannot_be_kept_on_disk_is_computed_with_all_the_same(twice, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as now:
        now.setattr(IndexDataCacheFile, "_save_data", full)
        twice()
    assert not twice().stats.cache_hits
    assert twice().stats.cache_hits


def test_where_no_folder_can_be_written_functions_are_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    monkeypatch.setattr("numba.config.CACHE_DIR", "/dev/null/nowhere")
    caching._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR"):
        twice = cached(nogil=True)(_twice)
    compile_for(twice, int64(int64))
    assert twice(3) == 6


def _twice(x: int) -> int:
    return 2 * x


@pytest.mark.long
def test_a_process_computes_without_any_cache():
    code = "import numpy as np, convbench; print(convbench.conv2d(np.ones((1, 3, 3)), np.ones((1, 1, 3, 3)), cores=1))"
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": "/dev/null/nowhere"}
    done = python("-c", code, **nowhere)
    assert (done.stdout, done.returncode) == ("[[[9.]]]\n", 0)
    assert done.stderr.count("set NUMBA_CACHE_DIR") == 1
