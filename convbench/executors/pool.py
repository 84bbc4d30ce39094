"""The worker processes of the `processes` executor, and how the caller speaks to them.

Each worker has one end of a socket pair that keeps messages whole: one is sent and received in one step or not at all,
so an exception between two steps, such as Ctrl-C, leaves no half of one behind. Every request has a number, and the
answer repeats it. What an interrupted call has asked for is waited for before anybody uses the workers again; where
that cannot be, they are killed. New workers are started when a call needs them, so what happens in one plan's call
never reaches another's.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import itertools
import os
import signal
import socket
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from convbench.errors import RequestError, UnavailableError
from convbench.executors import memory
from convbench.executors.pool_worker import ANSWER, CLOSE, DROP, MAP, MOST, RUN, SYNC
from convbench.runtime.interpreter import command, environment
from convbench.runtime.loading import run_to_completion

ONE_THREAD: Final = dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
PATIENCE: Final = 0.1  # seconds that a wait for a message lasts before it is looked whether the answer is here already
LEFT_BEHIND: Final = 10_000  # answers that nobody waits for any more
LEAVING: Final = 1.0  # seconds that a worker has to leave by itself


class Job(Protocol):
    """Work as the workers know it.

    Attributes:
        number: Tells it apart.
        segments: Of shared memory that it needs.
    """

    number: int

    @property
    def segments(self) -> Sequence[memory.Segment]:
        """See above."""

    @property
    def closed(self) -> bool:
        """Whether it is not to be opened any more."""

    def order(self, row: int) -> bytes:
        """The message by which the worker of a row opens it, without its head."""


class Worker:
    """One worker process, seen from the caller."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE)
        self._line = ours
        with theirs, _held_back(signal.SIGINT):  # Ctrl-C is the caller's to handle
            self._process = subprocess.Popen(
                command("convbench.executors.pool_worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment(ONE_THREAD),
            )
        self.pid = self._process.pid
        self._mapped: set[int] = set()
        self._mapping: dict[int, int] = {}  # request: segment
        self.works: set[int] = set()  # that it is known to have open
        self._requests = itertools.count(1)
        self._answers: dict[int, str] = {}  # that nobody has waited for yet

    def ask(self, request: struct.Struct, letter: bytes, *fields: Any, rest: bytes = b"") -> int:
        """Send a request; returns its number, to `wait` for."""
        number = next(self._requests)
        self._send(request.pack(letter, number, *fields) + rest)
        return number

    def wait(self, number: int) -> str:
        """Wait until a request is answered; return what went wrong, or nothing if nothing did.

        Calls from signal handlers ask and wait in the middle of others, so answers may come in another order than that
        in which they are waited for. Those that an interrupted call has left are kept, up to `LEFT_BEHIND`.
        """
        while number not in self._answers:
            try:
                message = self._line.recv(MOST)
            except TimeoutError:  # or a call from a signal handler has received it in between
                continue
            except OSError:
                message = b""
            if not message:
                raise GoneError(self)
            answered, words = ANSWER.unpack_from(message)[0], message[ANSWER.size :].decode(errors="replace")
            if (segment := self._mapping.pop(answered, None)) is not None and words:
                self._mapped.discard(segment)
            self._answers[answered] = words
            while len(self._answers) > LEFT_BEHIND:
                del self._answers[next(iter(self._answers))]
        failure = self._answers.pop(number)
        return failure and f"worker process {self.pid} of the processes executor: {failure}"

    def settle(self) -> None:
        """Wait until everything that was asked for is done, whatever became of it."""
        self.wait(self.ask(SYNC, b"s"))

    def close(self, numbers: Iterable[int]) -> None:
        """Have it forget works."""
        for number in self.works.intersection(numbers):
            self.ask(CLOSE, b"c", number)
            self.works.discard(number)

    def map(self, segments: Iterable[memory.Segment]) -> list[int]:
        """See to it that it has these segments mapped, and none that hold no array any more; what to `wait` for."""
        for number in self._mapped - memory.live_segments():
            self.ask(DROP, b"d", number)
            self._mapped.discard(number)
        asked = []
        for segment in segments:
            if segment.number not in self._mapped:
                number = next(self._requests)
                self._mapping[number] = segment.number
                self._send(MAP.pack(b"m", number, segment.number), segment.fd)
                self._mapped.add(segment.number)
                asked.append(number)
        return asked

    def stop(self, *, kill: bool = False) -> int | None:
        """Hang up and wait for its end; a worker that is still computing is killed. Returns the exit status."""
        self._line.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(timeout=LEAVING)
        self._process.kill()
        return self._process.wait()

    def abandon(self) -> None:
        """Forget it, as a forked child must: the worker is its parent's."""
        self._line.close()
        self._process.returncode = 0  # there is nothing for this process to wait for

    def _send(self, message: bytes, *fds: int) -> None:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            try:
                self._line.sendmsg([message], control)
            except TimeoutError:
                continue
            except OSError:
                raise GoneError(self) from None
            return


class GoneError(Exception):
    """A worker has ended that should not have."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.pid)
        self.worker = worker


class Pool:
    """The workers of this process; one call at a time, from whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call a plan in the middle of another's call
        self._workers: list[Worker] = []
        self._busy = False
        self._closed: deque[int] = deque()

    def call(
        self,
        job: Job,
        count: int,
        segments: Sequence[memory.Segment] = (),
        fields: Sequence[int] = (),
        break_off: Callable[[], object] = lambda: None,
    ) -> None:
        """Have the first `count` workers open `job` and, with the `fields` of a RUN, fill its units.

        Args:
            job: The work.
            count: How many workers take part; those that are missing are started.
            segments: Of shared memory that the fields name.
            fields: What RUN has behind the work's number.
            break_off: Called where the call is interrupted, to have the workers come to its end soon.

        Raises:
            UnavailableError: A worker cannot be started, fails or dies; whoever calls next gets new ones.
        """
        with self._lock:
            if self._busy:  # a call was interrupted just as it ended, or this one comes from within it
                self._settle()
            self._busy = True
            try:
                failures = self._carry_out(job, count, segments, fields)
            except GoneError as error:
                raise self._lost(error.worker) from None
            except BaseException as error:
                break_off()
                self._settle()
                if isinstance(error, OSError):
                    raise UnavailableError(f"the processes executor cannot be used ({error.strerror})") from None
                raise
            self._busy = False
        if failures:
            raise UnavailableError(failures[0])

    def pids(self, count: int) -> tuple[int, ...]:
        """The first workers' process numbers."""
        return tuple(worker.pid for worker in self._workers[:count])

    def close_later(self, number: int) -> None:
        """Have the workers forget a work before the next call; may be called at any moment, by a finalizer as well."""
        self._closed.append(number)

    def stop(self, *, kill: bool = False) -> None:
        """Stop every worker; the next call starts new ones."""
        with self._lock:
            while self._workers:
                self._workers.pop().stop(kill=kill)
            self._busy = False

    def abandon(self) -> None:
        """Forget every worker, in a forked child."""
        for worker in self._workers:
            worker.abandon()

    def _carry_out(self, job: Job, count: int, segments: Sequence[memory.Segment], fields: Sequence[int]) -> list[str]:
        while len(self._workers) < count:
            run_to_completion(self._start_worker)
        workers = self._workers[:count]
        self._forget_closed()
        if job.closed:
            raise RequestError("the plan was closed while it was called; call it before")
        mapping = [(worker, number) for worker in workers for number in worker.map((*job.segments, *segments))]
        if failures := _failures(mapping):
            return failures
        opening: list[tuple[Worker, int]] = []
        for row, worker in enumerate(workers):
            if job.number not in worker.works:
                opening.append((worker, worker.ask(SYNC, b"o", rest=job.order(row))))
        failures = _failures(opening)
        if not failures:
            for worker, _ in opening:
                worker.works.add(job.number)
        if failures or not fields:
            return failures
        return _failures([(worker, worker.ask(RUN, b"r", job.number, *fields)) for worker in workers])

    def _start_worker(self) -> None:
        self._workers.append(Worker())

    def _forget_closed(self) -> None:
        numbers = []
        with contextlib.suppress(IndexError):
            while True:
                numbers.append(self._closed.popleft())
        if numbers:
            for worker in self._workers:
                worker.close(numbers)

    def _settle(self) -> None:
        """Wait for what an interrupted call has begun; kill the workers if that is interrupted as well."""
        try:
            for worker in self._workers:
                worker.settle()
        except GoneError:
            self.stop(kill=True)
        except BaseException:
            self.stop(kill=True)
            raise
        self._busy = False

    def _lost(self, worker: Worker) -> UnavailableError:
        status = worker.stop()
        self.stop(kill=True)
        return UnavailableError(
            f"worker process {worker.pid} of the processes executor is gone (exit status {status}); "
            "the next call starts a new one"
        )


def _failures(waiting: Sequence[tuple[Worker, int]]) -> list[str]:
    return [failure for worker, number in waiting if (failure := worker.wait(number))]


@contextlib.contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Let a signal wait: for this thread until the block ends, for a process that is started in it until it says so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_pool = Pool()
_numbers = itertools.count(1)


def pool() -> Pool:
    """The pool of this process."""
    return _pool


def next_number() -> int:
    """A number that no other work of this process has."""
    return next(_numbers)


def _start_over() -> None:
    """In a forked child: the workers are its parent's, and whoever held the lock is not here."""
    global _pool
    before, _pool = _pool, Pool()
    before.abandon()


def _stop() -> None:
    _pool.stop()


atexit.register(_stop)  # whichever is this process's then
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)
