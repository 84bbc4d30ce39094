"""Convolutions on two hosts, over a wire of known bandwidth, beside the model of communication. Needs Linux and root.

python -m benchmarks.two_hosts [--rates 100,1000] [--engines dask,mpi] [--problem DESC] [--output DIR]

Two network namespaces are the hosts (see benchmarks.namespaces). Dask's scheduler is on the first and a worker on each;
of MPI there is a rank on each. Both compute through `convbench sweep`, whose records tell what moving data took (the
shortest of three times); a ping-pong on the same wire tells its latency and bandwidth, from which the model says what
it should have taken. Exits 1 if one of them is off by more than 25 %, or if a cell failed, as one whose output is wrong
does.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from benchmarks.namespaces import Hosts
from convbench.analysis.cuts import cuts
from convbench.analysis.link import Link
from convbench.analysis.nodes import DISTRIBUTION, GATHERING, HALO, NodeSeries, on_nodes
from convbench.errors import UnavailableError
from convbench.report.content import Column, Table, Value
from convbench.results.record import Record
from convbench.results.store import load
from convbench.terminal import say, show_table

PROBLEM: Final = 'mb1ic4ih1024iw4096oc4kh31kw3n"two-hosts"'  # 33 MB to each host, 33 MB back, 1 MB of halo
MEGABIT: Final = 1_000_000
WITHIN: Final = 0.25
PING, SCHEDULER = 7000, 8786  # ports
WAIT: Final = 60.0  # seconds for a host to answer
LIMIT: Final = 600  # seconds of a sweep
PYTHON: Final = sys.executable
# Ranks with one host name would use shared memory, and UCX asks whether they see each other's processes.
OVER_TCP: Final = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}


class Compared(NamedTuple):
    """What moving so many bytes over the wire took, and should have taken, in seconds."""

    what: str
    moved: int
    measured: float
    predicted: float

    @property
    def off(self) -> float:
        """By how much the prediction is off."""
        return self.predicted / self.measured - 1


@click.command()
@click.option("--rates", default="100,1000", show_default=True, metavar="LIST", help="bandwidths, in Mbit/s")
@click.option("--engines", default="dask,mpi", show_default=True, metavar="LIST")
@click.option("--problem", default=PROBLEM, show_default=True, metavar="DESC")
@click.option("--output", type=click.Path(path_type=Path), help="keep the sweeps there")
def main(rates: str, engines: str, problem: str, output: Path | None) -> None:
    """Compare what moving data between two hosts takes with what the model says."""
    rows: list[list[Value]] = []
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for rate in map(int, rates.split(",")):
                for engine in engines.split(","):
                    directory = (output or Path(temporary)) / f"{engine}-{rate}"
                    rows += _measured(engine, rate, problem, directory)
    except (UnavailableError, OSError) as error:
        raise click.ClickException(str(error)) from None
    titles = [Column("Mbit/s", "d"), Column("engine"), Column(""), Column("MB", ".2f")]
    titles += [Column("measured, s", ".4f"), Column("model, s", ".4f"), Column("off by", "+.1%")]
    show_table(Table("two-hosts", "Moving data between two hosts", titles, rows))
    sys.exit(any(abs(float(str(row[-1]))) > WITHIN for row in rows))


def _measured(engine: str, rate: int, problem: str, directory: Path) -> Iterator[list[Value]]:
    """A row for each kind of movement."""
    directory.mkdir(parents=True, exist_ok=True)
    with Hosts(rate * MEGABIT) as hosts:
        link = link_between(hosts, directory)
        say(f"{rate} Mbit/s: latency {link.latency * 1e6:.0f} us, bandwidth {link.bandwidth / 1e6:.1f} MB/s; {engine}")
        ENGINES[engine](hosts, problem, directory)
    for series in on_nodes(map(undisturbed, load(directory / "sweep").records)):
        for each in compared(series, link):
            yield [rate, engine, each.what, each.moved / 1e6, each.measured, each.predicted, each.off]


def undisturbed(record: Record) -> Record:
    """The record with the shortest of each kind of transfer alone: other programs on the machine only lengthen them."""
    return dataclasses.replace(record, transfers={name: (min(times),) for name, times in record.transfers.items()})


def compared(series: NodeSeries, link: Link) -> Iterator[Compared]:
    """What two nodes on two hosts took, and the model: half over the wire, half within the first, as on one node."""
    one, cell = series.cells[1], series.cells[2]
    [cut] = cuts(cell.problem, 2, "rows")
    for name, (messages, moved) in (
        (DISTRIBUTION, cut.distributed(with_halo=not series.exchanges, apart=False)),
        (GATHERING, cut.gathered(apart=False)),
    ):
        within = one.transfers.get(name, 0.0) / 2 if one.messages.get(name) else 0.0
        yield Compared(name, moved, cell.transfers[name], within + link.seconds(messages, moved))
    if series.exchanges and cut.messages and cell.halos is not None:
        yield Compared(HALO, cut.halo_bytes, cell.halos, link.seconds(cut.messages, cut.halo_bytes))


def link_between(hosts: Hosts, directory: Path) -> Link:
    """Latency and bandwidth of the wire, by a ping-pong."""
    hosts.start(0, [PYTHON, "-m", "benchmarks.link", "--listen", str(PING)], directory / "ping.log")
    command = [PYTHON, "-m", "benchmarks.link", "--json", f"{hosts.addresses[0]}:{PING}"]
    told = _persistently(hosts.command(1, command))
    return Link(**json.loads(told))


def on_dask(hosts: Hosts, problem: str, directory: Path) -> None:
    """A scheduler on the first host, a worker on each, and the sweep on the first."""
    address = f"tcp://{hosts.addresses[0]}:{SCHEDULER}"
    start = [PYTHON, "-m", "distributed.cli.dask_scheduler", "--host", hosts.addresses[0], "--port", str(SCHEDULER)]
    hosts.start(0, [*start, "--no-dashboard"], directory / "scheduler.log")
    for host, own in enumerate(hosts.addresses):
        worker = [PYTHON, "-m", "distributed.cli.dask_worker", address, "--host", own, "--nthreads", "1"]
        hosts.start(host, [*worker, "--no-dashboard"], directory / f"worker{host}.log")
    waiting = f"import distributed as d; d.Client({address!r}, timeout={WAIT}).wait_for_workers(2, {WAIT})"
    _run(hosts.command(0, [PYTHON, "-c", waiting]))
    _run(hosts.command(0, [*_sweep("dask", problem, directory), "--scheduler", address]))


def on_mpi(hosts: Hosts, problem: str, directory: Path) -> None:
    """A rank on each host. MPICH's process manager starts a proxy on the other one as through ssh."""
    enter = directory / "enter"
    cases = "\n".join(f"{address}) name={name} ;;" for address, name in zip(hosts.addresses, hosts.names, strict=True))
    enter.write_text(
        f"#!/bin/sh\n# -x HOST COMMAND\ncase $2 in\n{cases}\nesac\nshift 2\n"
        'exec ip netns exec $name unshare --uts sh -c "hostname $name && $*"\n'
    )
    enter.chmod(0o700)
    launcher = ["-launcher", "ssh", "-launcher-exec", str(enter.resolve()), "-localhost", hosts.addresses[0]]
    variables = [word for pair in OVER_TCP.items() for word in ("-genv", *pair)]
    mpiexec = [str(Path(PYTHON).with_name("mpiexec")), "-hosts", ",".join(hosts.addresses), "-ppn", "1", "-n", "2"]
    _run(hosts.command(0, [*mpiexec, *launcher, *variables, *_sweep("mpi", problem, directory)]))


ENGINES: Final[Mapping[str, Callable[[Hosts, str, Path], None]]] = {"dask": on_dask, "mpi": on_mpi}


def _sweep(executor: str, problem: str, directory: Path) -> list[str]:
    command = [PYTHON, "-m", "convbench", "sweep", "--executors", executor, "--algorithms", "direct", "--cores", "1,2"]
    return [*command, "--runs", "1", "--problem", problem, "--output", str(directory / "sweep")]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=LIMIT)
    if done.returncode:
        raise UnavailableError(f"exit status {done.returncode} of {' '.join(command)}")


def _persistently(command: Sequence[str]) -> str:
    """What a command writes, once it succeeds."""
    end = time.monotonic() + WAIT
    while True:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not done.returncode:
            return done.stdout
        if time.monotonic() > end:
            raise UnavailableError(f"no answer: {done.stderr.strip()}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
