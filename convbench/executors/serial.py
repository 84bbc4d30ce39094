"""One core: the calling thread computes all units.

Calls from several threads run concurrently, each with its own scratch, for programs that compute on one core in each of
several threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convbench.executors.host import Host
from convbench.executors.memory import private_empty
from convbench.runtime.loading import load

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.kernels.tile import Work


class Serial(Host):
    """Runs work in the calling thread."""

    scales = False
    memory = "private"

    def available(self) -> str | None:
        """Always available."""
        return None

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate page-aligned private memory."""
        return private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:  # noqa: ARG002
        """Compile the tiles."""
        return SerialRunner(work)


@dataclass
class CallSpace:
    """Memory that one call at a time writes to besides its output: workspace, scratch, ticks of each phase's stages."""

    workspace: NDArray[Any]
    scratch: NDArray[Any]
    clocks: list[NDArray[np.int64]]


class SerialRunner:
    """Calls the tile of each phase once for all units."""

    pids = ()

    def __init__(self, work: Work) -> None:
        begin = time.perf_counter()
        self._tiles = [phase.tile.load(work.dtype.name) for phase in work.phases]
        work.set_up_process()
        self.setup = {"compile": time.perf_counter() - begin}
        self._work = work
        self._clocks: list[NDArray[np.int64]] = []
        self._idle = [self._new_space()]

    @property
    def clock(self) -> NDArray[np.int64]:
        """The ticks of all calling threads, summed as those of one worker."""
        ticks: NDArray[np.int64] = sum(self._clocks.copy())  # type: ignore[assignment]
        return ticks

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Compute `out`."""
        work, space = self._work, None
        work.set_up_process()
        try:
            try:
                space = self._idle.pop()
            except IndexError:  # all spaces are in use by other threads
                space = self._new_space()
            for tile, phase, clock in zip(self._tiles, work.phases, space.clocks, strict=True):
                tile(
                    *(x, work.weights, out, phase.parameters, space.workspace, space.scratch, clock),
                    *(0, phase.units),
                )
        finally:
            if space is not None:
                self._idle.append(space)

    def _new_space(self) -> CallSpace:
        driver = load("convbench.executors.driver")
        clock = driver.new_clock(1)
        self._clocks.append(clock)
        return CallSpace(
            workspace=driver.new_workspace(self._work),
            scratch=driver.new_scratch(self._work, 1)[0],
            clocks=[clock[0, stage:] for stage in self._work.first_stages],
        )

    def threads(self) -> int:
        """One: the calling thread."""
        return 1

    def close(self) -> None:
        """Nothing to release: scratch is freed with the runner."""


SERIAL = Serial()
