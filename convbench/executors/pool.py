"""The pool of worker processes of the `processes` executor, and its recovery from interrupted calls.

The requests of an interrupted call are completed before the workers are used again; if that fails, the workers are
killed. A call starts missing workers, so that a failure in one plan's call does not affect other plans.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from convbench.errors import RequestError, UnavailableError
from convbench.executors import memory
from convbench.executors.pool_line import GoneError, Worker
from convbench.executors.pool_worker import RUN, SYNC
from convbench.runtime.loading import run_to_completion


class Job(Protocol):
    """Work, as the pool sends it to workers.

    Attributes:
        number: Identifies the work in this process.
        segments: Segments of shared memory that it needs.
    """

    number: int

    @property
    def segments(self) -> Sequence[memory.Segment]:
        """See the class docstring."""

    @property
    def closed(self) -> bool:
        """Whether the work must not be opened any more."""

    def order(self, row: int) -> bytes:
        """The body of the message with which worker `row` opens the work."""


class Pool:
    """The workers of this process; they serve one call at a time, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may call a plan during another call
        self._workers: list[Worker] = []
        self._busy = False
        self._closed: deque[int] = deque()

    def call(
        self,
        job: Job,
        count: int,
        segments: Sequence[memory.Segment] = (),
        fields: Sequence[int] = (),
        cancel: Callable[[], object] = lambda: None,
    ) -> None:
        """Make the first `count` workers open `job` and, if there are `fields`, run a phase of it.

        Args:
            job: The work.
            count: Number of workers; missing ones are started.
            segments: Segments of shared memory that the fields refer to.
            fields: Fields of a RUN request after the work's number.
            cancel: Called if the call is interrupted, to make the workers finish early.

        Raises:
            UnavailableError: A worker cannot be started, fails or dies; the next call starts new ones.
        """
        with self._lock:
            if self._busy:  # a call was interrupted as it ended, or a signal handler makes this call during another
                self._drain()
            self._busy = True
            try:
                failures = self._carry_out(job, count, segments, fields)
            except GoneError as error:
                raise self._worker_died(error.worker) from None
            except BaseException as error:
                self._drain(cancel)
                if isinstance(error, OSError):
                    raise UnavailableError(f"the processes executor cannot be used ({error.strerror})") from None
                raise
            self._busy = False
        if failures:
            raise UnavailableError(failures[0])

    def pids(self, count: int) -> tuple[int, ...]:
        """Process IDs of the first `count` workers."""
        return tuple(worker.pid for worker in self._workers[:count])

    def close_later(self, number: int) -> None:
        """Schedule a work to be closed before the next call; safe at any time, also in a finalizer."""
        self._closed.append(number)

    def stop(self, *, kill: bool = False) -> None:
        """Stop all workers; the next call starts new ones."""
        with self._lock:
            while self._workers:
                self._workers.pop().stop(kill=kill)
            self._busy = False

    def abandon(self) -> None:
        """Drop all workers in a forked child, without stopping them."""
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

    def _drain(self, cancel: Callable[[], object] = lambda: None) -> None:
        """Wait for the requests of an interrupted call; kill the workers if that is interrupted as well."""
        try:
            cancel()
            for worker in self._workers:
                worker.drain()
        except GoneError:
            self.stop(kill=True)
        except BaseException:
            self.stop(kill=True)
            raise
        self._busy = False

    def _worker_died(self, worker: Worker) -> UnavailableError:
        status = worker.stop()
        self.stop(kill=True)
        return UnavailableError(
            f"worker process {worker.pid} of the processes executor is gone (exit status {status}); "
            "the next call starts a new one"
        )


def _failures(waiting: Sequence[tuple[Worker, int]]) -> list[str]:
    return [failure for worker, number in waiting if (failure := worker.wait(number))]


_pool = Pool()
_numbers = itertools.count(1)


def pool() -> Pool:
    """The pool of this process."""
    return _pool


def next_number() -> int:
    """A number that is unique among the works of this process."""
    return next(_numbers)


def _reset_in_child() -> None:
    """Replace the pool in a forked child: the workers are its parent's, and the lock's holder does not exist there."""
    global _pool
    before, _pool = _pool, Pool()
    before.abandon()


def _stop() -> None:
    _pool.stop()


atexit.register(_stop)  # the pool at that time
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)
