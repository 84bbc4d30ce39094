"""What was measured on several nodes: a call's parts for each count, and the cluster that they tell of.

How records say it stands in this module alone: `of_record` is all that has to know.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from convbench.analysis.communication import COUNTS, Cluster, Prediction, rounds, strong, weak
from convbench.analysis.cuts import Cutting
from convbench.analysis.link import Link, Transfer, fitted, weights
from convbench.analysis.statistics import Estimate, mean_time
from convbench.analysis.times import OUT_OF_FITS
from convbench.problem import Problem
from convbench.results.record import Record

DISTRIBUTION: Final = "distribution"
HALO: Final = "halo"
GATHERING: Final = "gathering"
END_TO_END: Final = "end to end"
OVERHEAD_COUNTS: Final = 3
"""Counts of nodes from which a call's overhead is fitted."""


class Observed(NamedTuple):
    """What one record says of nodes, in seconds: a call, what each node did in it, and what is timed apart.

    `compute` has the seconds that each node computed, `halos` those in which it exchanged halos and waited for others.
    `messages` and `moved`, in bytes, are those of "distribution", "halo" (of a call) and "gathering", of all nodes;
    `hosts` is how many machines they are on, `remote` how many of them are not on that of the process that leads (of
    records that do not tell, all), `exchanges` whether nodes exchange halos in a call (of records that do not tell,
    whether there was anything to exchange), and `fit` whether there were CPUs for all of them.
    """

    nodes: int
    seconds: float
    compute: Sequence[float]
    halos: Sequence[float]
    transfers: Mapping[str, float]
    messages: Mapping[str, int]
    moved: Mapping[str, int]
    hosts: int
    remote: int
    exchanges: bool
    fit: bool


def of_record(record: Record) -> Observed | None:
    """What a record says of nodes; None if it was not measured on any, or is not ok."""
    if record.status != "ok" or not record.cluster:
        return None
    return Observed(
        nodes=record.cores,  # workers or ranks that were asked for
        seconds=statistics.fmean(record.samples),
        compute=_by_node(record.cluster["compute_seconds"]),
        halos=_by_node(record.cluster["communication_seconds"]),
        transfers={name: statistics.median(seconds) for name, seconds in record.transfers.items() if seconds},
        messages=record.cluster["messages"],
        moved=record.cluster["bytes"],
        hosts=record.cluster["hosts"],
        remote=record.cluster.get("remote", record.cluster["workers"]),
        exchanges=record.cluster.get("exchanges", record.cluster["messages"].get(HALO, 0) > 0),
        fit=OUT_OF_FITS not in record.flags,
    )


def _by_node(samples: Sequence[Sequence[float]]) -> list[float]:
    """The mean over samples of each node, of the samples in which no node died."""
    return [statistics.fmean(seconds) for seconds in zip(*filter(None, samples), strict=True)]


@dataclass(frozen=True)
class Measured:
    """One cell on several nodes, means over runs, in seconds and bytes.

    Attributes:
        problem: What was computed.
        nodes: Workers or ranks.
        seconds: A call, with its interval over runs.
        busiest: The node that computed longest; None where records do not tell.
        average: A node.
        halos: The exchange of halos, by the node that waited least for the others in it.
        transfers: `DISTRIBUTION`, `GATHERING` and `END_TO_END`, as far as they were measured.
        messages: Of `DISTRIBUTION`, `HALO` (in a call) and `GATHERING`, of all nodes together.
        moved: Their bytes.
        hosts: Machines that the nodes are on.
        remote: Nodes on other machines than that of the process that leads.
        exchanges: Whether nodes exchange halos in a call, where there are any.
        fit: Whether it may enter fits: there were CPUs for all nodes.
    """

    problem: Problem
    nodes: int
    seconds: Estimate
    busiest: float | None
    average: float | None
    halos: float | None
    transfers: Mapping[str, float]
    messages: Mapping[str, int]
    moved: Mapping[str, int]
    hosts: int
    remote: int
    exchanges: bool
    fit: bool

    @property
    def imbalance(self) -> float | None:
        """By which the node that computed longest took longer than the average."""
        return None if self.busiest is None or self.average is None else self.busiest - self.average

    @property
    def communication(self) -> float | None:
        """The rest of a call: exchange of halos, dispatch, waiting for messages."""
        return None if self.busiest is None else max(0.0, self.seconds.value - self.busiest)

    @property
    def end_to_end(self) -> float | None:
        """From having the input in one place to having the output there, as measured."""
        return self.transfers.get(END_TO_END)

    def part(self, name: str) -> float | None:
        """A part of a call, or what is timed apart, by the name that it has in a `Prediction`; None if not measured."""
        own = {"compute": self.average, "imbalance": self.imbalance}
        own |= {"halos": self.halos, "communication": self.communication}
        return own[name] if name in own else self.transfers.get(name.replace("_", " "))


