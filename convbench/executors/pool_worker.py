"""The program of a worker process of the `processes` executor: it maps shared memory and computes units on request.

Its argument is the descriptor of its end of a socket pair, which preserves message boundaries. Messages are raw bytes,
not pickles: a command letter, the number of the request, and the fields of the structures below. The worker exits when
the other end is closed.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from convbench.executors.memory import map_shared, view

if TYPE_CHECKING:
    from convbench.kernels.tile import Phase

MESSAGE_BYTES: Final = 2**15  # maximum bytes of a message
SYNC: Final = struct.Struct("<cq")  # b"s", and b"o" to open a work, followed by the work as JSON; answered
MAP: Final = struct.Struct("<cqq")  # b"m", segment; its descriptor is attached to the message; answered
DROP: Final = struct.Struct("<cqq")  # b"d", segment
CLOSE: Final = struct.Struct("<cqq")  # b"c", work
RUN: Final = struct.Struct("<cqqq3q3q6q6q")  # b"r", work, phase, and the places of four arrays; answered
DIMENSIONS: Final = (1, 1, 4, 4)  # of counter, workspace, input and output; a place is segment, offset and shape
ANSWER: Final = struct.Struct("<q")  # the request's number, followed by an error message if it failed

Run = Callable[..., None]


class PoolWorker:
    """The state of a worker process: its end of the socket pair, mapped segments, and open works."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._segments: dict[int, memoryview] = {}
        self._works: dict[int, tuple[Run, str, object]] = {}  # function, dtype, object to keep alive

    def serve(self) -> None:
        """Carry out requests until the other end is closed."""
        commands: dict[bytes, Callable[..., None]] = {
            b"m": self._map,
            b"d": self._drop,
            b"o": self._open,
            b"c": self._close,
            b"r": self._fill,
        }
        answered = (b"s", b"m", b"o", b"r")
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._line, MESSAGE_BYTES, 1)
            except ConnectionResetError:
                return
            if not message:
                return
            letter, number = SYNC.unpack_from(message)
            words = b""
            try:
                if letter in commands:
                    commands[letter](message, *fds)
            except Exception as error:  # noqa: BLE001  # any error is reported to the caller
                words = f"{type(error).__name__}: {error}".encode()[: MESSAGE_BYTES // 2]
            if letter in answered:
                try:
                    self._line.send(ANSWER.pack(number) + words)
                except (BrokenPipeError, ConnectionResetError):
                    return

    def _map(self, message: bytes, fd: int | None = None) -> None:
        """Map a segment; a request may repeat if the caller was interrupted between sending and recording it."""
        _, _, segment = MAP.unpack(message)
        if fd is None:  # the system discards descriptors beyond the process's limit
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        try:
            if segment not in self._segments:
                self._segments[segment] = map_shared(fd)
        finally:
            os.close(fd)

    def _drop(self, message: bytes) -> None:
        _, _, segment = DROP.unpack(message)
        self._segments.pop(segment, None)

    def _close(self, message: bytes) -> None:
        _, _, work = CLOSE.unpack(message)
        self._works.pop(work, None)

    def _open(self, message: bytes) -> None:
        order = json.loads(message[SYNC.size :])
        run, kept = self._load(order)
        self._works[order["work"]] = (run, order["dtype"], kept)

    def _fill(self, message: bytes) -> None:
        _, _, work, phase, *numbers = RUN.unpack(message)
        run, dtype, _ = self._works[work]
        rest, places = iter(numbers), []
        for dimensions in DIMENSIONS:
            segment, offset, *shape = itertools.islice(rest, 2 + dimensions)
            places.append((segment, offset, shape))
        counters = self._view(places[0], "int64")
        run(phase, *(self._view(place, dtype) for place in places[1:]), counters)

    def _load(self, order: dict[str, Any]) -> tuple[Run, object]:
        """Load tiles and allocate scratch; returns the function to call, and the tiles, to be kept alive for it."""
        from convbench.executors.driver import compiled_claim, load_phases, new_scratch
        from convbench.kernels.tile import FunctionName, Work

        dtype, set_up = order["dtype"], order["set_up"]
        work = Work(
            phases=tuple(map(self._phase, order["phases"])),
            weights=self._view(order["weights"], dtype),
            scratch_size=order["scratch_size"],
            set_up=set_up and FunctionName(**set_up),
        )
        loaded, claim = load_phases(work.phases, work.first_stages, dtype), compiled_claim(dtype)
        work.set_up_process()
        scratch, clock = new_scratch(work, 1)[0], self._view(order["clock"], "int64")[order["row"]]

        def run(
            phase: int, workspace: NDArray[Any], x: NDArray[Any], out: NDArray[Any], counters: NDArray[Any]
        ) -> None:
            row = loaded.table[phase]
            claim(row, x, work.weights, out, loaded.parameters, workspace, scratch, clock, counters, order["row"])

        return run, loaded

    def _phase(self, order: dict[str, Any]) -> Phase:
        """The phase that a message describes."""
        from convbench.kernels.tile import Phase, TileName

        arguments = order["tile"]["arguments"]
        tile = TileName(**{**order["tile"], "arguments": None if arguments is None else tuple(arguments)})
        parameters = self._view(order["parameters"], "int64")
        return Phase(tile, order["units"], parameters, tuple(order["stages"]), order["together"])

    def _view(self, place: Any, dtype: str) -> NDArray[Any]:
        segment, offset, shape = place
        return view(self._segments[segment], offset, tuple(shape), dtype)


def main() -> None:
    """Serve the socket whose descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent to all processes of a terminal; only the caller handles it
    line = socket.socket(fileno=int(sys.argv[1]))
    PoolWorker(line).serve()


if __name__ == "__main__":
    main()
