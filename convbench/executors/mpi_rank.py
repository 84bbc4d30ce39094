"""The ranks of an MPI job: the first one leads, the others serve it until it lets them go.

`mpiexec` runs this module as a program where a sweep starts the job; inside of a job that somebody else has started,
the command line calls `leading`.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from mpi4py import MPI

from convbench.executors.mpi_piece import Layout, RankPiece, opened, patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONTROL: Final = 7  # the tag of what the first rank tells the others, one by one
COMPUTE, DISTRIBUTE, GATHER, TIMES, WAKE, CLOSE = range(6)

WORLD: Final = MPI.COMM_WORLD
interrupted: list[MPI.Comm] = []
"""The crew's communicator where the first rank left a step in the middle, so that others wait for ever."""


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


def step(comm: MPI.Comm, function: Callable[[], object]) -> list[str]:
    """Do one's share of a step; what went wrong on any rank of the crew."""
    problem = ""
    try:
        function()
    except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for this rank
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return agreed(comm, problem)


def serve() -> None:
    """What every rank but the first does: join crews, until there is nothing more to do."""
    while True:
        patiently(lambda: WORLD.Iprobe(0, CONTROL))
        task = WORLD.recv(source=0, tag=CONTROL)
        if task is None:
            return
        _join(*task)


def let_go() -> None:
    """Let the other ranks leave; the first rank calls this between crews."""
    for rank in range(1, WORLD.Get_size()):
        WORLD.send(None, rank, CONTROL)


def _join(count: int, layout: Layout, order: Any) -> None:
    """Be one of the first `count` ranks, which have a piece of a job each."""
    comm = group_of(count)
    piece, *_ = opened(comm, layout, order)
    if piece is not None:
        steps: dict[int, Callable[[], object]] = {
            COMPUTE: piece.compute,
            DISTRIBUTE: piece.receive,
            GATHER: piece.hand_out,
            TIMES: piece.times,
            WAKE: lambda: None,
        }
        while (word := heard(comm)) != CLOSE:
            step(comm, steps[word])
        piece.close()
    comm.Free()


def send_input(comm: MPI.Comm, piece: RankPiece, x: NDArray[Any]) -> None:
    """Send the other ranks the rows that are theirs, and take one's own."""
    layout = piece.layout
    sent, kinds = [], []
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
    for rank in range(1, comm.Get_size()):
        kinds.append(piece.part(layout.output_shape, layout.writes[rank]))
        received.append(comm.Irecv([out, 1, kinds[-1]], rank))
    out[layout.writes[0]] = piece.share.result()
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
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        let_go()
    except BaseException:  # noqa: BLE001  # the others would wait for ever
        traceback.print_exc()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        WORLD.Abort(1)


if __name__ == "__main__":
    main()
