"""Executors, which determine where and on how many cores work runs: one file each, independent of the algorithms.

An executor takes `Work` and assigns its units to workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    from convbench.precision import Precision


class Runner(Protocol):
    """Work that is ready to run any number of times.

    Attributes:
        setup: Seconds of set-up, by step ("compile", "start").
        clock: Ticks (see `clock.ticks`) that each worker has spent in each stage of the work so far, shape (workers,
            STAGES); None for a `QueueingRunner`, which measures stages by `shares`.
    """

    setup: dict[str, float]

    @property
    def clock(self) -> NDArray[np.int64] | None:
        """See the class docstring."""

    @property
    def pids(self) -> Sequence[int]:
        """The worker processes; empty where the calling process computes."""

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Convolve `x` into `out`: both 4-D, C-contiguous, aligned, of the work's dtype, not overlapping.

        Calls may come from several threads at once, from a signal handler during another call, and from a forked child.
        An exception during a call, such as an interrupt, does not affect later calls.
        """

    def threads(self) -> int:
        """Number of threads that compute, as reported by the thread pool or library that runs them."""

    def close(self) -> None:
        """Release all resources; no call may begin afterwards. Idempotent."""


class QueueingRunner(Runner, Protocol):
    """A runner whose calls return once they are queued.

    Attributes:
        is_captured: Whether a graph has captured a call, and needs what the runner holds.
    """

    @property
    def is_captured(self) -> bool:
        """See above."""

    def shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """The share of each stage in the time of a call; runs a separate call and waits for it."""


class Executor(Protocol):
    """A way to run work.

    Attributes:
        backend: Backend of the work that it runs, "numba" or "gpu".
        scales: Whether the number of cores can be chosen; otherwise it is 1.
        memory: Kind of memory that `empty` allocates, "private", "shared" or "gpu"; executors with the same kind can
            use each other's arrays.
        distributes: Whether workers compute parts of a problem as problems of their own, each where its part lies: then
            it is a `cluster.ClusterExecutor`, and is given a job of them in place of work.
        launched: Whether the workers start together with the process that leads them: then it is a `LaunchedExecutor`.
    """

    backend: str
    scales: bool
    memory: str
    distributes: bool
    launched: bool

    def available(self) -> str | None:
        """Why the executor cannot be used on this machine, and the remedy; None if it can."""

    def unsupported_precision(self, precision: Precision) -> str | None:
        """Why it cannot compute products in a precision, regardless of the form; None if it can."""

    def module(self) -> Any:
        """The array module of its arrays: numpy or cupy."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate an array of undefined content in the memory that this executor accesses fastest."""

    def input(self, array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """Convert an array of its module to a C-contiguous, aligned array of a dtype, copying only if necessary."""

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy a NumPy array into an array of the executor, and wait for completion."""

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """Convert an array of the executor to a NumPy array: `into` if given, the array itself, or a new one."""

    def open(self, work: Any, cores: int) -> Runner:
        """Compile, start workers and allocate memory, so that a call only computes."""


class GpuExecutor(Executor, Protocol):
    """An executor with separate memory and asynchronous calls."""

    def evict(self) -> Callable[[], object]:
        """Make a function that evicts the GPU's caches by reading other data."""

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds of `loops` consecutive calls, by the GPU's clock."""

    def usable(self) -> bool:
        """Whether this process can still use the GPU after an error."""

    def device_of(self, worker: int) -> int:
        """Number of the GPU that one of several workers takes."""

    def device(self, worker: int) -> AbstractContextManager[object]:
        """That GPU, as a context manager in which everything happens there."""

    def wait(self) -> None:
        """Wait until everything that was queued is done."""


class LaunchedExecutor(Executor, Protocol):
    """An executor whose workers start together with the process that leads them."""

    def launcher(self, module: str, processes: int) -> list[str] | None:
        """The command that runs a module of this package as the leader of so many processes, itself included.

        None where there is none: then the module is run alone, and the executor is not available there.
        """

    def lead(self, workers: int | None) -> AbstractContextManager[bool]:
        """Enter a job that somebody else has started, in all of its processes.

        In the leader the value is whether there is such a job, and the others serve until the context is left; in them,
        entering ends the process.

        Raises:
            RequestError: It has fewer than `workers` processes, or any, where that is None.
        """


PROCESSORS: Final = ("cpu", "gpu")
"""What workers on a cluster compute on."""

EXECUTORS: Table[Executor] = Table(
    "executor",
    [
        Entry("serial", "convbench.executors.serial:SERIAL", "the calling thread"),
        Entry("threads", "convbench.executors.threads:THREADS", "Numba's thread pool"),
        Entry("processes", "convbench.executors.processes:PROCESSES", "worker processes on shared memory"),
        Entry("gpu", "convbench.executors.gpu:GPU", "an NVIDIA GPU through CuPy"),
        Entry("dask", "convbench.executors.dask:DASK", "workers of a Dask cluster", by_default=False),
        Entry("mpi", "convbench.executors.mpi:MPI", "ranks of an MPI job", by_default=False),
    ],
)


def gpu_executor(name: str) -> GpuExecutor | None:
    """The executor of that name if it is a GPU executor; otherwise None."""
    if name not in EXECUTORS or EXECUTORS[name].memory != "gpu":
        return None
    return cast("GpuExecutor", EXECUTORS[name])


def launched(name: str) -> LaunchedExecutor | None:
    """The executor of that name if its workers start together with their leader; otherwise None."""
    if name not in EXECUTORS or not EXECUTORS[name].launched:
        return None
    return cast("LaunchedExecutor", EXECUTORS[name])
