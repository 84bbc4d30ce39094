"""Workers of a Dask cluster: a local one, or any that has a scheduler.

Each worker is sent its piece of the input once. A call is a task for each worker; its result, the output, stays where
it is, and only what is gathered moves. Dask replaces workers that die, and computes again what it can; what was
scattered is lost with a worker, so it is scattered again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import uuid
import weakref
from concurrent.futures import CancelledError
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.errors import ConvbenchError, RequestError, UnavailableError
from convbench.executors import dask_share
from convbench.executors.cluster import FORKED, REPLACED, Cluster, Distributing, Job, Members, Times, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Future
    from numpy.typing import NDArray

    from convbench.executors.dask_connection import Connection

ATTEMPTS: Final = 6  # calls in a row that may lose a worker
PAUSE: Final = 0.1  # seconds before the second of them; longer before later ones


class Dask(Distributing):
    """Runs pieces on the workers of a Dask cluster."""

    def available(self) -> str | None:
        """Needs Dask's scheduler and workers."""
        if find_spec("distributed") is None:
            return "Dask is not installed; pip install 'convbench[dask]'"
        return FORKED if self.lost() else None

    def crew(self, job: Job, cluster: Cluster) -> DaskCrew:
        """See `ClusterExecutor`."""
        from convbench.executors.dask_connection import connect

        begin = time.perf_counter()
        self._process = os.getpid()
        connection = connect(cluster, len(job.pieces))
        workers = connection.workers(len(job.pieces))
        if not connection.ours:
            connection.check_version(workers)
        return DaskCrew(connection, workers, job, time.perf_counter() - begin)


class LostError(Exception):
    """A worker is gone, and with it what it was sent."""


