"""The ranks of an MPI job: the first one leads, the others serve it until it lets them go.

`mpiexec` runs this module as a program where a sweep starts the job; inside of a job that somebody else has started,
the command line calls `leading`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import signal
import sys
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from mpi4py import MPI

from convbench.errors import UnavailableError
from convbench.executors.dask_share import version
from convbench.executors.mpi_piece import Layout, RankPiece, StuckError, moving, opened, patiently, words_of
from convbench.runtime.sources import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

CONTROL: Final = 7  # the tag of what the first rank tells the others, one by one
COMPUTE, DISTRIBUTE, GATHER, TIMES, WAKE, CLOSE = range(6)

WORLD: Final = MPI.COMM_WORLD
_PROCESS: Final = os.getpid()
INTERRUPTED: Final = 130  # the exit status
FAILED: Final = 1
FORWARDING: Final = 0.2  # seconds between what a rank writes last and the end of the job

left: list[int] = []
"""At the first rank: the job's exit status while ranks are at something together. Where that was left in the middle,
others wait for ever, and the job is aborted with it."""
crews: list[weakref.finalize[..., Any]] = []
"""At the first rank: what parts the crew that the others have joined."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Be at something with other ranks; what leaves it by an exception leaves them waiting.

    Raises:
        UnavailableError: That has happened before, or MPI failed.
    """
    if left:
        raise UnavailableError("ranks wait for a call that was interrupted or failed; start the job again")
    left.append(INTERRUPTED)
    try:
        yield
    except (MPI.Exception, StuckError) as error:
        left[:] = [FAILED]
        raise UnavailableError(f"ranks cannot reach one another ({words_of(error)}); start the job again") from error
    left.clear()


def difference() -> str:
    """How the ranks' convbench differ; empty where they do not. Every rank calls this, before anything else."""
    every = WORLD.allgather(f"convbench {version()}, sources {digest()}")
    other = next((rank for rank, one in enumerate(every) if one != every[0]), 0)
    return f"rank {other} has {every[other]}; rank 0 has {every[0]}; install one on all" if other else ""


def joined() -> bool:
    """Whether the other ranks are at a crew, which is all that they hear of until it is parted."""
    if any(end.alive for end in crews):
        gc.collect()  # it may be nobody's any more
    return any(end.alive for end in crews)


def part(comm: MPI.Comm, piece: RankPiece) -> None:
    """Let the ranks of a crew release their pieces, unless one waits for another for ever."""
    if not left and os.getpid() == _PROCESS:  # not a forked child
        with together():
            say(comm, CLOSE)
            piece.close()
            comm.Free()


def group_of(count: int) -> MPI.Comm:
    """A communicator of the first ranks; each of them calls this."""
    members = WORLD.Get_group().Incl(range(count))
    try:
        return WORLD.Create_group(members)
    finally:
        members.Free()


def heard(comm: MPI.Comm) -> int:
    """What the rank that leads a crew wants of all, when it says it."""
    word = np.empty(1, np.int64)
    request = comm.Ibcast(word, 0)
    patiently(request.Test)
    return int(word[0])


def say(comm: MPI.Comm, word: int) -> None:
    """Tell the other ranks of a crew what is wanted."""
    comm.Ibcast(np.array([word], np.int64), 0).Wait()


def agreed(comm: MPI.Comm, problem: str) -> list[str]:
    """Wait until all ranks of a crew are through with a step; what went wrong on any of them.

    Costs what a barrier costs, unless something did.
    """
    worst = np.zeros(1, np.int64)
    comm.Allreduce(np.array([bool(problem)], np.int64), worst, MPI.MAX)
    return [words for words in comm.allgather(problem) if words] if worst[0] else []


def step(comm: MPI.Comm, *functions: Callable[[], object]) -> list[str]:
    """Do one's share of a step, of which each function is begun where all ranks are through with the one before.

    Returns:
        What went wrong on any rank of the crew.

    Raises:
        StuckError: Others wait for what this rank was to send or to take.
    """
    for function in functions:
        problem = ""
        try:
            function()
        except StuckError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for this rank
            problem = words_of(error)
        if problems := agreed(comm, problem):
            return problems
    return []


