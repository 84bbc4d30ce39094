"""Many cores: Numba's thread pool fills the units.

Calls from several threads wait for one another: each has the pool, and so the cores, to itself. Side by side they would
share the cores, and not every pool that Numba may run on allows it.

OpenMP's threads do not survive a `fork`, and GNU's ends a child that calls for them, whoever started them. So a forked
child fills the units on Python's threads: they start more slowly, and the tiles that they run are the same.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import convbench
from convbench.errors import RequestError
from convbench.executors.host import Host
from convbench.executors.memory import private_empty
from convbench.runtime.loading import load, run_to_completion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.kernels.tile import Work


class Threads(Host):
    """Runs work on Numba's thread pool."""

    scales = True
    memory = "private"

    def available(self) -> str | None:
        """Always: Numba brings a thread pool of its own where there is no OpenMP or TBB."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Private memory on a page boundary."""
        return private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:
        """Compile the tile and the parallel loop, and start the pool.

        Raises:
            RequestError: Numba's pool is smaller than `cores`.
        """
        return ThreadsRunner(work, cores)


PATIENCE: Final = 0.1  # seconds that a wait lasts before it is looked whether its end was missed


class _Process:
    """What is so of this process alone, and not of its parent."""

    def __init__(self) -> None:
        self.one_call_at_a_time = threading.RLock()  # a signal handler may call a plan in the middle of a call
        self.is_forked = convbench.is_forked()

    def start_over(self) -> None:
        """In a forked child: the pool's threads are its parent's, and whoever held the lock is not here."""
        self.one_call_at_a_time = threading.RLock()
        self.is_forked = True


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.start_over)


def start_pool() -> None:
    """Start Numba's pool now, on what it prefers of what this system has.

    Later, a library that brings a thread pool of its own may have been loaded, and Numba would run on that one.
    """
    run_to_completion(load("numba").get_num_threads)


def most_threads() -> int:
    """The threads of Numba's pool, which is as large as the processors were many when Numba was loaded."""
    most: int = load("numba").config.NUMBA_NUM_THREADS
    return most


@dataclass
class CallSpace:
    """What one call at a time may write to beside its output.

    Attributes:
        workspace: What phases pass on to one another.
        scratch: A row for each thread.
        counters: What the units of each phase are claimed from.
        team: Which thread of the pool took each row.
    """

    workspace: NDArray[Any]
    scratch: NDArray[Any]
    counters: NDArray[np.int64]
    team: NDArray[np.int64]


class ThreadsRunner:
    """Calls the parallel loop."""

    pids = ()

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        if cores > most_threads():
            raise RequestError(
                f"cores={cores} is more than the {most_threads()} threads of Numba's pool; "
                f"set NUMBA_NUM_THREADS={cores} before Python starts"
            )
        driver = load("convbench.executors.driver")
        self._cores = cores
        self._loaded = driver.load_phases(work.phases, work.first_stages, work.dtype.name)
        self._claim = driver.compiled_claim(work.dtype.name)
        if not _process.is_forked:
            self._claim_on_threads = driver.compiled_claim_on_threads(work.dtype.name)
        work.set_up_process()
        self.setup = {"compile": time.perf_counter() - begin}
        self._work = work
        self._idle = [self._new_space()]
        self._last_team = self._idle[0].team
        self.clock = driver.new_clock(cores)

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`."""
        with _process.one_call_at_a_time:
            try:
                space = self._idle.pop()
            except IndexError:  # this call is a signal handler's in the middle of another
                space = self._new_space()
            self._work.set_up_process()
            space.counters.fill(0)
            self._last_team = space.team
            (self._on_python_threads if _process.is_forked else self._on_pool)(x, out, space)
            self._idle.append(space)  # but not after an exception: a second one may have left a helper behind

    def _on_pool(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        self._claim_on_threads(
            *(self._loaded.table, x, self._work.weights, out, self._loaded.parameters, space.workspace),
            *(space.scratch, self.clock, space.counters, space.team),
        )

    def _on_python_threads(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        for phase in range(len(self._work.phases)):
            self._phase_on_python_threads(phase, x, out, space)

    def _phase_on_python_threads(self, phase: int, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        counter = space.counters[phase]

        def fill(row: int) -> None:
            space.team[row] = row
            self._claim(
                *(self._loaded.table[phase], x, self._work.weights, out, self._loaded.parameters, space.workspace),
                *(space.scratch[row], self.clock[row], counter),
            )

        helpers = [Helper(fill, row) for row in range(1, self._cores)]
        try:
            for helper in helpers:
                helper.start()
            fill(0)
            for helper in helpers:
                helper.join()
        except BaseException:
            counter[0] = self._work.phases[phase].units  # what is left is not computed
            _wait_in_any_case(helpers)
            raise

    def _new_space(self) -> CallSpace:
        driver = load("convbench.executors.driver")
        return CallSpace(
            workspace=driver.new_workspace(self._work),
            scratch=driver.new_scratch(self._work, self._cores),
            counters=driver.new_counters(len(self._work.phases)),
            team=np.full(self._cores, -1, np.int64),
        )

    def threads(self) -> int:
        """How many threads of the pool took part in the last call."""
        return len(set(self._last_team.tolist()) - {-1})

    def close(self) -> None:
        """The pool is Numba's and stays; scratch goes with the runner."""


class Helper:
    """A call in a thread of Python's that begins at once, later or, where nobody waits for it any more, never."""

    def __init__(self, function: Callable[[int], None], row: int) -> None:
        self._function, self._row = function, row
        self._claim: dict[str, str] = {}  # who was first: the thread, to begin, or the caller, who needs it no longer
        self._is_through = False
        self._end = _thread.allocate_lock()  # released when it is
        self._end.acquire()

    def start(self) -> None:
        """Begin; where no thread can be had, the others do its share."""
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        if self._claim.setdefault("by", "thread") == "thread":
            try:
                self._function(self._row)
            finally:
                self._is_through = True
                self._end.release()

    def join(self) -> None:
        """Return when it is through, or will never begin; may be interrupted at any step, and called again."""
        if self._claim.setdefault("by", "caller") == "thread":
            while not self._is_through:
                self._end.acquire(timeout=PATIENCE)  # which an interrupted wait may have acquired


def _wait_in_any_case(helpers: Iterable[Helper]) -> None:
    """Do not leave before helpers are through, however often that is interrupted: they write to the caller's output."""
    for helper in helpers:
        while True:
            try:
                helper.join()
                break
            except BaseException:  # noqa: BLE001, S112  # the first one is raised in the end
                continue


THREADS = Threads()