class DaskCrew:
    """Workers that hold the pieces of a job: `executors.cluster.Crew`.

    Args:
        connection: To the scheduler.
        workers: Addresses, one for each piece.
        job: Its pieces.
        start: Seconds that it took to have the workers.
    """

    def __init__(self, connection: Connection, workers: list[str], job: Job, start: float) -> None:
        self._connection, self._client, self._job = connection, connection.client, job
        self._name, self._undrained = uuid.uuid4().hex, 0
        self._turns = itertools.count()
        self._places = list(workers)
        self._x: NDArray[Any] | None = None
        self._orders: list[Future] = []
        self._inputs: list[Future] = []
        self._outputs: list[Future] = []
        self.events: list[str] = []
        inputs, outputs = Traffic(), Traffic()
        for piece in job.pieces:
            inputs.add(job.bytes(piece.reads, job.input_shape))
            outputs.add(job.bytes(piece.writes, job.output_shape))
        self.traffic = {"distribution": inputs, "halo": Traffic(), "gathering": outputs}
        self._end = weakref.finalize(self, connection.forget, self._name)
        self._end.atexit = False  # `disconnect` sees to it
        connection.crews.add(self._name)
        try:
            facts = self._persistently(self._prepared)
        except BaseException:
            self.close()
            raise
        self.members = Members(facts, connection.ours)
        self.setup = {"start": start}

    def distribute(self, x: NDArray[Any]) -> None:
        """Scatter the pieces, each to its worker; a copy stays here, to send them again from it."""
        self._inputs, self._outputs = [], []
        if self._x is None:
            self._x = np.empty_like(x)
        np.copyto(self._x, x)
        self._persistently(self._scattered)

    def compute(self) -> None:
        """Run a task for each piece, and wait for all."""
        self._persistently(self._computed)

    def gather(self, out: NDArray[Any]) -> None:
        """Bring the results here, one after the other."""

        def gathered() -> None:
            if not self._outputs:
                self._computed()
            for piece, future in zip(self._job.pieces, self._outputs, strict=True):
                out[piece.writes] = self._client.gather(future, direct=True)

        self._persistently(gathered)

    def ready(self) -> None:
        """Nothing to do: Dask's workers wait for messages."""

    def drain(self) -> Times:
        """Ask the workers; empty if one that computed has died since."""
        calls, self._undrained = self._undrained, 0
        found: dict[int, list[tuple[float, float]]] = {}
        answers = self._persistently(
            lambda: self._connection.on_each(dask_share.drain, self._name, workers=self._live())
        )
        for answer in answers.values():
            for number, entries in answer.items():
                found.setdefault(number, []).extend(entries)
        if any(len(found.get(number, ())) != calls for number in range(len(self._places))):
            return []
        return [[found[number][call] for number in range(len(self._places))] for call in range(calls)]

    def close(self) -> None:
        """Release data and shares."""
        self._orders, self._inputs, self._outputs, self._x = [], [], [], None
        if self._end.detach() is None:
            return
        self._connection.crews.discard(self._name)
        with contextlib.suppress(OSError, CancelledError, ValueError):  # the scheduler may go just then
            if self._connection.alive():  # any worker may have taken over for a call
                self._connection.on_each(dask_share.forget, self._name, workers=self._connection.addresses())

    def _persistently(self, step: Callable[[], Any]) -> Any:
        """Do a step, again after a worker was lost; interrupts and other errors are raised."""
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._recover()
                return step()
            except (LostError, CancelledError, OSError, KeyError):  # of which Dask raises one or the other
                time.sleep(attempt * PAUSE)  # until the scheduler has noticed
        if not self._connection.alive():
            raise self._connection.gone()
        raise UnavailableError(f"Dask lost a worker in {ATTEMPTS} calls in a row; see the workers' logs")

    def _scattered(self) -> None:
        self._inputs = [self._input(number) for number in range(len(self._places))]

    def _prepared(self) -> list[dict[str, Any]]:
        if not self._orders:
            self._orders = [self._send(number, piece.order) for number, piece in enumerate(self._job.pieces)]
        tasks = self._tasks(dask_share.prepare, self._orders)
        self._finish(tasks)
        return list(self._client.gather(tasks))

    def _computed(self) -> None:
        if not self._inputs:
            raise RequestError("the workers have no input; call distribute before")
        self._outputs = []  # those of the call before are the same arrays
        self._undrained += 1
        outputs = self._tasks(dask_share.compute, self._orders, self._inputs)
        self._finish(outputs)
        self._outputs = outputs

    def _tasks(self, function: Callable[..., Any], *data: list[Future]) -> list[Future]:
        """A task for each piece, which Dask runs where the piece's data lie: all in one message, as each may wait."""
        pieces, turn = range(len(self._places)), next(self._turns)
        name, share = [(self._name, number) for number in pieces], [self._job.share for _ in pieces]
        keys = [f"convbench-{function.__name__}-{self._name}-{turn}-{number}" for number in pieces]
        return self._client.map(  # type: ignore[no-any-return]
            function, name, share, *data, key=keys, workers=self._places, allow_other_workers=True
        )

    def _finish(self, tasks: list[Future]) -> None:
        """Wait for tasks.

        Raises:
            LostError: Data of one was lost.
            UnavailableError: One failed.
        """
        from distributed import wait

        with self._client.as_current():
            wait(tasks)
        for task in tasks:
            if task.status == "error":
                error = task.exception()
                if isinstance(error, ConvbenchError):
                    raise error
                words = " ".join(str(error).split())
                raise UnavailableError(f"a Dask worker failed: {type(error).__name__}: {words}")
            if task.status != "finished":
                raise LostError

    def _send(self, number: int, value: Any) -> Future:
        """Scatter a value to the worker of a piece."""
        return self._client.scatter(value, workers=[self._places[number]], direct=True, hash=False)

    def _input(self, number: int) -> Future:
        assert self._x is not None  # noqa: S101  # `distribute` comes first
        return self._send(number, self._x[self._job.pieces[number].reads])

    def _live(self) -> list[str]:
        """Addresses of the workers of this crew that the scheduler knows."""
        known = set(self._connection.addresses())
        return [place for place in self._places if place in known]

    def _recover(self) -> None:
        """Replace workers that are gone, and send their pieces again.

        Raises:
            UnavailableError: The scheduler is gone, or there are not enough workers.
        """
        if not self._connection.alive():
            raise self._connection.gone()
        live = self._live()
        others = iter(self._connection.workers(len(self._places) - len(live), but=tuple(live)))
        for number, place in enumerate(self._places):
            if place not in live:
                self._places[number] = next(others)
                self.events.append(REPLACED)
        self._orders = [
            future if future.status == "finished" else self._send(number, self._job.pieces[number].order)
            for number, future in enumerate(self._orders)
        ]
        self._inputs = [
            future if future.status == "finished" else self._input(number) for number, future in enumerate(self._inputs)
        ]
        self._outputs = []


DASK: Final = Dask()
