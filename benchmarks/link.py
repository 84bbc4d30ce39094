"""Latency and bandwidth between two hosts: a ping-pong of a small and a large message over TCP.

python -m benchmarks.link --listen PORT        on one host
python -m benchmarks.link HOST:PORT            on the other

The numbers are those that convbench's model of communication takes: latency + bytes / bandwidth for each message
(Hockney). What an engine adds is not in them; MPI's own are measured by the OSU micro-benchmarks, for example.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Final

import click

from convbench.analysis.link import Link

SMALL, LARGE = 1, 1 << 22  # bytes
SECONDS: Final = 1.0  # for each size at most, but for the least number of round trips
FEWEST, MOST = 3, 50
HEADER: Final = struct.Struct("!Q")


@click.command()
@click.argument("address", required=False)
@click.option("--listen", type=int, metavar="PORT", help="answer one other host")
@click.option("--json", "as_json", is_flag=True, help="for programs")
def main(address: str | None, listen: int | None, *, as_json: bool) -> None:
    """Measure the link to a host that listens."""
    if (address is None) == (listen is None):
        raise click.UsageError("give either HOST:PORT or --listen PORT")
    if listen is not None:
        answer(listen)
        return
    host, _, port = str(address).rpartition(":")
    link = measured(host, int(port))
    if as_json:
        sys.stdout.write(json.dumps({"latency": link.latency, "bandwidth": link.bandwidth}) + "\n")
    else:
        sys.stdout.write(f"latency {link.latency * 1e6:.1f} us, bandwidth {link.bandwidth / 1e6:.1f} MB/s\n")


def answer(port: int) -> None:
    """Send back whatever one other host sends, until it is through."""
    with socket.create_server(("", port)) as server:
        connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while header := _received(connection, HEADER.size):
            connection.sendall(header + _received(connection, HEADER.unpack(header)[0]))


def measured(host: str, port: int) -> Link:
    """The link to a host that answers: the line through half of the shortest round trips of two sizes.

    Those between have other protocols and buffers, and say little of the bandwidth of what convolutions move.

    Raises:
        OSError: There is no such host, or it does not answer.
    """
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(FEWEST):  # so that the connection's window has grown
            round_trip(connection, LARGE)
        latency, seconds = (min(_trips(connection, size)) / 2 for size in (SMALL, LARGE))
    return Link(latency, LARGE / (seconds - latency))


def _trips(connection: socket.socket, size: int) -> list[float]:
    end, found = time.perf_counter() + SECONDS, list[float]()
    while len(found) < FEWEST or (len(found) < MOST and time.perf_counter() < end):
        found.append(round_trip(connection, size))
    return found


def round_trip(connection: socket.socket, size: int) -> float:
    """Seconds from sending so many bytes to having them back."""
    message = HEADER.pack(size) + bytes(size)
    begin = time.perf_counter()
    connection.sendall(message)
    _received(connection, len(message))
    return time.perf_counter() - begin


def _received(connection: socket.socket, size: int) -> bytes | bytearray:
    """So many bytes, or none at the end of the connection."""
    found = bytearray(size)
    view = memoryview(found)
    while view:
        count = connection.recv_into(view)
        if not count:
            return b""
        view = view[count:]
    return found


if __name__ == "__main__":
    main()
