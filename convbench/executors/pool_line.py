"""The caller's side of one worker process of the `processes` executor: its start, requests, answers and end.

Caller and worker each have one end of a socket pair that preserves message boundaries: a message is sent and received
completely or not at all, so that an exception such as Ctrl-C leaves no partial message. Every request has a number,
which its answer repeats.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any, Final

from convbench.executors import memory
from convbench.executors.pool_worker import ANSWER, CLOSE, DROP, MAP, MESSAGE_BYTES, SYNC
from convbench.runtime.interpreter import command, environment

ONE_THREAD: Final = dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
POLL_SECONDS: Final = 0.1  # seconds of waiting for a message; then checks whether another call received the answer
MOST_UNCLAIMED: Final = 10_000  # maximum number of answers to interrupted calls that are kept
EXIT_SECONDS: Final = 1.0  # seconds within which a worker must exit by itself


class Worker:
    """One worker process, as its caller controls it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(POLL_SECONDS)
        self._line = ours
        with theirs, _blocked(signal.SIGINT):  # only the caller handles Ctrl-C
            self._process = subprocess.Popen(
                command("convbench.executors.pool_worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment(ONE_THREAD),
            )
        self.pid = self._process.pid
        self._mapped: set[int] = set()
        self._mapping: dict[int, int] = {}  # request number: segment number
        self.works: set[int] = set()  # numbers of the works that it is known to have open
        self._requests = itertools.count(1)
        self._answers: dict[int, str] = {}  # answers by request number, not yet waited for

    def ask(self, request: struct.Struct, letter: bytes, *fields: Any, rest: bytes = b"") -> int:
        """Send a request, and return its number for `wait`."""
        number = next(self._requests)
        self._send(request.pack(letter, number, *fields) + rest)
        return number

    def wait(self, number: int) -> str:
        """Wait for the answer to a request; returns the error message, empty on success.

        Calls from signal handlers send and wait during other calls, so that answers may arrive in a different order
        from the waits. At most `MOST_UNCLAIMED` unclaimed answers, left by interrupted calls, are kept.
        """
        while number not in self._answers:
            try:
                message = self._line.recv(MESSAGE_BYTES)
            except TimeoutError:  # or a signal handler's call has received the answer meanwhile
                continue
            except OSError:
                message = b""
            if not message:
                raise GoneError(self)
            answered, words = ANSWER.unpack_from(message)[0], message[ANSWER.size :].decode(errors="replace")
            if (segment := self._mapping.pop(answered, None)) is not None and words:
                self._mapped.discard(segment)
            self._answers[answered] = words
            while len(self._answers) > MOST_UNCLAIMED:
                del self._answers[next(iter(self._answers))]
        failure = self._answers.pop(number)
        return failure and f"worker process {self.pid} of the processes executor: {failure}"

    def drain(self) -> None:
        """Wait until all requests are complete, successful or not."""
        self.wait(self.ask(SYNC, b"s"))

    def close(self, numbers: Iterable[int]) -> None:
        """Make the worker close works."""
        for number in self.works.intersection(numbers):
            self.ask(CLOSE, b"c", number)
            self.works.discard(number)

    def map(self, segments: Iterable[memory.Segment]) -> list[int]:
        """Make the worker map segments, and unmap those without arrays; returns the request numbers to `wait` for."""
        for number in self._mapped - memory.live_segments():
            self.ask(DROP, b"d", number)
            self._mapped.discard(number)
        asked = []
        for segment in segments:
            if segment.number not in self._mapped:
                memory.into_huge_pages(segment)  # before the worker's page table has entries for small ones
                number = next(self._requests)
                self._mapping[number] = segment.number
                self._send(MAP.pack(b"m", number, segment.number), segment.fd)
                self._mapped.add(segment.number)
                asked.append(number)
        return asked

    def stop(self, *, kill: bool = False) -> int | None:
        """Close the socket and wait for the worker to exit; kill it if it does not. Returns the exit status."""
        self._line.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(timeout=EXIT_SECONDS)
        self._process.kill()
        return self._process.wait()

    def abandon(self) -> None:
        """Close the socket only, in a forked child: the worker belongs to its parent."""
        self._line.close()
        self._process.returncode = 0  # prevents waiting for a process that is not a child

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
    """A worker has ended unexpectedly."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.pid)
        self.worker = worker


@contextlib.contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal in this thread, and in processes started in the context until they unblock or ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
