"""What a record says of the code that ran: another library's or ours, a bound or not, its variant, memory and work."""

from __future__ import annotations

from typing import Any

from convbench.measure.resident import Peak
from convbench.peers import LIBRARY, PEERS
from convbench.plans import DistributedPlan, PeerPlan, Plan
from convbench.results.record import Cell, Fact


def kind(cell: Cell) -> dict[str, bool]:
    """Whether a cell's algorithm is a peer, and whether what is timed is a bound and no convolution."""
    _, algorithm, _, _ = cell
    peer = algorithm in PEERS
    return {"peer": peer, "bound": peer and PEERS[algorithm].bound}


def counted_of(plan: Plan | PeerPlan | DistributedPlan, peak: Peak) -> dict[str, Any]:
    """What a plan needs and does, counted, and what its process held at most: fields of a record."""
    candidate, problem, held = plan.candidate, plan.problem, peak.bytes(plan.pids)
    memory = {} if held is None else {"peak": held}
    if candidate.algorithm in PEERS:
        return {"memory": memory}
    return {"memory": {"needed": candidate.memory(problem), **memory}, "work": candidate.work(problem)}


def variant(plan: Plan | PeerPlan | DistributedPlan) -> dict[str, Fact]:
    """What was chosen for a problem: backend (of a peer on the host "library"), precision, and what the form adds."""
    candidate = plan.candidate
    backend = LIBRARY if candidate.executor == LIBRARY else candidate.backend
    return {"backend": backend, "precision": plan.precision.name, **plan.variant}
