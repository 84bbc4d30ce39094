"""Connections to Dask's schedulers: of a local cluster that is started for it, or of one that is there already."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from convbench.errors import UnavailableError, shown
from convbench.executors import dask_share
from convbench.executors.cluster import Cluster
from convbench.executors.dask_share import version
from convbench.runtime import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

START_SECONDS: Final = 60.0  # for a scheduler to answer, and for workers to come
SETTINGS: Final = {
    "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False",  # which would take memory of every GPU
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",  # samples of stacks, during ours
}
_MODULE: Final = "convbench.executors.dask_cluster"


class LocalCluster:
    """A scheduler and workers on this machine, in processes that end with this one.

    Args:
        workers: How many.
        threads: That each worker may compute on.
    """

    def __init__(self, workers: int, threads: int) -> None:
        complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `_end`
        self._process = subprocess.Popen(
            interpreter.command(_MODULE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=interpreter.environment({"NUMBA_NUM_THREADS": str(threads), **SETTINGS}),
        )
        self.workers = workers
        self._end = weakref.finalize(self, _end, self._process, complaints)
        self._say(workers)
        assert self._process.stdout is not None  # noqa: S101  # a pipe
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self._process.wait()
            complaints.seek(0)
            words = complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
            self.close()
            raise UnavailableError(f"Dask cannot start a cluster on this machine ({words}); give a scheduler")

    def grow(self, workers: int) -> None:
        """Start workers until there are so many."""
        if workers > self.workers:
            self._say(workers)
            self.workers = workers

    def alive(self) -> bool:
        """Whether the process with the scheduler still runs."""
        return self._process.poll() is None

    def _say(self, workers: int) -> None:
        assert self._process.stdin is not None  # noqa: S101  # a pipe
        with contextlib.suppress(BrokenPipeError):  # it has ended; whoever needs it will notice
            self._process.stdin.write(f"{workers}\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it with its workers."""
        self._end()


