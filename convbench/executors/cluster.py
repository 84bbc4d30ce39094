"""What executors on a cluster share: they compute pieces of a problem apart, each where its input lies.

Such an executor knows no convolution. It is given a `Job`: which slices of the input each piece reads, which slices of
the output it fills, and what makes the function that computes it. A `Crew` is the workers that hold the pieces.
"""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import numpy as np

from convbench.errors import RequestError
from convbench.executors.host import Host
from convbench.executors.memory import private_empty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.kernels.tile import Work

Slices = tuple[slice, slice, slice, slice]
Times = list[list[tuple[float, float]]]
"""For each call, for each worker: seconds that it computed, and that it exchanged halos and waited for them."""

FORKED: Final = "connections do not outlive a fork; start the process afresh, as multiprocessing does with 'spawn'"
REPLACED: Final = "worker_replaced"
"""The event that a worker has died and another one has its piece."""


ALLOWED: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
"""CPUs that this process might use when it began, before anybody pinned it."""


@dataclass(frozen=True)
class Cluster:
    """What is asked of the workers of an executor on a cluster.

    Attributes:
        threads: Threads that each worker computes on.
        processor: What each worker computes on, "cpu" or "gpu": one GPU for each.
        scheduler: Address of Dask's scheduler, such as "tcp://HOST:PORT"; empty where there is none to be used.
        scheduler_file: Path of the file that tells that address; empty where there is none.
    """

    threads: int = 1
    processor: str = "cpu"
    scheduler: str = ""
    scheduler_file: str = ""


ON_THIS_MACHINE: Final = Cluster()


@dataclass(frozen=True)
class Piece:
    """What one worker has of input and output.

    Attributes:
        order: What its `Share` is made of; pickled.
        reads: Slices (batch, channels, rows, columns) of the input.
        writes: Slices (batch, out_channels, rows, columns) of the output.
    """

    order: Any
    reads: Slices
    writes: Slices