def serve() -> None:
    """What every rank but the first does: join crews, until there is nothing more to do.

    A rank that cannot go on ends the job, as the others would wait for it.
    """
    with contextlib.suppress(ValueError):  # in a thread that is not the main one
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to all processes of a terminal; only the first handles it
    try:
        difference()  # the first rank says it
        while (task := _told()) is not None:
            _join(*task)
    except BaseException as error:  # noqa: BLE001  # whatever it is
        words = f"convbench: error: rank {WORLD.Get_rank()} cannot go on, and ends the job: {words_of(error)}"
        print(words, file=sys.stderr, flush=True)
        _abort(FAILED)


def _abort(status: int) -> None:
    """End the job when what was written has been passed on: MPI's launcher may not read it any more after that."""
    time.sleep(FORWARDING)
    WORLD.Abort(status)


def _told() -> Any:
    patiently(lambda: WORLD.Iprobe(0, CONTROL))
    return WORLD.recv(source=0, tag=CONTROL)


def leave() -> None:
    """Let the other ranks leave; the first rank calls this at the end. Abort the job where they wait for ever."""
    try:
        for end in crews:
            end()
        if not left:
            with together():
                for rank in range(1, WORLD.Get_size()):
                    WORLD.send(None, rank, CONTROL)
    finally:
        if left:
            with contextlib.suppress(OSError, ValueError):  # nobody reads it
                sys.stdout.flush()
            _abort(left[0])


def _join(count: int, layout: Layout, order: Any) -> None:
    """Be one of the first `count` ranks, which have a piece of a job each."""
    comm = group_of(count)
    piece, *_ = opened(comm, layout, order)
    if piece is not None:
        steps: dict[int, tuple[Callable[[], object], ...]] = {
            COMPUTE: (piece.compute,),
            DISTRIBUTE: (piece.receive,),
            GATHER: (piece.finish, piece.hand_out),
            TIMES: (piece.times,),
            WAKE: (lambda: None,),
        }
        while (word := heard(comm)) != CLOSE:
            step(comm, *steps[word])
        piece.close()
    comm.Free()


def send_input(comm: MPI.Comm, piece: RankPiece, x: NDArray[Any]) -> None:
    """Send the other ranks the rows that are theirs, and take one's own."""
    layout = piece.layout
    sent, kinds = [], []
    with moving():
        for rank in range(1, comm.Get_size()):
            own = layout.own(rank)
            if x[own].size:
                kinds.append(piece.part(layout.input_shape, own))
                sent.append(comm.Isend([x, 1, kinds[-1]], rank))
        piece.keep(x[layout.own(0)])
        MPI.Request.Waitall(sent)
        for kind in kinds:
            kind.Free()


def take_outputs(comm: MPI.Comm, piece: RankPiece, out: NDArray[Any]) -> None:
    """Take the other ranks' outputs, and one's own, into the whole output."""
    layout = piece.layout
    received, kinds = [], []
    with moving():
        for rank in range(1, comm.Get_size()):
            kinds.append(piece.part(layout.output_shape, layout.writes[rank]))
            received.append(comm.Irecv([out, 1, kinds[-1]], rank))
        out[layout.writes[0]] = piece.finished()
        MPI.Request.Waitall(received)
        for kind in kinds:
            kind.Free()


def main() -> None:
    """Run a module as the first rank, whose name is the first argument; serve as another one."""
    module = sys.argv.pop(1)
    if WORLD.Get_rank() > 0:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the job writes there are records of the first rank
        serve()
        return
    if problem := difference():
        print(f"convbench: error: {problem}", file=sys.stderr, flush=True)
        leave()
        sys.exit(2)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        leave()
    except BaseException:  # noqa: BLE001  # the others would wait for ever
        traceback.print_exc()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        _abort(1)


if __name__ == "__main__":
    main()
