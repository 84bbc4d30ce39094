"""Two hosts on one machine, and the link between them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from benchmarks import link, namespaces
from benchmarks.namespaces import Hosts
from benchmarks.two_hosts import link_between
from convbench.errors import UnavailableError

UNAVAILABLE = namespaces.unavailable()


def listing() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.mark.long
@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
def test_two_hosts_have_the_bandwidth_that_was_asked_for_and_leave_nothing(tmp_path):
    before = listing()
    with Hosts(80_000_000) as hosts:
        slow = link_between(hosts, tmp_path)
        hosts.limit(800_000_000)
        fast = link_between(hosts, tmp_path)
        names = [
            subprocess.run(hosts.command(host, ["hostname"]), capture_output=True, text=True, check=True).stdout.strip()
            for host in (0, 1)
        ]
        sleeping = hosts.start(1, ["sleep", "1000"], tmp_path / "log")
    assert slow.bandwidth == pytest.approx(1e7, rel=0.1)  # headers of packets are in the limit
    assert fast.bandwidth == pytest.approx(1e8, rel=0.4)  # as fast as a busy machine's Python
    assert tuple(names) == hosts.names
    assert sleeping.poll() is not None
    assert listing() == before


@pytest.mark.skipif(UNAVAILABLE is not None, reason=str(UNAVAILABLE))
def test_what_cannot_be_made_leaves_nothing():
    before = listing()
    with pytest.raises(UnavailableError, match="tbf"), Hosts(0):
        pass
    assert listing() == before


def test_where_there_can_be_no_hosts_it_is_said(monkeypatch):
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    with pytest.raises(UnavailableError, match="root"), Hosts(1):
        pass


def test_a_ping_pong_measures_a_link():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answering = threading.Thread(target=link.answer, args=(port,), daemon=True)
    answering.start()
    command = [sys.executable, "-m", "benchmarks.link", "--json", f"127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answering.join()
    found = json.loads(done.stdout)
    assert 0 < found["latency"] < 0.1
    assert found["bandwidth"] > 1e7


@pytest.mark.parametrize("arguments", [[], ["HOST:1", "--listen", "1"]])
def test_a_ping_pong_is_asked_for_on_one_side(arguments):
    done = CliRunner().invoke(link.main, arguments)
    assert done.exit_code == 2
    assert "HOST:PORT or --listen" in done.output
