"""What a record says of the code that ran: another library's or ours, a bound or a convolution, and its variant."""

from __future__ import annotations

from convbench.executors import EXECUTORS
from convbench.peers import LIBRARY, PEERS
from convbench.plans import PeerPlan, Plan
from convbench.results.record import Cell, Fact


def kind(cell: Cell) -> dict[str, bool]:
    """Whether a cell's algorithm is a peer, and whether what is timed is a bound and no convolution."""
    _, algorithm, _, _ = cell
    peer = algorithm in PEERS
    return {"peer": peer, "bound": peer and PEERS[algorithm].bound}


def variant(plan: Plan | PeerPlan) -> dict[str, Fact]:
    """What was chosen for a problem: backend (of a peer on the host "library"), precision, and what the form adds."""
    executor = plan.candidate.executor
    backend = LIBRARY if executor == LIBRARY else EXECUTORS[executor].backend
    return {"backend": backend, "precision": plan.precision.name, **plan.variant}
