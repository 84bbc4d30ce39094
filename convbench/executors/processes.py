"""Many cores: a persistent pool of worker processes computes the units in shared memory.

Workers are plain subprocesses, not children of `multiprocessing`: they do not run the caller's main module again, and
they exit when the caller ends. A call sends each of them about 200 bytes with the places of input and output; nothing
is pickled, and arrays in shared memory are not copied.

Calls from several threads are serialised, so that each uses all workers and cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import weakref
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from convbench.errors import UnavailableError
from convbench.executors import memory
from convbench.executors.host import Host
from convbench.executors.pool import next_number, pool
from convbench.executors.pool_worker import MESSAGE_BYTES, SYNC
from convbench.kernels.clock import STAGES
from convbench.runtime.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.kernels.tile import Work

T = TypeVar("T")

Located = tuple[memory.Segment, int, tuple[int, ...]]
"""Where an array in shared memory lies: the segment, how many bytes into it, and the array's shape."""


class Processes(Host):
    """Runs work on worker processes."""

    scales = True
    memory = "shared"

    def available(self) -> str | None:
        """Needs Unix sockets that preserve message boundaries and pass file descriptors."""
        if hasattr(socket, "SCM_RIGHTS") and hasattr(socket, "SOCK_SEQPACKET"):
            with contextlib.suppress(OSError):
                for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
                    end.close()
                return None
        return "this system cannot pass shared memory between processes; use the threads executor"

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate shared memory; where descriptors run out, private memory, which calls copy.

        Shared memory stays shared with children that are forked later: their writes are visible here.
        """
        try:
            if memory.descriptors_left():
                return memory.shared_empty(shape, dtype)
        except OSError:
            pass
        return memory.private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:
        """Start missing workers, and make each load the tiles."""
        return ProcessesRunner(work, cores)


@dataclass
class CallSpace:
    """Shared memory for one call at a time.

    Attributes:
        counters: Counters from which the units of a phase are claimed, as from `new_counters`.
        workspace: Data that phases pass to later phases.
        places: Places of counters and workspace, as from `_located`.
        staging: Copies of inputs and outputs that are not in shared memory, by role.
    """

    counters: NDArray[np.int64]
    workspace: NDArray[Any]
    places: tuple[Located, Located]
    staging: dict[str, NDArray[Any]] = field(default_factory=dict)

    def shared(self, role: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself if it is in shared memory, otherwise a staging array of its shape."""
        if memory.locate(array):
            return array
        if role not in self.staging or self.staging[role].shape != array.shape:
            self.staging[role] = _allocated(memory.shared_empty, array.shape, array.dtype.name)
        return self.staging[role]


class ProcessesRunner:
    """Sends the places of input and output to the workers, and waits for completion."""

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        self._work, self._cores, self._dtype = work, cores, work.dtype.name
        for phase in work.phases:
            phase.tile.load(self._dtype)  # compiled once, here; workers load it from the cache on disk
        compiled = time.perf_counter()
        self.number = next_number()
        parameters = (phase.parameters for phase in work.phases)
        self._weights, *self._parameters = _allocated(memory.shared_copies, work.weights, *parameters)
        self._allocate_writable()
        self._forget = weakref.finalize(self, _forget, self.number)
        self._forget.atexit = False
        pool().call(self, cores)
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    def _allocate_writable(self) -> None:
        """Allocate the memory that workers write to; a forked child needs its own."""
        self.clock: NDArray[np.int64] = _allocated(memory.shared_empty, (self._cores, STAGES), "int64")
        self.clock.fill(0)
        self._segments = [_located(array)[0] for array in (self._weights, self.clock)]
        self._idle = [self._new_space()]
        self._pid = os.getpid()

    def _new_space(self) -> CallSpace:
        workspace = (max(1, self._work.workspace_size),), self._dtype
        own = (self._cores * load("convbench.executors.driver").COUNTER,), "int64"
        counters, shared = _allocated(memory.shared_together, own, workspace)
        return CallSpace(counters, shared, (_located(counters), _located(shared)))

    @property
    def segments(self) -> Sequence[memory.Segment]:
        """Segments of shared memory that the work needs."""
        return self._segments

    @property
    def closed(self) -> bool:
        """Whether the runner is closed."""
        return not self._forget.alive

    def order(self, row: int) -> bytes:
        """The message body with which worker `row` opens the work, as JSON.

        Raises:
            UnavailableError: It does not fit a message.
        """
        work = self._work
        order = json.dumps(
            {
                "work": self.number,
                "phases": [
                    {
                        "tile": asdict(phase.tile),
                        "units": phase.units,
                        "stages": phase.stages,
                        "together": phase.together,
                        "parameters": _place(parameters),
                    }
                    for phase, parameters in zip(work.phases, self._parameters, strict=True)
                ],
                "set_up": work.set_up and asdict(work.set_up),
                "dtype": self._dtype,
                "scratch_size": work.scratch_size,
                "weights": _place(self._weights),
                "clock": _place(self.clock),
                "row": row,
            }
        ).encode()
        if SYNC.size + len(order) > MESSAGE_BYTES:
            raise UnavailableError(
                f"{len(work.phases)} phases are more than a message to a worker process holds; use the threads executor"
            )
        return order

    @property
    def pids(self) -> tuple[int, ...]:
        """Process IDs of the workers."""
        return pool().pids(self._cores)

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Compute `out`, copying arrays that are not in shared memory."""
        if os.getpid() != self._pid:
            self._allocate_writable()
        try:
            space = self._idle.pop()
        except IndexError:
            space = self._new_space()
        try:
            source, target = space.shared("input", x), space.shared("output", out)
            if source is not x:
                source[:] = x
            places = (*space.places, _located(source), _located(target))
            segments = [segment for segment, *_ in places]
            fields = [number for segment, offset, shape in places for number in (segment.number, offset, *shape)]
            for number, phase in enumerate(self._work.phases):  # `call` returns when all workers are done: the barrier
                space.counters.fill(0)
                cancel = partial(space.counters.fill, phase.units)
                pool().call(self, self._cores, segments, [number, *fields], cancel=cancel)
            if target is not out:
                out[:] = target
        finally:
            self._idle.append(space)  # no worker uses its counter any more, even after an error

    def threads(self) -> int:
        """One thread in each worker."""
        return self._cores

    def close(self) -> None:
        """Make the workers close the work; they remain for other plans."""
        self._forget()


def _forget(number: int) -> None:
    pool().close_later(number)


def _allocated(allocate: Callable[..., T], *arguments: Any) -> T:
    """Call an allocator of shared memory, with errors as `UnavailableError`."""
    try:
        return allocate(*arguments)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or error
        raise UnavailableError(
            f"no shared memory can be had ({words}); close plans and drop outputs that are no longer needed, "
            "or allow more open files"
        ) from None


def _located(array: NDArray[Any]) -> Located:
    place = memory.locate(array)
    assert place is not None  # noqa: S101  # callers pass arrays in shared memory only
    return *place, array.shape


def _place(array: NDArray[Any]) -> tuple[int, int, tuple[int, ...]]:
    """The place of an array in shared memory: segment number, offset in bytes, shape."""
    segment, offset, shape = _located(array)
    return segment.number, offset, shape


PROCESSES = Processes()
