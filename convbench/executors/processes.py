"""Many cores: a persistent pool of worker processes fills the units in shared memory.

Workers are plain subprocesses, not children of `multiprocessing`: they do not run the caller's main module again, and
they leave by themselves when the caller is gone. A call sends each of them a hundred bytes that say where input and
output lie; nothing is pickled, and arrays that already lie in shared memory are not copied.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import TYPE_CHECKING, Any, Final

from convbench import interpreter
from convbench.clock import STAGES
from convbench.errors import UnavailableError
from convbench.executors import memory
from convbench.executors.host import Host
from convbench.executors.pool_worker import CLOSE, DONE, DROP, MAP, OPEN, RUN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.tile import Work

_ONE_THREAD: Final = dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)


class Processes(Host):
    """Runs work on worker processes."""

    scales = True
    memory = "shared"

    def available(self) -> str | None:
        """Needs a system that passes file descriptors between processes."""
        if hasattr(socket, "AF_UNIX") and hasattr(socket, "SCM_RIGHTS"):
            return None
        return "this system cannot pass shared memory between processes; use the threads executor"

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Shared memory."""
        return memory.shared_empty(shape, dtype)

    def open(self, work: Work, cores: int) -> Runner:
        """Start the workers that are missing, and have each load the tile."""
        return ProcessesRunner(work, cores)


class Member:
    """One worker process, seen from the caller."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                interpreter.command("convbench.executors.pool_worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=interpreter.environment(_ONE_THREAD),
            )
        self._line = Connection(ours.detach())
        self._mapped: set[int] = set()
        self.pid = self._process.pid

    def send(self, message: bytes) -> None:
        """Send one message."""
        try:
            self._line.send_bytes(message)
        except OSError:
            raise self._gone() from None

    def wait(self) -> str | None:
        """Wait until the worker has done what it was told; return what went wrong, if anything did."""
        try:
            answer = self._line.recv_bytes()
        except (EOFError, OSError):
            raise self._gone() from None
        return None if answer == DONE else f"worker process {self.pid} of the processes executor: {answer.decode()}"

    def map(self, segments: Iterable[memory.Segment]) -> None:
        """See to it that the worker has these segments mapped, and none that hold no array any more."""
        for number in self._mapped - memory.living():
            self.send(DROP.pack(b"d", number))
            self._mapped.remove(number)
        for segment in segments:
            if segment.number not in self._mapped:
                self.send(MAP.pack(b"m", segment.number))
                send_handle(self._line, segment.fd, self.pid)
                self._mapped.add(segment.number)

    def stop(self) -> None:
        """Hang up and wait; a worker that is still computing is killed."""
        self._line.close()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _gone(self) -> UnavailableError:
        stop_pool()
        code = self._process.returncode
        return UnavailableError(f"worker process {self.pid} of the processes executor is gone (exit status {code})")


_pool: list[Member] = []
_one_call_at_a_time = threading.Lock()
_numbers = itertools.count()


def members(count: int) -> list[Member]:
    """The first `count` workers of the process's pool; those that are missing are started."""
    _pool.extend(Member() for _ in range(count - len(_pool)))
    return _pool[:count]


def stop_pool() -> None:
    """Stop every worker; the next plan starts new ones."""
    while _pool:
        _pool.pop().stop()


atexit.register(stop_pool)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # a forked child must not talk to its parent's workers


class ProcessesRunner:
    """Tells its workers where input and output lie, and waits until they are through."""

    def __init__(self, work: Work, cores: int) -> None:
        begin = time.perf_counter()
        self._dtype = work.dtype.name
        work.tile.load(self._dtype)  # compiled once, here; the workers find it on disk
        compiled = time.perf_counter()
        self._number = next(_numbers)
        self._members = members(cores)
        self._counter = memory.shared_empty((8,), "int64")
        self.clock = memory.shared_empty((cores, STAGES), "int64")
        self._weights = memory.shared_empty(work.weights.shape, self._dtype)
        self._weights[:] = work.weights
        self._staging: dict[str, NDArray[Any]] = {}
        order = {
            "work": self._number,
            "tile": [work.tile.module, work.tile.name, work.tile.arguments],
            "dtype": self._dtype,
            "units": work.units,
            "parameters": work.parameters.tolist(),
            "scratch_size": work.scratch_size,
            "weights": _place(self._weights),
            "counter": _place(self._counter),
            "clock": _place(self.clock),
        }
        self._tell(
            [OPEN + json.dumps({**order, "row": row}).encode() for row in range(cores)],
            *(self._weights, self._counter, self.clock),
        )
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    @property
    def pids(self) -> tuple[int, ...]:
        """The workers' process numbers."""
        return tuple(member.pid for member in self._members)

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`, through shared memory where an array does not lie there."""
        source, target = self._shared("input", x), self._shared("output", out)
        if source is not x:
            source[:] = x
        self._counter[0] = 0
        places = (number for *place, shape in (_place(source), _place(target)) for number in (*place, *shape))
        message = RUN.pack(b"r", self._number, *places)
        self._tell([message] * len(self._members), source, target)
        if target is not out:
            out[:] = target

    def threads(self) -> int:
        """One in each worker."""
        return len(self._members)

    def close(self) -> None:
        """Have the workers forget the work; they stay for the next."""
        for member in self._members:
            if member in _pool:
                member.send(CLOSE.pack(b"c", self._number))

    def _tell(self, messages: list[bytes], *arrays: NDArray[Any]) -> None:
        """Send each worker its message about arrays in shared memory, and wait for all answers."""
        segments = [_located(array)[0] for array in arrays]
        with _one_call_at_a_time:
            for member, message in zip(self._members, messages, strict=True):
                member.map(segments)
                member.send(message)
            failures = [failure for member in self._members if (failure := member.wait())]
        if failures:
            raise UnavailableError(failures[0])

    def _shared(self, role: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself if it lies in shared memory, otherwise one of its shape that does."""
        if memory.locate(array):
            return array
        if role not in self._staging or self._staging[role].shape != array.shape:
            self._staging[role] = memory.shared_empty(array.shape, self._dtype)
        return self._staging[role]


def _located(array: NDArray[Any]) -> tuple[memory.Segment, int]:
    place = memory.locate(array)
    assert place is not None  # noqa: S101  # only arrays in shared memory get here
    return place


def _place(array: NDArray[Any]) -> tuple[int, int, tuple[int, ...]]:
    """Where a worker finds an array: segment, offset, shape."""
    segment, offset = _located(array)
    return segment.number, offset, array.shape


PROCESSES = Processes()
