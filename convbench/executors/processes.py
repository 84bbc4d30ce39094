"""Many cores: a persistent pool of worker processes fills the units in shared memory.

Workers are plain subprocesses, not children of `multiprocessing`: they do not run the caller's main module again, and
they leave by themselves when the caller is gone. A call sends each of them some two hundred bytes that say where input
and output lie; nothing is pickled, and arrays that already lie in shared memory are not copied.

Calls from several threads wait for one another: each has the workers, and so the cores, to itself.
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
from convbench.executors.pool_worker import MOST, SYNC
from convbench.kernels.clock import STAGES

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
        """Needs a system that passes file descriptors between processes, in messages that stay whole."""
        if hasattr(socket, "SCM_RIGHTS") and hasattr(socket, "SOCK_SEQPACKET"):
            with contextlib.suppress(OSError):
                for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
                    end.close()
                return None
        return "this system cannot pass shared memory between processes; use the threads executor"

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Shared memory; private memory, which is copied when it is used, where descriptors for it run out.

        What a child that is forked later writes to shared memory, this process sees.
        """
        try:
            if memory.descriptors_left():
                return memory.shared_empty(shape, dtype)
        except OSError:
            pass
        return memory.private_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:
        """Start the workers that are missing, and have each load the tile."""
        return ProcessesRunner(work, cores)


@dataclass
class CallSpace:
    """What one call at a time may use.

    Attributes:
        counter: What units are claimed from.
        workspace: What phases pass on to one another.
        places: Where counter and workspace lie, as `_located` says.
        staging: Arrays to copy through.
    """

    counter: NDArray[np.int64]
    workspace: NDArray[Any]
    places: tuple[Located, Located]
    staging: dict[str, NDArray[Any]] = field(default_factory=dict)

    def shared(self, role: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself if it lies in shared memory, otherwise one of its shape that does."""
        if memory.locate(array):
            return array
        if role not in self.staging or self.staging[role].shape != array.shape:
            self.staging[role] = _had(memory.shared_empty, array.shape, array.dtype.name)
        return self.staging[role]


class ProcessesRunner:
    """Tells the workers where input and output lie, and waits until they are through."""

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        self._work, self._cores, self._dtype = work, cores, work.dtype.name
        for phase in work.phases:
            phase.tile.load(self._dtype)  # compiled once, here; the workers find it on disk
        compiled = time.perf_counter()
        self.number = next_number()
        parameters = (phase.parameters for phase in work.phases)
        self._weights, *self._parameters = _had(memory.shared_copies, work.weights, *parameters)
        self._own_what_changes()
        self._forget = weakref.finalize(self, _forget, self.number)
        self._forget.atexit = False
        pool().call(self, cores)
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    def _own_what_changes(self) -> None:
        """Make what workers write to: a forked child needs its own."""
        self.clock: NDArray[np.int64] = _had(memory.shared_empty, (self._cores, STAGES), "int64")
        self.clock.fill(0)
        self._segments = [_located(array)[0] for array in (self._weights, self.clock)]
        self._idle = [self._new_space()]
        self._pid = os.getpid()

    def _new_space(self) -> CallSpace:
        workspace = (max(1, self._work.workspace_size),), self._dtype
        counter, shared = _had(memory.shared_together, ((1,), "int64"), workspace)
        return CallSpace(counter, shared, (_located(counter), _located(shared)))

    @property
    def segments(self) -> Sequence[memory.Segment]:
        """Of shared memory, that the work needs."""
        return self._segments

    @property
    def closed(self) -> bool:
        """Whether it is not to be called any more."""
        return not self._forget.alive

    def order(self, row: int) -> bytes:
        """What the worker of a row has to know to open the work.

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
        if SYNC.size + len(order) > MOST:
            raise UnavailableError(
                f"{len(work.phases)} phases are more than a message to a worker process holds; use the threads executor"
            )
        return order

    @property
    def pids(self) -> tuple[int, ...]:
        """The workers' process numbers."""
        return pool().pids(self._cores)

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`, through shared memory where an array does not lie there."""
        if os.getpid() != self._pid:
            self._own_what_changes()
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
            for number, phase in enumerate(self._work.phases):  # a call ends when all workers have: the barrier
                space.counter[0] = 0
                break_off = partial(space.counter.fill, phase.units)
                pool().call(self, self._cores, segments, [number, *fields], break_off=break_off)
            if target is not out:
                out[:] = target
        finally:
            self._idle.append(space)  # by now no worker claims from its counter, whatever has happened

    def threads(self) -> int:
        """One in each worker."""
        return self._cores

    def close(self) -> None:
        """Have the workers forget the work; they stay for the next."""
        self._forget()


def _forget(number: int) -> None:
    pool().close_later(number)


def _had(allocate: Callable[..., T], *arguments: Any) -> T:
    """Shared memory, or a clear word that there is none."""
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
    assert place is not None  # noqa: S101  # only arrays in shared memory get here
    return *place, array.shape


def _place(array: NDArray[Any]) -> tuple[int, int, tuple[int, ...]]:
    """Where a worker finds an array: segment, offset, shape."""
    segment, offset, shape = _located(array)
    return segment.number, offset, shape


PROCESSES = Processes()
