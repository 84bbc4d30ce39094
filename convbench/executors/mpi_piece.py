"""What every rank of a crew does, the one that leads included: hold a piece, exchange halos, compute, hand out.

Arrays go from buffer to buffer: parts of them are described to MPI as subarrays, so that nothing is packed here and
nothing is pickled.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from mpi4py import MPI

from convbench.executors.cluster import Job, Ledger, Piece, Slices, Traffic, bounds, extents, make_share
from convbench.executors.halo import messages, owned
from convbench.executors.memory import private_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ROWS: Final = 2  # the axis that bands are cut along
KINDS: Final = {"float32": MPI.FLOAT, "float64": MPI.DOUBLE}
SPINNING: Final = 0.02  # seconds that a rank waits without sleeping
NAP: Final = 0.0005  # seconds that it sleeps at a time afterwards


class StuckError(Exception):
    """A transfer failed, so that other ranks may wait for ever."""


@contextlib.contextmanager
def moving() -> Iterator[None]:
    """Send to other ranks and take from them.

    Raises:
        StuckError: What went wrong.
    """
    try:
        yield
    except Exception as error:
        raise StuckError(words_of(error)) from error


def words_of(error: BaseException) -> str:
    """An error as one line."""
    words = " ".join(str(error).split())
    return words if isinstance(error, StuckError) else f"{type(error).__name__}: {words}"


@dataclass(frozen=True)
class Layout:
    """A job's pieces without their orders, as every rank knows them."""

    share: str
    reads: tuple[Slices, ...]
    writes: tuple[Slices, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, job: Job) -> Layout:
        """That of a job."""
        reads, writes = (tuple(getattr(piece, name) for piece in job.pieces) for name in ("reads", "writes"))
        return cls(job.share, reads, writes, job.input_shape, job.output_shape, job.dtype)

    @property
    def rows(self) -> list[tuple[int, int]]:
        """The rows of the input that each piece reads."""
        return [bounds(reads[ROWS], self.input_shape[ROWS]) for reads in self.reads]

    def own(self, number: int) -> Slices:
        """The slices of the input that the worker of a piece is sent."""
        first, last = owned(self.rows)[number]
        batch, channels, _, columns = self.reads[number]
        return (batch, channels, slice(first, last), columns)

    def traffic(self) -> dict[str, Traffic]:
        """What moves between ranks; the one that leads has its own piece already."""
        size = np.dtype(self.dtype).itemsize
        found = {"distribution": Traffic(), "halo": Traffic(), "gathering": Traffic()}
        for number in range(len(self.reads)):
            shape = extents(self.reads[number], self.input_shape)
            for message in messages(self.rows, number):
                if message.source == number:
                    found["halo"].add(size * (message.rows[1] - message.rows[0]) * shape[0] * shape[1] * shape[3])
            if number > 0:
                own = extents(self.own(number), self.input_shape)
                found["distribution"].add(size * int(np.prod(own)))
                found["gathering"].add(size * int(np.prod(extents(self.writes[number], self.output_shape))))
        return found


