"""The worker processes of the `processes` executor: who computes, and what happens when a call is interrupted.

What an interrupted call has asked for is waited for before anybody uses the workers again; where that cannot be, they
are killed. New workers are started when a call needs them, so what happens in one plan's call never reaches another's.
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
                self._settle(break_off)
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

    def _settle(self, break_off: Callable[[], object] = lambda: None) -> None:
        """Wait for what an interrupted call has begun; kill the workers if that is interrupted as well."""
        try:
            break_off()
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
