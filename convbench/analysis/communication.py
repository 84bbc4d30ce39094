"""A model of one convolution on several nodes: what it computes, what it sends, and where that ends the scaling.

A call is a superstep (Valiant, "A bridging model for parallel computation", CACM 33(8), 1990): every node gets its
halo, computes, and the call ends with the last of them. With t the seconds of one node that computes everything,

    T(P) = t max_i share_i + messages latency + bytes / bandwidth + overhead(P)

where share_i is a node's share of the outputs, and messages and bytes are those of the halo of the node that has most
(Hockney's model of a link, see `link`). Bringing the parts to the nodes and their outputs back is apart: both pass the
one link of whoever has the whole. Nothing is overlapped, no link is shared, and a node computes a part at the same rate
as the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from convbench.analysis.cuts import Cut, Cutting, cuts
from convbench.analysis.link import Link
from convbench.problem import Problem

MOST_NODES: Final = 4096
COUNTS: Final = tuple(2**exponent for exponent in range(MOST_NODES.bit_length()))
"""Counts of nodes of a prediction."""


@dataclass(frozen=True)
class Cluster:
    """What was measured of a node and of what joins it to others.

    Attributes:
        seconds: That one node needs to compute the whole problem.
        link: Between any two nodes.
        overhead: Seconds that a call takes beside computing and exchanging halos, for each node or round, see `rounds`.
        exchanges: Whether nodes exchange their halos in every call, as MPI's ranks do; otherwise each part was sent
            with its halo, and a scheduler dispatches every call.
        apart: Whether whoever has the whole is none of the nodes.
        constant: Seconds that a call takes beside all that, on any number of nodes.
    """

    seconds: float
    link: Link
    overhead: float = 0.0
    exchanges: bool = True
    apart: bool = False
    constant: float = 0.0

    def overhead_on(self, nodes: int) -> float:
        """Seconds of a call on so many nodes beside computing and exchanging halos."""
        return self.constant + self.overhead * rounds(nodes, exchanges=self.exchanges)


def rounds(nodes: int, *, exchanges: bool) -> int:
    """How often a call's overhead is paid: by a scheduler for one node after the other.

    Nodes that exchange halos begin and end a call together, which takes a number of rounds that grows with the
    logarithm (Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH",
    IJHPCA 19(1), 2005).
    """
    return 1 + math.ceil(math.log2(nodes)) if exchanges else nodes


@dataclass(frozen=True)
class Prediction:
    """The parts of a call's time on so many nodes, in seconds.

    Attributes:
        nodes: How many there are.
        cut: How the problem is cut.
        compute: Of a node if all had the same share.
        imbalance: By which the busiest node's share takes longer.
        halos: Exchange of halos, of the node that has most.
        overhead: Barrier or dispatch.
        distribution: Bringing the input to the nodes, before any call; they have the weights.
        gathering: Bringing the outputs back, after it.
    """

    nodes: int
    cut: Cut
    compute: float
    imbalance: float
    halos: float
    overhead: float
    distribution: float
    gathering: float

    @property
    def communication(self) -> float:
        """What a call takes beside computing."""
        return self.halos + self.overhead

    @property
    def seconds(self) -> float:
        """A call: distribution and gathering apart."""
        return self.compute + self.imbalance + self.communication

    @property
    def end_to_end(self) -> float:
        """From having the input in one place to having the output there."""
        return self.distribution + self.seconds + self.gathering


def call_seconds(prediction: Prediction) -> float:
    """Of a call, for `speedups`."""
    return prediction.seconds


def end_to_end(prediction: Prediction) -> float:
    """Of a call with distribution and gathering, for `speedups`."""
    return prediction.end_to_end


def predict(problem: Problem, nodes: int, cluster: Cluster, cutting: Cutting) -> Prediction:
    """One convolution on so many nodes, cut in the fastest way that the cutting has.

    Args:
        problem: The whole; forward.
        nodes: At least 1.
        cluster: Measured on this problem.
        cutting: "rows" for one dimension, as `Problem.split` cuts, "blocks" for two.
    """
    found = (_of_cut(cut, nodes, cluster) for cut in cuts(problem, nodes, cutting))
    return min(found, key=lambda prediction: prediction.seconds)


def strong(problem: Problem, cluster: Cluster, cutting: Cutting, counts: Iterable[int] = COUNTS) -> list[Prediction]:
    """The same problem on ever more nodes."""
    return [predict(problem, nodes, cluster, cutting) for nodes in counts]


def weak(problem: Problem, cluster: Cluster, cutting: Cutting, counts: Iterable[int] = COUNTS) -> list[Prediction]:
    """A problem that grows with the nodes, see `Problem.grown`; `cluster` is measured on one node's share of it."""
    found = []
    for nodes in counts:
        grown = problem.grown(nodes)
        seconds = cluster.seconds * grown.multiply_adds / problem.multiply_adds
        scaled = replace(cluster, seconds=seconds)
        found.append(predict(grown, nodes, scaled, cutting))
    return found


def speedups(
    predictions: Sequence[Prediction], *, scaled: bool, seconds: Callable[[Prediction], float] = call_seconds
) -> dict[int, float]:
    """Speedup over one node, which must be the first of the predictions.

    Args:
        predictions: By `strong` or `weak`.
        scaled: Whether they are of `weak`: then it is Gustafson's, work done a second over what one node does a second
            (Gustafson, "Reevaluating Amdahl's law", CACM 31(5), 1988).
        seconds: Which time: a call's by default.
    """
    one = seconds(predictions[0])
    return {each.nodes: (each.nodes if scaled else 1) * one / seconds(each) for each in predictions}


def most_useful(speedups: Mapping[int, float]) -> int:
    """The fewest nodes with the highest speedup: beyond them, communication takes what computing gains."""
    return min(speedups, key=lambda nodes: (-speedups[nodes], nodes))


def turning_point(predictions: Iterable[Prediction]) -> int | None:
    """The fewest nodes on which communication takes as long as computing; None if it does on none of the predictions.

    From there on, more than half of a call is communication.
    """
    found = (
        each.nodes for each in predictions if each.nodes > 1 and each.communication >= each.compute + each.imbalance
    )
    return min(found, default=None)


def _of_cut(cut: Cut, nodes: int, cluster: Cluster) -> Prediction:
    link = cluster.link
    return Prediction(
        nodes=nodes,
        cut=cut,
        compute=cluster.seconds / nodes,
        imbalance=cluster.seconds * (cut.busiest - 1 / nodes),
        halos=link.seconds(cut.messages, cut.halo_bytes) if cluster.exchanges else 0.0,
        overhead=cluster.overhead_on(nodes),
        distribution=link.seconds(*cut.distributed(with_halo=not cluster.exchanges, apart=cluster.apart)),
        gathering=link.seconds(*cut.gathered(apart=cluster.apart)),
    )
