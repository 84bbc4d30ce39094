"""Many cores: Numba's thread pool fills the units.

Calls from several threads wait for one another: each has the pool, and so the cores, to itself. Side by side they would
share the cores, and not every pool that Numba may run on allows it.

OpenMP's threads do not survive a `fork`, and GNU's ends a child that calls for them. So a child of a process in which
the pool has run fills the units on Python's threads: they start more slowly, and the tiles that they run are the same.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.errors import RequestError
from convbench.executors.host import Host
from convbench.executors.memory import private_empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.tile import Work


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


class _Process:
    """What is so of this process alone, and not of its parent."""

    def __init__(self) -> None:
        self.one_call_at_a_time = threading.RLock()  # a signal handler may call a plan in the middle of a call
        self.pool_is_lost = False

    def start_over(self) -> None:
        """In a forked child: the pool's threads are its parent's, and whoever held the lock is not here."""
        self.one_call_at_a_time = threading.RLock()
        self.pool_is_lost = self.pool_is_lost or pool_runs()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.start_over)


def start_pool() -> None:
    """Start Numba's pool now, on what it prefers of what this system has.

    Later, a library that brings a thread pool of its own may have been loaded, and Numba would run on that one.
    """
    import numba

    numba.set_num_threads(numba.get_num_threads())


def pool_runs() -> bool:
    """Whether Numba's pool has been started in this process or, before a fork, in its parent."""
    if "numba" not in sys.modules:
        return False
    try:
        sys.modules["numba"].threading_layer()
    except ValueError:
        return False
    return True


@dataclass
class CallSpace:
    """What one call at a time may write to beside its output.

    Attributes:
        scratch: A row for each thread.
        counter: What units are claimed from.
        team: Which thread of the pool took each row.
    """

    scratch: NDArray[Any]
    counter: NDArray[np.int64]
    team: NDArray[np.int64]


class ThreadsRunner:
    """Calls the parallel loop with the number of threads set, and sets it back."""

    pids = ()

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        import numba

        from convbench.executors.driver import address, compiled_claim, compiled_claim_on_threads, new_clock

        if cores > numba.config.NUMBA_NUM_THREADS:
            raise RequestError(
                f"cores={cores} is more than the {numba.config.NUMBA_NUM_THREADS} threads of Numba's pool; "
                f"set NUMBA_NUM_THREADS={cores} before Python starts"
            )
        self._cores = cores
        self._kept = work.tile.load(work.dtype.name)
        self._tile = address(self._kept)
        self._drive = compiled_claim_on_threads(work.dtype.name)
        self._claim = compiled_claim(work.dtype.name)
        self.setup = {"compile": time.perf_counter() - begin}
        self._work = work
        self._last = self._new_space()
        self._idle = [self._last]
        self.clock = new_clock(cores)
        self._set_num_threads = numba.set_num_threads
        self._get_num_threads = numba.get_num_threads

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`."""
        with _process.one_call_at_a_time:
            try:
                space = self._idle.pop()
            except IndexError:  # this call is a signal handler's in the middle of another
                space = self._new_space()
            space.counter[0] = 0
            self._last = space
            try:
                (self._on_python_threads if _process.pool_is_lost else self._on_pool)(x, out, space)
            finally:
                self._idle.append(space)

    def _on_pool(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        work, before = self._work, self._get_num_threads()
        try:
            self._set_num_threads(self._cores)
            self._drive(
                *(self._tile, x, work.weights, out, work.parameters),
                *(space.scratch, self.clock, work.units, space.counter, space.team),
            )
        finally:
            self._set_num_threads(before)

    def _on_python_threads(self, x: NDArray[Any], out: NDArray[Any], space: CallSpace) -> None:
        work = self._work

        def fill(row: int) -> None:
            space.team[row] = row
            self._claim(
                *(self._tile, x, work.weights, out, work.parameters),
                *(space.scratch[row], self.clock[row], work.units, space.counter),
            )

        helpers = [threading.Thread(target=fill, args=(row,), daemon=True) for row in range(1, self._cores)]
        try:
            for helper in helpers:
                helper.start()
            fill(0)
        finally:
            _join(helpers)

    def _new_space(self) -> CallSpace:
        from convbench.executors.driver import new_counter, new_scratch

        return CallSpace(new_scratch(self._work, self._cores), new_counter(), np.full(self._cores, -1, np.int64))

    def threads(self) -> int:
        """How many threads of the pool took part in the last call."""
        return len(set(self._last.team.tolist()) - {-1})

    def close(self) -> None:
        """The pool is Numba's and stays; scratch goes with the runner."""


def _join(threads: list[threading.Thread]) -> None:
    """Wait for threads, and do not leave before they are through: they write to the caller's output."""
    interruption: BaseException | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:  # noqa: BLE001  # raised below, when it can do no harm
                interruption = error
    if interruption is not None:
        raise interruption


THREADS = Threads()
