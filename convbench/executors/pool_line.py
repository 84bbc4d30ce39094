"""One worker process of the `processes` executor, seen from the caller: requests, their answers, its end.

Caller and worker each have one end of a socket pair that keeps messages whole: one is sent and received in one step or
not at all, so an exception between two steps, such as Ctrl-C, leaves no half of one behind. Every request has a number,
and the answer repeats it.
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
from convbench.executors.pool_worker import ANSWER, CLOSE, DROP, MAP, MOST, SYNC
from convbench.runtime.interpreter import command, environment

ONE_THREAD: Final = dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
PATIENCE: Final = 0.1  # seconds that a wait for a message lasts before it is looked whether the answer is here already
LEFT_BEHIND: Final = 10_000  # answers that nobody waits for any more
LEAVING: Final = 1.0  # seconds that a worker has to leave by itself


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


@contextlib.contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Let a signal wait: for this thread until the block ends, for a process that is started in it until it says so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