class Connection:
    """A client of a scheduler. It is made once and kept, as starting takes seconds.

    Attributes:
        client: Dask's.
        ours: Whether the cluster was started for it.
        process: That made it; no use to a forked child.
        crews: Names of those whose shares workers hold.

    Args:
        cluster: Which scheduler; a local cluster if it names none.
        workers: How many are needed first.
        patience: Seconds that the scheduler may take to answer.
    """

    def __init__(self, cluster: Cluster, workers: int, patience: float) -> None:
        import dask
        from distributed import Client

        if cluster.scheduler_file and not Path(cluster.scheduler_file).exists():  # Dask would wait for it
            raise UnavailableError(f"scheduler_file={shown(cluster.scheduler_file)} is not there; start the scheduler")
        self.crews = set[str]()
        self.process, self._local = os.getpid(), cast("LocalCluster | None", None)
        given: dict[str, Any] = {"scheduler_file": cluster.scheduler_file} if cluster.scheduler_file else {}
        address = cluster.scheduler or (None if given else dask.config.get("scheduler-address", None))
        if address is None and not given:
            self._local = LocalCluster(workers, cluster.threads)
            address = self._local.address
        where = address or cluster.scheduler_file
        self.where = f"the Dask scheduler at {where}"
        self.client: Client = Client.__new__(Client)  # so that it can be closed if making it fails
        try:
            self.client.__init__(address, set_as_default=False, timeout=patience, **given)
        except (OSError, ValueError, TypeError) as error:  # of which Dask raises one or the other
            self.close()
            words = "in time" if isinstance(error, TimeoutError) else f"({str(error).strip().partition(chr(10))[0]})"
            raise UnavailableError(f"{self.where} does not answer {words}; start it, or give another one") from None

    @property
    def ours(self) -> bool:
        """See the class."""
        return self._local is not None

    def alive(self) -> bool:
        """Whether the scheduler still answers."""
        return self.client.status == "running" and (self._local is None or self._local.alive())

    def gone(self) -> UnavailableError:
        """The error where it does not."""
        remedy = "make a new plan" if self.ours else "start it again, and go on with what is missing"
        return UnavailableError(f"{self.where} is gone; {remedy}")

    def addresses(self) -> list[str]:
        """Of the workers that the scheduler has now, in a fixed order."""
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def workers(self, count: int, *, but: tuple[str, ...] = ()) -> list[str]:
        """Addresses of so many workers, beside those of `but`, after waiting for them.

        Raises:
            UnavailableError: There are not so many, or the scheduler is gone.
        """
        if self._local is not None:
            self._local.grow(count + len(but))
        deadline = time.monotonic() + START_SECONDS
        while True:
            if not self.alive():
                raise self.gone()
            found = [address for address in self.addresses() if address not in but]
            if len(found) >= count:
                return found[:count]
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.where} has {len(found) + len(but)} workers, and {count + len(but)} are needed; start more, "
                    "or ask for fewer"
                )
            time.sleep(0.05)

    def on_each(self, function: Callable[..., Any], *arguments: Any, workers: list[str]) -> dict[str, Any]:
        """Call a function on each of some workers; of those that are gone by then, there is no answer."""
        found = self.client.run(function, *arguments, workers=workers, on_error="return")
        return {address: answer for address, answer in found.items() if not isinstance(answer, BaseException)}

    def forget(self, crew: str) -> None:
        """Have workers release the shares of a crew that is nobody's any more, without waiting for them.

        Whatever thread collects garbage calls this, Dask's own included.
        """
        self.crews.discard(crew)
        if self.alive() and os.getpid() == self.process:
            loop, run = self.client.loop, self.client._run  # noqa: SLF001  # `run` may wait for its own thread
            loop.add_callback(run, dask_share.forget, crew, on_error="return")

    def check_version(self, workers: list[str]) -> None:
        """See that workers have this version of convbench.

        Raises:
            UnavailableError: One has none, or another.
        """
        found = self.client.run(version, workers=workers, on_error="return")
        for address, answer in found.items():
            if answer != version():
                words = f"convbench {answer}" if isinstance(answer, str) else f"none that answers ({shown(answer)})"
                raise UnavailableError(
                    f"the Dask worker at {address} has {words}; install convbench {version()} on every worker"
                )

    def close(self) -> None:
        """Disconnect, and end what was started for it; workers of others forget the plans that nobody has closed."""
        with contextlib.suppress(Exception):
            if self.crews and self._local is None and self.alive():
                run = self.client._run  # noqa: SLF001  # `run` waits for as long as a worker hangs
                self.client.sync(run, dask_share.forget, *self.crews, on_error="return", callback_timeout=2)
        with contextlib.suppress(Exception):
            self.client.close(timeout=2)
        self.client.status = "closed"  # where that failed, Dask would try again on the way out, for a minute
        if self._local is not None:
            self._local.close()


_connections: dict[Cluster, Connection] = {}
_failed: dict[Cluster, tuple[float, UnavailableError]] = {}
"""When a scheduler did not answer, and the error, so that the cells that follow need not wait for it as long."""
_lock = threading.RLock()  # two threads need no two clusters


def connect(cluster: Cluster, workers: int) -> Connection:
    """The connection that was made before, if its scheduler still answers, otherwise a new one.

    Raises:
        UnavailableError: The scheduler does not answer, or did not a moment ago.
    """
    with _lock:
        return _kept(cluster, workers)


def _kept(cluster: Cluster, workers: int) -> Connection:
    known, patience = _connections.get(cluster), START_SECONDS / 2
    if known is not None and not known.alive():
        if not known.ours:
            patience /= 10  # it is there no longer, as far as anybody knows
        _connections.pop(cluster).close()
        known = None
    if known is None:
        when, error = _failed.get(cluster, (-math.inf, None))
        if error is not None and time.monotonic() - when < START_SECONDS / 2:
            raise error
        try:
            if not _connections:
                atexit.unregister(disconnect)
                atexit.register(disconnect)  # after Dask's own, so that it is called before
            known = _connections[cluster] = Connection(cluster, workers, patience)
        except UnavailableError as now:
            _failed[cluster] = (time.monotonic(), now)
            raise
    return known


def disconnect() -> None:
    """Close every connection, and end the clusters that were started."""
    if all(one.process == os.getpid() for one in _connections.values()):  # otherwise it is a forked parent's
        with _lock:
            while _connections:
                _connections.popitem()[1].close()


def _end(process: subprocess.Popen[str], complaints: IO[bytes]) -> None:
    """Let a cluster end, and see that it does."""
    for pipe in (process.stdin, process.stdout, complaints):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
