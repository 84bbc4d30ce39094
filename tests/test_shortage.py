"""Where memory, descriptors, threads or a worker's limits run out, what is right comes out, or one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from callers import PROBLEM, bound, inputs_and_outputs
from conftest import DEADLINE, data

from convbench.errors import UnavailableError
from convbench.executors import memory
from convbench.executors import pool as pool_module
from convbench.executors.pool import pool

resource = pytest.importorskip("resource")

SCARCE = """
    import resource, sys
    import numpy as np
    import convbench, psutil
    def leave(megabytes):
        size = psutil.Process().memory_info().vms + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
"""
SCRATCH = """
    x, w = np.ones((256, 64, 64), np.float32), np.ones((256, 256, 3, 3), np.float32)
    expected = convbench.conv2d(x, w, cores=1)
    out = np.empty_like(expected)
    for algorithm in ("direct", "unrolled"):
        convbench.conv2d(x, w, cores=1, algorithm=algorithm)
    convbench.conv2d(x[:1, :4, :4], w[:1, :1], cores=1, algorithm="naive")  # the same tile, in no time
    leave(24)
    found = convbench.conv2d(x, w, cores=1, out=out)
    print(np.allclose(found, expected))
"""
A_PLAN = """
    problem = convbench.Problem(
        height=64, width=64, channels=512, out_channels=2048, kernel_height=3, kernel_width=3, padding=1
    )
    w = np.ones(problem.weights_shape, np.float32)
    convbench.plan(problem, w, algorithm="winograd", executor="serial").close()  # compiled now
    leave(60)
    try:
        convbench.plan(problem, w, algorithm="winograd", executor="serial")
    except convbench.UnavailableError as error:
        print("no memory" in str(error))
"""
A_COPY = """
    w = np.ones((1, 3, 3), np.float32)
    convbench.conv2d(np.ones((9, 9), np.float32), w)
    x = np.broadcast_to(np.float32(1), (100_000, 100_000))
    leave(100)
    try:
        convbench.conv2d(x, w)
    except convbench.UnavailableError as error:
        print("memory" in str(error))
"""


@pytest.mark.parametrize("program", [SCRATCH, A_PLAN, A_COPY])
@pytest.mark.long
def test_where_memory_runs_out_another_form_computes_or_an_error_says_so(program):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCARCE) + textwrap.dedent(program)],
        env={**os.environ, "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_memory_that_cannot_be_mapped_is_a_memory_error(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory.mmap, "mmap", refuse)
    with pytest.raises(MemoryError):
        memory.private_empty((2**22,), "float32")


def test_results_that_are_kept_leave_descriptors_for_others(monkeypatch):
    """Beyond half of what the process may open they are private, and copied when they are used again."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with bound("processes") as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        kept = [one(x) for _ in range(40)]
        assert {memory.locate(out) is None for out in kept} == {True, False}
        assert all(np.array_equal(out, expected) for out in kept)
        assert np.array_equal(one(x, kept[-1]), expected)


def test_a_worker_that_cannot_map_memory_says_so_and_may_later():
    with bound("processes") as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        pid = one.pids[0]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        out = one.empty_output()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(UnavailableError, match="Too many open files"):
                one(x, out)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert np.array_equal(one(x, out), expected)
        assert one.pids[0] == pid


def test_a_plan_that_is_closed_while_workers_start_leaves_nothing_open(monkeypatch):
    start = pool_module.Pool._start_worker
    x, _ = data(PROBLEM)
    with bound("processes") as other:
        other(x)
        one = bound("processes")
        pool().stop(kill=True)

        def close_meanwhile(own: pool_module.Pool) -> None:
            one.close()
            start(own)

        monkeypatch.setattr(pool_module.Pool, "_start_worker", close_meanwhile)
        with pytest.raises(pool_module.RequestError, match="closed"):
            one(x)
        monkeypatch.undo()
        other(x)
        assert [len(worker.works) for worker in pool()._workers] == [1, 1]


def test_where_no_thread_can_be_had_the_caller_fills_the_units(monkeypatch):
    """In a forked child, where units are filled on Python's threads."""
    from convbench.executors import threads

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with bound("threads") as one:
        [(x, expected)] = inputs_and_outputs(one, 1)
        monkeypatch.setattr(threads._process, "is_forked", True)
        assert np.array_equal(one(x), expected)
        monkeypatch.setattr(threads._thread, "start_new_thread", refuse)
        assert np.array_equal(one(x), expected)


def test_a_pool_of_fewer_threads_than_cores_is_used_as_it_is():
    """The default is what there is; more than that is refused."""
    program = """
        import numpy as np, convbench
        from convbench import machine
        machine.usable_cores = lambda: 3
        x, w = np.ones((9, 9), np.float32), np.ones((1, 3, 3), np.float32)
        print(convbench.conv2d(x, w).shape)
        try:
            convbench.conv2d(x, w, cores=3)
        except convbench.RequestError as error:
            print("cores=3 is more than the 2 threads" in str(error))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.stdout == "(1, 7, 7)\nTrue\n", done.stderr
    assert threading.active_count() >= 1
