"""Two hosts on one machine: network namespaces that are joined by a pair of virtual Ethernet devices.

Each has an address, a loopback and ports of its own, and what it sends to the other passes a token bucket filter
(tc-tbf(8)), so that bandwidth is known. It takes Linux, root and iproute2. Namespaces, devices and whatever processes
were started in them are gone when the context is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from convbench.errors import UnavailableError

SUBNET: Final = "10.77.{}.{}"
BURST: Final = 32_768  # bytes that pass unhindered after a pause: less than what is measured moves
QUEUE: Final = "200ms"  # a packet that would wait longer is dropped
GRACE: Final = 5.0  # seconds that a process has to end


def unavailable() -> str | None:
    """Why there can be no two hosts here; None if there can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces take Linux and root"
    missing = [name for name in ("ip", "tc", "unshare", "hostname") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found; install iproute2, util-linux and hostname" if missing else None


class Hosts(AbstractContextManager["Hosts"]):
    """Two hosts, 0 and 1, and the wire between them.

    Args:
        bits: Bandwidth of either direction, in bits a second.

    Raises:
        UnavailableError: There can be none here; nothing is left of what was begun.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        number = os.getpid() % 250
        self.names = tuple(f"convbench-{os.getpid()}-{host}" for host in (0, 1))
        self.addresses = tuple(SUBNET.format(number, host + 1) for host in (0, 1))
        self.devices = tuple(f"cb{os.getpid()}x{host}" for host in (0, 1))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if (reason := unavailable()) is not None:
            raise UnavailableError(reason)
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self._stack.close()
            raise UnavailableError(f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}") from None
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def command(self, host: int, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a command on a host, whose name it has, too."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.names[host]]
        return ["ip", "netns", "exec", self.names[host], *named, *arguments]

    def start(
        self, host: int, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process there that ends with this context at the latest; what it writes goes into a file."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(host, arguments),
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._stack.callback(_end, process)
        return process

    def limit(self, bits: int) -> None:
        """Change the bandwidth of both directions."""
        for host, device in enumerate(self.devices):
            rate = ("rate", f"{bits}bit", "burst", str(BURST), "latency", QUEUE)
            _run(self.command(host, ["tc", "qdisc", "replace", "dev", device, "root", "tbf", *rate]))

    def _make(self) -> None:
        for name in self.names:
            _run(["ip", "netns", "add", name])
            self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False, capture_output=True)
        one, other = self.devices
        pair = ["ip", "link", "add", one, "netns", self.names[0], "type", "veth"]
        _run([*pair, "peer", "name", other, "netns", self.names[1]])  # it goes with either namespace
        for host, device in enumerate(self.devices):
            for arguments in (
                ["address", "add", f"{self.addresses[host]}/24", "dev", device],
                ["link", "set", device, "up"],
                ["link", "set", "lo", "up"],
            ):
                _run(self.command(host, ["ip", *arguments]))
        self.limit(self._bits)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
