"""The work of a call of winograd convolution on the host, counted."""

from __future__ import annotations

from convbench.algorithms import Cost
from convbench.algorithms.winograd import dilated, filter_cost, tile_cost
from convbench.algorithms.winograd.host import has_filters_in_lanes
from convbench.problem import Problem

KINDS = ("gathered bytes", "transposed bytes", "shared bytes")
"""Kinds of work that only one of both ways has."""


def cost(problem: Problem) -> Cost:
    """The work of the way that `host` takes."""
    if dilated.is_dilated(problem):
        return dilated.more_work(cost(dilated.components(problem).problem), problem)
    found = (filter_cost if has_filters_in_lanes(problem) else tile_cost).cost(problem)
    return Cost({**dict.fromkeys(KINDS, 0.0), **found.counts}, found.units, found.shares, found.other_operations)
