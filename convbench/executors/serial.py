"""One core: the calling thread fills all units."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from convbench.executors.host import Host
from convbench.executors.memory import private_empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.tile import Work


class Serial(Host):
    """Runs work in the calling thread."""

    scales = False
    memory = "private"

    def available(self) -> str | None:
        """Always."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Private memory on a page boundary."""
        return private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:  # noqa: ARG002
        """Compile the tile."""
        return SerialRunner(work)


class SerialRunner:
    """Calls the tile once for all units."""

    pids = ()

    def __init__(self, work: Work) -> None:
        from convbench.executors.driver import new_clock, new_scratch

        begin = time.perf_counter()
        self._tile = work.tile.load(work.dtype.name)
        self.setup = {"compile": time.perf_counter() - begin}
        self._work = work
        self._scratch = new_scratch(work, 1)[0]
        self.clock = new_clock(1)

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`."""
        work = self._work
        self._tile(x, work.weights, out, work.parameters, self._scratch, self.clock[0], 0, work.units)

    def threads(self) -> int:
        """The calling one."""
        return 1

    def close(self) -> None:
        """Nothing to give back."""


SERIAL = Serial()
