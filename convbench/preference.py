"""A fixed order of the forms, for machines that nothing is known about, and the candidates that a request allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from convbench import machine
from convbench.errors import RequestError
from convbench.executors.threads import most_threads
from convbench.plans import checked_cores

PREFERENCE: Final[Mapping[str, Sequence[str]]] = {
    "numba": ("winograd", "direct", "unrolled", "naive"),
    "gpu": ("winograd", "unrolled", "direct"),
}
"""Forms in the order in which they are tried where nothing is known, by backend of the executor."""


def allowed_cores(cores: int | None) -> int:
    """The largest number of cores that a request may be computed on: what the process may use, at most `cores`.

    Raises:
        RequestError: `cores` is invalid, see `checked_cores`, or more than the threads of Numba's pool.
    """
    usable, threads = machine.usable_cores(), most_threads()
    if cores is None:
        return min(usable, threads)
    count = min(checked_cores(cores), usable)
    if count > threads:
        raise RequestError(
            f"cores={cores} is more than the {threads} threads of Numba's pool; "
            f"set NUMBA_NUM_THREADS={count} before Python starts"
        )
    return count