@dataclass(frozen=True)
class Job:
    """Pieces that together fill an output.

    Attributes:
        share: "module:function" that makes a `Share` of a piece's order, on the worker.
        pieces: One for each worker.
        input_shape: Of the whole input, 4-D.
        output_shape: Of the whole output, 4-D.
        dtype: Of both.
    """

    share: str
    pieces: tuple[Piece, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str

    def bytes(self, slices: Slices, shape: tuple[int, ...]) -> int:
        """Bytes of slices of an array of that shape."""
        return math.prod(extents(slices, shape)) * np.dtype(self.dtype).itemsize


class Share(Protocol):
    """Computes a piece on the worker that holds it.

    Attributes:
        facts: What the leader is to know of it: "setup" (seconds, by step), and more.
    """

    facts: dict[str, Any]

    def load(self, x: NDArray[Any]) -> None:
        """Take the input of the calls that follow: a reference to it, or a copy of it as it is."""

    def __call__(self) -> None:
        """Compute the piece's output."""

    def output(self) -> Any:
        """The output of the last call where it is: an array, or what becomes one when it is pickled."""

    def result(self) -> NDArray[Any]:
        """The same in the host's memory."""

    def close(self) -> None:
        """Release all resources."""


@dataclass
class Traffic:
    """What a transfer moves between processes.

    Attributes:
        bytes: Of all its messages together.
        messages: How many there are.
    """

    bytes: int = 0
    messages: int = 0

    def add(self, size: int) -> None:
        """One more message."""
        self.bytes += size
        self.messages += 1


@dataclass(frozen=True)
class Members:
    """Where the workers of a crew run.

    Attributes:
        facts: What each worker's `Share` tells, with "pid", "host" and "cpus" (those it may run on).
        ours: Whether this process has started them, and so may pin them.
    """

    facts: Sequence[Mapping[str, Any]]
    ours: bool

    @property
    def pids(self) -> tuple[int, ...]:
        """Process IDs of the workers that this process may pin, beside itself where it is one of them."""
        here = socket.gethostname()
        pids = (fact["pid"] for fact in self.facts if self.ours and fact["host"] == here)
        return tuple(pid for pid in pids if pid != os.getpid())

    @property
    def hosts(self) -> int:
        """How many machines they run on."""
        return len({fact["host"] for fact in self.facts})

    def oversubscribed(self, threads: int) -> bool:
        """Whether workers of so many threads have fewer CPUs on one of the machines than threads."""
        cpus: dict[str, set[int]] = {}
        wanted: dict[str, int] = {}
        for fact in self.facts:
            cpus.setdefault(fact["host"], set()).update(fact["cpus"])
            wanted[fact["host"]] = wanted.get(fact["host"], 0) + threads
        return any(wanted[host] > len(cpus[host]) for host in wanted)


class Crew(Protocol):
    """Workers that hold the pieces of a job.

    Attributes:
        setup: Seconds of set-up, by step.
        members: Where they run.
        traffic: What moves in "distribution", "halo" (in each call) and "gathering".
        events: What has happened to workers so far, by name, see `REPLACED`.
    """

    setup: dict[str, float]
    members: Members
    traffic: dict[str, Traffic]
    events: list[str]

    def distribute(self, x: NDArray[Any]) -> None:
        """Send each worker its part of the input, shape `Job.input_shape`, and wait until all have it."""

    def compute(self) -> None:
        """Have every worker compute its piece, after it has what it needs of its neighbours' input; wait for all."""

    def gather(self, out: NDArray[Any]) -> None:
        """Bring the pieces' outputs into an array of `Job.output_shape`."""

    def ready(self) -> None:
        """Wake the workers, so that the next call does not wait for one that sleeps."""

    def drain(self) -> Times:
        """The times of the calls since the last time that it was asked; of workers that have died, none."""

    def close(self) -> None:
        """Release the pieces. Idempotent."""


class ClusterExecutor(Protocol):
    """An executor whose workers compute pieces of a problem, see the module.

    Attributes:
        exchanges: Whether workers begin and end a call together, and send one another what their neighbours read of
            their input in it; otherwise whoever leads dispatches to one after the other, and each has what it reads.
    """

    exchanges: bool

    def crew(self, job: Job, cluster: Cluster) -> Crew:
        """Start or find as many workers as the job has pieces, and have them make their shares.

        Raises:
            UnavailableError: There are not so many, or they cannot make their shares.
        """


class Distributing(Host):
    """The base class of executors on a cluster."""

    scales = True
    memory = "private"
    distributes = True
    exchanges = False
    _process = 0  # that had workers first

    def lost(self) -> bool:
        """Whether this process was forked from one that had workers."""
        return self._process not in (0, os.getpid())

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate private memory in the process that gathers."""
        return private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:  # noqa: ARG002
        """Refuse: such an executor has no work of a whole problem."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise RequestError("an executor on a cluster computes pieces of a problem; make a plan with convbench.plan")


@dataclass
class Ledger:
    """Times of calls that a worker has computed and that nobody has asked for yet."""

    entries: list[tuple[float, float]] = field(default_factory=list)

    def drain(self) -> list[tuple[float, float]]:
        """The entries, which are then forgotten."""
        found, self.entries = self.entries, []
        return found


def make_share(location: str, order: Any) -> Share:
    """The share that "module:function" makes of an order; its facts tell where it is, too."""
    module, _, name = location.partition(":")
    share = cast("Share", getattr(import_module(module), name)(order))
    share.facts.update(pid=os.getpid(), host=socket.gethostname(), cpus=ALLOWED)
    return share


def bounds(part: slice, length: int) -> tuple[int, int]:
    """First and last (not included) of a slice with step 1 of an axis of that length."""
    first, last, _ = part.indices(length)
    return first, last


def extents(slices: Slices, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of slices of an array of that shape."""
    return tuple(len(range(*part.indices(length))) for part, length in zip(slices, shape, strict=True))
