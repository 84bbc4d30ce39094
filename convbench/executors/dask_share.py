"""What Dask's workers run: they keep a share for each piece that they compute, and what its calls took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from convbench.executors.cluster import Ledger, make_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors.cluster import Share

Name = tuple[str, int]
"""A crew's name and the number of the piece."""

_held: dict[Name, tuple[Share, Ledger]] = {}


def prepare(name: Name, location: str, order: Any) -> dict[str, Any]:
    """Make the share of a piece on this worker, unless it has it; what the leader is to know of it."""
    return _share(name, location, order)[0].facts


def compute(name: Name, location: str, order: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Compute a piece; on a worker that took over from another one, the share is made first."""
    share, ledger = _share(name, location, order)
    begin = time.perf_counter()
    out = share(x)
    ledger.entries.append((time.perf_counter() - begin, 0.0))
    return out


def drain(crew: str) -> dict[int, list[tuple[float, float]]]:
    """The times of the pieces of a crew that this worker computed, by number of the piece."""
    return {name[1]: ledger.drain() for name, (_, ledger) in list(_held.items()) if name[0] == crew}


def forget(crew: str) -> None:
    """Release the shares of a crew."""
    for name in [name for name in _held if name[0] == crew]:
        _held.pop(name)[0].close()


def version() -> str:
    """The version of convbench on this worker."""
    from convbench import __version__

    return __version__


def _share(name: Name, location: str, order: Any) -> tuple[Share, Ledger]:
    if name not in _held:
        _held[name] = (make_share(location, order), Ledger())
    return _held[name]
