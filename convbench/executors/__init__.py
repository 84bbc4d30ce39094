"""Where and on how many cores a convolution is computed: one file each, none of which knows what is computed.

An executor takes `Work` and decides who fills which units of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from convbench.precision import Precision


class Runner(Protocol):
    """Work that is ready to run, again and again.

    Attributes:
        setup: Seconds that getting ready took, by step ("compile", "start").
        clock: Ticks (see `clock.ticks`) that each worker has spent in each stage of the work so far, shape (workers,
            STAGES); None where `shares` tells of stages.
    """

    setup: dict[str, float]

    @property
    def clock(self) -> NDArray[np.int64] | None:
        """See above."""

    @property
    def pids(self) -> Sequence[int]:
        """The processes that compute, where it is not the calling one."""

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Convolve `x` into `out`: both 4-D, C-contiguous, aligned, of the work's dtype, not overlapping.

        May be called from several threads at once, from a signal handler in the middle of another call, and in a forked
        child. An exception in the middle of a call, such as an interrupt, leaves nothing behind that later calls feel.
        """

    def threads(self) -> int:
        """How many threads compute, as read back from whatever runs them."""

    def close(self) -> None:
        """Give back what the runner holds; no call begins after that. May be called twice."""


class QueueingRunner(Runner, Protocol):
    """One whose calls return when they are queued."""

    def shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """What share of a call's time each stage takes; waits for a call of its own."""


class Executor(Protocol):
    """A way to run work.

    Attributes:
        backend: What compiles the work that it runs, "numba" or "gpu".
        scales: Whether it can be given a number of cores; one that cannot runs on one.
        memory: The kind of memory that `empty` gives, "private", "shared" or "gpu"; arrays of one kind serve all
            executors that name it.
    """

    backend: str
    scales: bool
    memory: str

    def available(self) -> str | None:
        """Why it cannot be used on this machine, and the remedy; None where it can."""

    def unsupported_precision(self, precision: Precision) -> str | None:
        """Why it cannot compute products in a precision, whatever form asks for it; None where it can."""

    def module(self) -> Any:
        """The array module that its arrays are of: numpy or cupy."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array of undefined content where this executor reads and writes fastest."""

    def input(self, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        """An array of its module as its runners read it: C-contiguous, aligned, of a dtype; a copy where it is not."""

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy one of NumPy's arrays into one of its own, and wait until it is there."""

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """One of its arrays as one of NumPy's: `into`, or a new one, or the same if it is one."""

    def open(self, work: Any, cores: int) -> Runner:
        """Compile, start and allocate, so that a call does nothing but compute."""


class GpuExecutor(Executor, Protocol):
    """An executor with memory of its own, whose calls return before they are done."""

    def evict(self) -> Callable[[], object]:
        """Make what fills the GPU's caches with something else, by reading."""

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds of so many calls in a row, by the GPU's clock."""

    def usable(self) -> bool:
        """Whether this process can still compute on it after something went wrong."""


EXECUTORS: Table[Executor] = Table(
    "executor",
    [
        Entry("serial", "convbench.executors.serial:SERIAL", "the calling thread"),
        Entry("threads", "convbench.executors.threads:THREADS", "Numba's thread pool"),
        Entry("processes", "convbench.executors.processes:PROCESSES", "worker processes on shared memory"),
        Entry("gpu", "convbench.executors.gpu:GPU", "an NVIDIA GPU through CuPy"),
    ],
)


def gpu_executor(name: str) -> GpuExecutor | None:
    """The executor of a name, if it is one with memory of its own."""
    if name not in EXECUTORS or EXECUTORS[name].memory != "gpu":
        return None
    return cast("GpuExecutor", EXECUTORS[name])