class RankPiece:
    """A piece on the rank that computes it.

    Args:
        comm: The crew's ranks; their numbers are those of the pieces.
        layout: Of the job.
        order: Of this rank's piece.
    """

    def __init__(self, comm: MPI.Comm, layout: Layout, order: Any) -> None:
        self._comm, self.layout, self.number = comm, layout, comm.Get_rank()
        self._kind = KINDS[layout.dtype]
        self.share = make_share(layout.share, order)
        self._ledger = Ledger()
        self.x = private_empty(extents(layout.reads[self.number], layout.input_shape), layout.dtype)
        self._loaded = False
        self._finished: NDArray[Any] | None = None
        self._first = layout.rows[self.number][0]
        self._types: list[MPI.Datatype] = []
        self._halo = [self._request(message) for message in messages(layout.rows, self.number)]

    def _request(self, message: Any) -> MPI.Prequest:
        """A message of the halo, ready to be started in every call."""
        rows = slice(message.rows[0] - self._first, message.rows[1] - self._first)
        kind = self.part(self.x.shape, (slice(None), slice(None), rows, slice(None)))
        self._types.append(kind)
        if message.source == self.number:
            return self._comm.Send_init([self.x, 1, kind], message.target)
        return self._comm.Recv_init([self.x, 1, kind], message.source)

    def part(self, shape: tuple[int, ...], slices: Slices) -> MPI.Datatype:
        """Slices of an array of that shape, as a type of MPI's; to be freed."""
        starts = [bounds(part, length)[0] for part, length in zip(slices, shape, strict=True)]
        return self._kind.Create_subarray(shape, extents(slices, shape), starts).Commit()

    @property
    def own(self) -> Slices:
        """What it is sent, as slices of its input."""
        rows = self.layout.own(self.number)[ROWS]
        return (slice(None), slice(None), slice(rows.start - self._first, rows.stop - self._first), slice(None))

    def compute(self) -> None:
        """Exchange halos with those who have or need rows, and compute."""
        begin = time.perf_counter()
        if self._halo:
            with moving():
                MPI.Prequest.Startall(self._halo)
                MPI.Request.Waitall(self._halo)
        exchanged = time.perf_counter()
        if self._halo or not self._loaded:
            self.share.load(self.x)
            self._loaded = True
        self.share()
        self._ledger.entries.append((time.perf_counter() - exchanged, exchanged - begin))

    def keep(self, own: NDArray[Any]) -> None:
        """Take one's own rows from the whole input, on the rank that leads."""
        self.x[self.own] = own
        self._loaded = False

    def receive(self) -> None:
        """Take the input from the rank that leads."""
        self._loaded = False
        if self.x[self.own].size:
            with moving():
                kind = self.part(self.x.shape, self.own)
                self._comm.Recv([self.x, 1, kind], 0)
                kind.Free()

    def finish(self) -> None:
        """Have the output where it can be sent, before anybody waits for it."""
        self._finished = self.share.result()

    def finished(self) -> NDArray[Any]:
        """That output, once."""
        out, self._finished = self._finished, None
        assert out is not None  # noqa: S101  # `finish` comes first
        return out

    def hand_out(self) -> None:
        """Send the output to the rank that leads."""
        with moving():
            out = self.finished()
            kind = self.part(out.shape, (slice(None),) * 4)
            self._comm.Send([out, 1, kind], 0)
            kind.Free()

    def times(self) -> list[list[tuple[float, float]]] | None:
        """The times of every rank's calls since the last time, at the rank that leads; elsewhere None.

        Empty where a call failed on one of them.
        """
        with moving():
            every = self._comm.gather(self._ledger.drain(), 0)
        if every is None:
            return None
        return [list(call) for call in zip(*every, strict=True)] if len({len(one) for one in every}) == 1 else []

    def close(self) -> None:
        """Free what MPI has of it, and the share."""
        for request in self._halo:
            request.Free()
        for kind in self._types:
            kind.Free()
        self._halo, self._types = [], []
        self.share.close()


def patiently(done: Callable[[], bool]) -> None:
    """Wait until something is done, soon without taking a core from others."""
    since = time.perf_counter()
    while not done():
        if time.perf_counter() - since > SPINNING:
            time.sleep(NAP)


def opened(comm: MPI.Comm, layout: Layout, order: Any) -> tuple[RankPiece | None, list[str], list[dict[str, Any]]]:
    """Make this rank's piece, and learn from all ranks of a crew how that went.

    Returns:
        The piece, if all could make theirs; otherwise None. What went wrong, on each rank where something did; and
        what the shares tell, both at the rank that leads.
    """
    piece, problem, facts = None, "", {}
    try:
        piece = RankPiece(comm, layout, order)
        facts = piece.share.facts
    except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for this rank
        problem = words_of(error)
    every = comm.allgather((problem, facts))
    problems = [words for words, _ in every if words]
    if problems and piece is not None:
        piece.close()
    return None if problems else piece, problems, [fact for _, fact in every]


__all__ = ["Layout", "Piece", "RankPiece", "StuckError", "moving", "opened", "patiently", "words_of"]
