"""Many cores: Numba's thread pool computes the units.

One core is the calling thread, as on `serial`: the pool would take two microseconds to find that it has nothing to
share. The calling thread also computes work that is shorter than what the pool takes to begin and to end, whatever the
number of cores; `threads()` says so. Otherwise calls from several threads are serialised, so that each uses the whole
pool and all cores. Concurrent calls would share the cores, and not all threading layers of Numba support them.

OpenMP threads do not survive a `fork`, and GNU OpenMP terminates a forked child that uses them. A forked child
therefore runs the same tiles on Python threads, which start more slowly.
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
from convbench.executors.serial import SerialRunner
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
        """Always available: Numba has its own thread pool where there is no OpenMP or TBB."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate page-aligned private memory."""
        return private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:
        """Compile the tiles and the parallel loop, and start the pool; a single core, or short work, needs neither.

        Raises:
            RequestError: Numba's pool is smaller than `cores`.
        """
        if cores > 1 and cores > most_threads():
            raise RequestError(
                f"cores={cores} is more than the {most_threads()} threads of Numba's pool; "
                f"set NUMBA_NUM_THREADS={cores} before Python starts"
            )
        return SerialRunner(work) if cores == 1 or work.is_short else ThreadsRunner(work, cores)


POLL_SECONDS: Final = 0.1  # seconds of waiting, after which the end is checked by polling


class _Process:
    """State of this process that a forked child must not inherit."""

    def __init__(self) -> None:
        self.one_call_at_a_time = threading.RLock()  # re-entrant: a signal handler may call a plan during a call
        self.is_forked = convbench.is_forked()

    def reset_in_child(self) -> None:
        """Reset in a forked child: it has neither the pool's threads nor the lock's holder."""
        self.one_call_at_a_time = threading.RLock()
        self.is_forked = True


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.reset_in_child)


def start_pool() -> None:
    """Start Numba's pool now, on the threading layer that Numba prefers on this system.

    If it were started after a library with its own thread pool is loaded, Numba might use that pool instead.
    """
    run_to_completion(load("numba").get_num_threads)


def most_threads() -> int:
    """Number of threads of Numba's pool: the number of processors when Numba was imported."""
    most: int = load("numba").config.NUMBA_NUM_THREADS
    return most


@dataclass
class CallSpace:
    """Memory that one call at a time writes to besides its output.

    Attributes:
        workspace: Data that phases pass to later phases.
        scratch: Scratch, a row for each thread.
        counters: Counters from which the units of each phase are claimed.
        team: Number of the pool's thread that ran each row.
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
        """Compute `out`."""
        with _process.one_call_at_a_time:
            try:
                space = self._idle.pop()
            except IndexError:  # a call of a signal handler during another call
                space = self._new_space()
            self._work.set_up_process()
            space.counters.fill(0)
            self._last_team = space.team
            (self._on_python_threads if _process.is_forked else self._on_pool)(x, out, space)
            self._idle.append(space)  # not after an exception: a second one may have left a thread running on it

    def _on_pool(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        self._claim_on_threads(
            *(self._loaded.table, x, self._work.weights, out, self._loaded.parameters, space.workspace),
            *(space.scratch, self.clock, space.counters, space.team),
        )

    def _on_python_threads(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        for phase in range(len(self._work.phases)):
            self._phase_on_python_threads(phase, x, out, space)

    def _phase_on_python_threads(self, phase: int, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        counters = space.counters[phase]

        def fill(row: int) -> None:
            space.team[row] = row
            self._claim(
                *(self._loaded.table[phase], x, self._work.weights, out, self._loaded.parameters, space.workspace),
                *(space.scratch[row], self.clock[row], counters, row),
            )

        threads = [CancellableThread(fill, row) for row in range(1, self._cores)]
        try:
            for thread in threads:
                thread.start()
            fill(0)
            for thread in threads:
                thread.join()
        except BaseException:
            counters.fill(self._work.phases[phase].units)  # the remaining units are skipped
            _join_all(threads)
            raise

    def _new_space(self) -> CallSpace:
        driver = load("convbench.executors.driver")
        return CallSpace(
            workspace=driver.new_workspace(self._work),
            scratch=driver.new_scratch(self._work, self._cores),
            counters=driver.new_counters(len(self._work.phases), self._cores),
            team=driver.new_team(self._cores),
        )

    def threads(self) -> int:
        """Number of threads that took part in the last call."""
        return len(set(self._last_team.tolist()) - {-1})

    def close(self) -> None:
        """Nothing to release: the pool belongs to Numba, and scratch is freed with the runner."""


class CancellableThread:
    """A function call in a Python thread; `join` cancels it if the thread has not begun it."""

    def __init__(self, function: Callable[[int], None], row: int) -> None:
        self._function, self._row = function, row
        self._claim: dict[str, str] = {}  # "by": "thread" if the call has begun, "caller" if it is cancelled
        self._has_ended = False
        self._end = _thread.allocate_lock()  # released when the call has ended
        self._end.acquire()

    def start(self) -> None:
        """Start the thread; if the system refuses one, the other threads compute its share."""
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        if self._claim.setdefault("by", "thread") == "thread":
            try:
                self._function(self._row)
            finally:
                self._has_ended = True
                self._end.release()

    def join(self) -> None:
        """Cancel the call, or wait for its end if it has begun; may be interrupted at any point and called again."""
        if self._claim.setdefault("by", "caller") == "thread":
            while not self._has_ended:
                self._end.acquire(timeout=POLL_SECONDS)  # an interrupted wait may have acquired it already


def _join_all(threads: Iterable[CancellableThread]) -> None:
    """Join all threads despite any interrupts, since they write to the caller's output."""
    for thread in threads:
        while True:
            try:
                thread.join()
                break
            except BaseException:  # noqa: BLE001, S112  # the caller re-raises the first exception
                continue


THREADS = Threads()
