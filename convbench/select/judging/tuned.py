"""What `convbench tune` has measured on this machine, as a table to judge by."""

from __future__ import annotations

from dataclasses import replace

from convbench import networks
from convbench.errors import UnavailableError
from convbench.problem import Problem
from convbench.select import known
from convbench.select.design import LIST
from convbench.select.judging.table import Table
from convbench.shape import DESCRIPTOR


def tuned_table() -> Table:
    """Rows of the layers of the listed networks, by their names, and of the other measured problems.

    Raises:
        UnavailableError: Nothing was measured.
    """
    seconds = known.load().seconds
    if not seconds:
        raise UnavailableError(
            "nothing was measured on this machine to choose by; run convbench tune, or give the DIR of a sweep, or "
            "--table CSV"
        )
    return table_of(seconds)


def table_of(seconds: known.Seconds) -> Table:
    """The table of measured seconds, by problem and by name."""
    rows: dict[Problem, dict[str, list[float]]] = {}
    named = set()
    for layer in (one for name in networks.NETWORKS if name != LIST for one in networks.load(name)):
        bare = str(replace(layer.problem, name=""))
        if bare in seconds:
            named.add(bare)
            rows[layer.problem] = {name: [each] for name, each in seconds[bare].items()}
    for descriptor, times in seconds.items():
        if descriptor not in named and DESCRIPTOR.fits(descriptor):
            rows[Problem.parse(descriptor)] = {name: [each] for name, each in times.items()}
    return Table.of(rows)
