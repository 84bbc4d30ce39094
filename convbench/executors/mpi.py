"""Ranks of an MPI job: each has a band of the input or some of its images, and neighbours exchange halos in every call.

The first rank leads: it has the whole input and output, and a piece of its own. Jobs of fewer workers than ranks take
the first ranks; the others sleep.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import weakref
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from convbench.errors import RequestError, UnavailableError
from convbench.executors.cluster import FORKED, Cluster, Distributing, Job, Members, Times
from convbench.runtime import interpreter
from convbench.runtime.ranks import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from convbench.executors.mpi_piece import RankPiece

STARTED_HERE: Final = "CONVBENCH_MPI"
"""Set in the ranks of a job that a sweep has started."""

_RANK: Final = "convbench.executors.mpi_rank"
_PATIENCE: Final = 10.0  # seconds for a launcher to tell its version
_MISSING: Final = "mpi4py is not installed; pip install 'convbench[mpi]'"


class Mpi(Distributing):
    """Runs pieces on the ranks of an MPI job."""

    launched = True
    exchanges = True
    _leads = False  # ranks of a job that somebody else has started

    def available(self) -> str | None:
        """Needs mpi4py, and to be the first rank of a job whose other ranks serve it, as sweeps see to."""
        if (reason := _missing()) is not None:
            return reason
        if not (self._leads or STARTED_HERE in os.environ):
            return "this process leads no ranks of an MPI job; see whether mpiexec is installed"
        return FORKED if self.lost() else None

    def crew(self, job: Job, cluster: Cluster) -> MpiCrew:  # noqa: ARG002  # ranks have their threads by their orders
        """See `ClusterExecutor`."""
        self._process = os.getpid()
        return MpiCrew(job)

    def launcher(self, module: str, processes: int) -> list[str] | None:
        """The command that runs a module of this package as the first of so many ranks; None where there is none."""
        program = _mpiexec()
        if _missing() is not None or program is None or place() is not None:  # a rank starts no job inside of its own
            return None
        own = ["env", f"{STARTED_HERE}=1"]
        return [program, *_unbound(program), "-n", str(processes), *own, *interpreter.command(_RANK, module)]

    @contextlib.contextmanager
    def lead(self, workers: int | None) -> Iterator[bool]:
        """See `LaunchedExecutor`."""
        where = place()
        if where is None or STARTED_HERE in os.environ:
            yield False
            return
        if workers is None:
            raise RequestError(
                f"{where[1]} ranks would each do the same; name mpi among the executors, or leave mpirun out"
            )
        if (reason := _missing()) is not None:
            raise UnavailableError(reason)
        from convbench.executors import mpi_rank

        if where[0] > 0:
            mpi_rank.serve()
            sys.exit(0)
        try:
            if problem := mpi_rank.difference():
                raise UnavailableError(problem)
            if workers > where[1]:
                raise RequestError(
                    f"cores={workers} is more than the {where[1]} ranks that were started; start as many, by "
                    f"mpirun -n {workers}"
                )
            self._leads = True
            yield True
        finally:
            self._leads = False
            mpi_rank.leave()


class MpiCrew:
    """The first ranks of the job, one for each piece: `executors.cluster.Crew`.

    There is one at a time, as ranks hear of nothing else before it is closed; one that is nobody's any more closes
    itself.
    """

    def __init__(self, job: Job) -> None:
        from convbench.executors import mpi_rank
        from convbench.executors.mpi_piece import Layout, opened

        begin, count, ranks = time.perf_counter(), len(job.pieces), mpi_rank.WORLD.Get_size()
        if count > ranks:
            raise UnavailableError(f"{count} workers are more than the {ranks} ranks of this job; start more ranks")
        if mpi_rank.joined():
            raise UnavailableError("the ranks of an MPI job have one plan at a time; close the other one before")
        self._rank, self.events = mpi_rank, list[str]()
        layout = Layout.of(job)
        self._piece: RankPiece | None
        with mpi_rank.together():
            for number in range(1, count):
                task = (count, layout, job.pieces[number].order)
                mpi_rank.WORLD.send(task, number, mpi_rank.CONTROL)
            self._comm = mpi_rank.group_of(count)
            self._piece, problems, facts = opened(self._comm, layout, job.pieces[0].order)
            if self._piece is None:
                self._comm.Free()
            else:
                self._end = weakref.finalize(self, mpi_rank.part, self._comm, self._piece)
                self._end.atexit = False  # `leave` sees to it, and a forked child must not
                mpi_rank.crews[:] = [self._end]
        if self._piece is None:
            raise UnavailableError(f"a rank cannot compute its part: {problems[0]}")
        self.members = Members(facts, ours=STARTED_HERE in os.environ)
        self.traffic = layout.traffic()
        self.setup = {"start": time.perf_counter() - begin}

    def distribute(self, x: NDArray[Any]) -> None:
        """Send each rank the rows that are its own."""
        piece = self._held()
        self._all(self._rank.DISTRIBUTE, lambda: self._rank.send_input(self._comm, piece, x))

    def compute(self) -> None:
        """Have all ranks exchange halos and compute, this one included."""
        self._all(self._rank.COMPUTE, self._held().compute)

    def gather(self, out: NDArray[Any]) -> None:
        """Take the outputs."""
        piece = self._held()
        self._all(self._rank.GATHER, piece.finish, lambda: self._rank.take_outputs(self._comm, piece, out))

    def ready(self) -> None:
        """Ranks that have slept a while answer a little later: not in the call after this one."""
        self._held()
        self._all(self._rank.WAKE, lambda: None)

    def drain(self) -> Times:
        """Ask all ranks."""
        found: list[Times] = []
        piece = self._held()
        self._all(self._rank.TIMES, lambda: found.append(piece.times() or []))
        return found[0]

    def close(self) -> None:
        """Let the ranks release their pieces."""
        self._piece = None
        self._end()

    def _held(self) -> RankPiece:
        if self._piece is None:
            raise UnavailableError("the plan is closed; make a new one")
        return self._piece

    def _all(self, word: int, *own: Callable[[], object]) -> None:
        """Have all ranks do a step, this one included.

        Raises:
            UnavailableError: One of them could not.
        """
        with self._rank.together():
            self._rank.say(self._comm, word)
            problems = self._rank.step(self._comm, *own)
        if problems:
            raise UnavailableError(f"a rank failed: {problems[0]}")


def _missing() -> str | None:
    return None if find_spec("mpi4py") is not None else _MISSING


def _mpiexec() -> str | None:
    """The launcher beside this interpreter, which belongs to the MPI beside it, or the first in PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec") or shutil.which("mpirun")


@cache
def _unbound(program: str) -> tuple[str, ...]:
    """The words that have a launcher leave ranks on all CPUs, where it would bind them: a sweep pins them itself."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # whoever starts it will notice
        return ()
    return ("--bind-to", "none") if re.search(r"open ?mpi|open-mpi|openrte", done.stdout, re.IGNORECASE) else ()


MPI: Final = Mpi()
