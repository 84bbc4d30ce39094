"""Many cores: Numba's thread pool fills the units."""

from __future__ import annotations

import time
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


def start_pool() -> None:
    """Start Numba's pool now, on what it prefers of what this system has.

    Later, a library that brings a thread pool of its own may have been loaded, and Numba would run on that one.
    """
    import numba

    numba.set_num_threads(numba.get_num_threads())


class ThreadsRunner:
    """Calls the parallel loop with the number of threads set, and sets it back."""

    pids = ()

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        import numba

        from convbench.executors.driver import compiled_claim_on_threads, new_clock, new_counter, new_scratch

        if cores > numba.config.NUMBA_NUM_THREADS:
            raise RequestError(
                f"cores={cores} is more than the {numba.config.NUMBA_NUM_THREADS} threads of Numba's pool; "
                f"set NUMBA_NUM_THREADS={cores} before Python starts"
            )
        self._cores = cores
        self._tile = work.tile.load(work.dtype.name)
        self._drive = compiled_claim_on_threads(work.dtype.name)
        self.setup = {"compile": time.perf_counter() - begin}
        self._work = work
        self._scratch = new_scratch(work, cores)
        self.clock = new_clock(cores)
        self._counter = new_counter()
        self._team = np.full(cores, -1, np.int64)
        self._set_num_threads = numba.set_num_threads
        self._get_num_threads = numba.get_num_threads

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`."""
        work = self._work
        before = self._get_num_threads()
        self._set_num_threads(self._cores)
        self._counter[0] = 0
        try:
            self._drive(
                *(self._tile, x, work.weights, out, work.parameters),
                *(self._scratch, self.clock, work.units, self._counter, self._team),
            )
        finally:
            self._set_num_threads(before)

    def threads(self) -> int:
        """How many threads of the pool took part in the last call."""
        return len(set(self._team.tolist()) - {-1})

    def close(self) -> None:
        """The pool is Numba's and stays."""


THREADS = Threads()