@dataclass(frozen=True)
class NodeSeries:
    """One algorithm on one engine over counts of nodes, for one problem, which may grow with them.

    Attributes:
        problem: That of one node, where it grows.
        algorithm: Its name.
        executor: Name of the engine.
        cells: What was measured on each count, ascending.
    """

    problem: Problem
    algorithm: str
    executor: str
    cells: Mapping[int, Measured]

    @property
    def scaled(self) -> bool:
        """Whether the problem grows with the nodes."""
        return any(cell.problem != self.problem for cell in self.cells.values())

    @property
    def exchanges(self) -> bool:
        """Whether nodes exchange halos in a call; an engine that does not has distributed parts with theirs."""
        return any(cell.exchanges for cell in self.cells.values())

    @property
    def apart(self) -> bool:
        """Whether the process that leads, which has the whole, is none of the nodes, nor on the machine of one.

        On one machine a process that is none of the nodes is apart, too.
        """
        largest = self.cells[max(self.cells)]
        if largest.hosts > 1:
            return largest.remote >= largest.nodes
        return largest.messages.get(DISTRIBUTION, 0) >= largest.nodes

    @cached_property
    def link(self) -> Link | None:
        """The link that explains distribution and gathering; a call's own time has no part in it.

        Between machines, it is fitted to what was measured on several.
        """
        several = [cell for cell in self._fit if cell.hosts > 1]
        return fitted(transfer for cell in several or self._fit for transfer in _transfers(cell))

    @property
    def _fit(self) -> list[Measured]:
        return [cell for cell in self.cells.values() if cell.fit]

    @cached_property
    def cluster(self) -> Cluster | None:
        """What a prediction starts from; None where one node was not measured, or the link is not known."""
        one = self.cells.get(1)
        if one is None or self.link is None:
            return None
        computing = one.seconds.value if one.busiest is None else min(one.busiest, one.seconds.value)
        constant, overhead = self._overhead(one.seconds.value - computing)
        return Cluster(computing, self.link, overhead, self.exchanges, self.apart, constant)

    def _overhead(self, on_one: float) -> tuple[float, float]:
        """What a call takes beside computing and halos: in any case, and for each node or round.

        Of fewer than `OVERHEAD_COUNTS` counts it cannot be told apart: then all that one node's call takes, `on_one`,
        is taken for the latter, so that predictions are rather too slow.
        """
        found = [
            (rounds(cell.nodes, exchanges=self.exchanges), beside)
            for cell in self._fit
            if cell.communication is not None and (beside := cell.communication - (cell.halos or 0.0)) > 0
        ]
        if len(found) < OVERHEAD_COUNTS:
            return 0.0, on_one
        counts, seconds = zip(*found, strict=True)
        return weights(([1.0] * len(counts), counts), seconds)

    def predicted(self, cutting: Cutting, counts: Iterable[int] = COUNTS) -> list[Prediction]:
        """By the model, from what was measured on one node; nothing where `cluster` is not known."""
        if self.cluster is None:
            return []
        return (weak if self.scaled else strong)(self.problem, self.cluster, cutting, counts)


def on_nodes(records: Iterable[Record]) -> list[NodeSeries]:
    """The records that were measured on nodes as series, in the order of the records; counts ascending."""
    found: dict[tuple[str, str, str], dict[int, list[tuple[Record, Observed]]]] = {}
    for record in records:
        if (observed := of_record(record)) is not None:
            key = (record.base or record.problem, record.algorithm, record.executor)
            found.setdefault(key, {}).setdefault(observed.nodes, []).append((record, observed))
    return [
        NodeSeries(
            Problem.parse(problem),
            algorithm,
            executor,
            {nodes: _measured(nodes, cells[nodes]) for nodes in sorted(cells)},
        )
        for (problem, algorithm, executor), cells in found.items()
    ]


def _measured(nodes: int, cells: Sequence[tuple[Record, Observed]]) -> Measured:
    every = [observed for _, observed in cells]
    told = [observed.compute for observed in every if observed.compute]
    names = dict.fromkeys(name for observed in every for name in observed.transfers)
    return Measured(
        problem=Problem.parse(cells[0][0].problem),
        nodes=nodes,
        seconds=mean_time([observed.seconds for observed in every]),
        busiest=statistics.fmean(map(max, told)) if told else None,
        average=statistics.fmean(map(statistics.fmean, told)) if told else None,
        halos=statistics.fmean(min(observed.halos) for observed in every if observed.halos) if told else None,
        transfers={
            name: statistics.fmean(observed.transfers[name] for observed in every if name in observed.transfers)
            for name in names
        },
        messages=every[-1].messages,
        moved=every[-1].moved,
        hosts=max(observed.hosts for observed in every),
        remote=max(observed.remote for observed in every),
        exchanges=any(observed.exchanges for observed in every),
        fit=all(observed.fit for observed in every),
    )


def _transfers(cell: Measured) -> Iterator[Transfer]:
    """What distribution and gathering moved, between machines where there are several, and how long that took."""
    for name in (DISTRIBUTION, GATHERING):
        if cell.messages.get(name) and (seconds := cell.transfers.get(name)):
            share = min(1.0, cell.remote / cell.messages[name]) if cell.hosts > 1 else 1.0
            yield Transfer(share * cell.messages[name], share * cell.moved[name], seconds)
