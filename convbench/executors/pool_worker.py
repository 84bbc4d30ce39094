"""What a worker of the `processes` executor runs: it maps shared memory, and fills units when a message says so.

Started by `interpreter.command` with one argument, the number of its end of a socket pair. Messages are raw bytes
(nothing is pickled): a command letter and what the structures below say. The worker leaves when the other end is gone.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.executors.memory import map_shared, view

MAP: Final = struct.Struct("<cq")  # b"m", segment; the segment's descriptor follows
DROP: Final = struct.Struct("<cq")  # b"d", segment
OPEN: Final = b"o"  # followed by the work as JSON; answered
CLOSE: Final = struct.Struct("<cq")  # b"c", work
RUN: Final = struct.Struct("<cq6q6q")  # b"r", work, and for input and output: segment, offset, shape; answered
DONE: Final = b"\0"  # the answer when all went well; any other answer says what went wrong

Run = Callable[[NDArray[Any], NDArray[Any]], None]


class Worker:
    """The state of one worker process: its end of the line, the segments it has mapped, and the work it has open."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._segments: dict[int, mmap.mmap] = {}
        self._works: dict[int, tuple[Run, str]] = {}

    def serve(self) -> None:
        """Do what the messages say until the other end is closed."""
        commands = {b"m": self._map, b"d": self._drop, b"o": self._open, b"c": self._close, b"r": self._fill}
        while True:
            try:
                message = self._line.recv_bytes()
            except (EOFError, ConnectionResetError):
                return
            commands[message[:1]](message)

    def _map(self, message: bytes) -> None:
        _, number = MAP.unpack(message)
        fd = recv_handle(self._line)
        self._segments[number] = map_shared(fd)
        os.close(fd)

    def _drop(self, message: bytes) -> None:
        _, number = DROP.unpack(message)
        del self._segments[number]

    def _close(self, message: bytes) -> None:
        _, number = CLOSE.unpack(message)
        del self._works[number]

    def _open(self, message: bytes) -> None:
        order = json.loads(message[1:])
        self._answer(lambda: self._works.update({order["work"]: (self._load(order), order["dtype"])}))

    def _fill(self, message: bytes) -> None:
        _, number, *places = RUN.unpack(message)
        run, dtype = self._works[number]
        x, out = (self._view((segment, offset, shape), dtype) for segment, offset, *shape in (places[:6], places[6:]))
        self._answer(lambda: run(x, out))

    def _load(self, order: dict[str, Any]) -> Run:
        """Load the tile and make room for it."""
        from convbench.executors.driver import compiled_claim, new_scratch
        from convbench.tile import TileName, Work

        module, name, arguments = order["tile"]
        dtype = order["dtype"]
        work = Work(
            tile=TileName(module, name, None if arguments is None else tuple(arguments)),
            units=order["units"],
            weights=self._view(order["weights"], dtype),
            parameters=np.array(order["parameters"], np.int64),
            scratch_size=order["scratch_size"],
        )
        tile, claim = work.tile.load(dtype), compiled_claim(dtype)
        scratch = new_scratch(work, 1)[0]
        counter = self._view(order["counter"], "int64")
        clock = self._view(order["clock"], "int64")[order["row"]]
        return lambda x, out: claim(tile, x, work.weights, out, work.parameters, scratch, clock, work.units, counter)

    def _answer(self, step: Callable[[], object]) -> None:
        try:
            step()
            answer = DONE
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            answer = f"{type(error).__name__}: {error}".encode()
        self._line.send_bytes(answer)

    def _view(self, place: tuple[int, int, list[int]], dtype: str) -> NDArray[Any]:
        number, offset, shape = place
        return view(self._segments[number], offset, tuple(shape), dtype)


def main() -> None:
    """Serve the socket whose descriptor is the only argument."""
    Worker(Connection(int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
