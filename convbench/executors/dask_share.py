"""What Dask's workers run: they keep a share for each piece that they compute, and what its calls took."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convbench.errors import UnavailableError
from convbench.executors.cluster import Ledger, make_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors.cluster import Share

Name = tuple[str, int]
"""A crew's name and the number of the piece."""


@dataclass
class Held:
    """What this worker has of a piece.

    Attributes:
        share: Computes it.
        ledger: What its calls took.
        sent: The input that the share has taken: it may have copied it, as Dask's arrays need not be aligned, and a
            copy in each call would take time.
    """

    share: Share
    ledger: Ledger = field(default_factory=Ledger)
    sent: NDArray[Any] | None = None


_held: dict[Name, Held] = {}
_forgotten: deque[str] = deque(maxlen=1000)
"""Crews that were closed last: what they had begun may end later, and leaves nothing here."""


def prepare(name: Name, location: str, order: Any) -> dict[str, Any]:
    """Make the share of a piece on this worker, unless it has it; what the leader is to know of it."""
    return _of(name, location, order).share.facts


def compute(name: Name, location: str, order: Any, x: NDArray[Any]) -> Any:
    """Compute a piece; on a worker that took over from another one, the share is made first.

    Returns:
        The output, which stays on this worker until it is asked for.
    """
    held = _of(name, location, order)
    if x is not held.sent:
        held.share.load(x)
        held.sent = x
    begin = time.perf_counter()
    held.share()
    held.ledger.entries.append((time.perf_counter() - begin, 0.0))
    return held.share.output()


def drain(crew: str) -> dict[int, list[tuple[float, float]]]:
    """The times of the pieces of a crew that this worker computed, by number of the piece."""
    return {name[1]: held.ledger.drain() for name, held in list(_held.items()) if name[0] == crew}


def forget(*crews: str) -> None:
    """Release the shares of crews."""
    _forgotten.extend(crews)
    for name in [name for name in _held if name[0] in crews]:
        _held.pop(name).share.close()


def version() -> str:
    """The version of convbench on this worker."""
    from convbench import __version__

    return __version__


def _of(name: Name, location: str, order: Any) -> Held:
    held = _held.get(name)
    if held is None:
        held = _held[name] = Held(make_share(location, order))
    if name[0] in _forgotten:
        forget(name[0])
        raise UnavailableError("the plan was closed before this worker had its part")
    return held
