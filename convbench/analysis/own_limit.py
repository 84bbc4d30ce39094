"""A form's own limit: the least seconds that what it does itself can take, by the machine's measured limits.

Percent of peak counts the direct form's operations, and so compares forms; percent of its own limit counts what a form
really does, and so tells how well that is done: its vector operations at the measured peak, and its bytes at the
measured bandwidth, of which the larger is the limit. No call is faster, with one exception: the bandwidth is that of
memory, and what stays in the caches between calls is moved faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from convbench.analysis.limits import Limits
from convbench.analysis.times import CellTimes
from convbench.plans import Candidate
from convbench.problem import ITEM_SIZE, Problem

VECTORS: Final = ("multiply-adds", "other operations")
"""Counts of vector operations, each of which takes a multiply-add's place in the processor."""
WEIGHTS: Final = ("weight bytes", "packed weight bytes")
"""Counts of the same weights, of which a call reads one."""
COPIED_VECTORS: Final = "unrolled vectors"
BYTES: Final = " bytes"
"""The end of the name of every other count of bytes: input and output, and what is copied."""


@dataclass(frozen=True)
class OwnLimit:
    """The least seconds of a call.

    Attributes:
        operations: Seconds that the busiest core's vector operations take at the measured peak.
        bytes: Seconds that the bytes take at the measured bandwidth.
    """

    operations: float
    bytes: float

    @property
    def seconds(self) -> float:
        """The larger of the two."""
        return max(self.operations, self.bytes)

    @property
    def by(self) -> str:
        """Which of the two that is."""
        return "operations" if self.operations >= self.bytes else "bytes"


def own_limit(work: Mapping[str, float], dtype: str, cores: int, limits: Limits) -> OwnLimit | None:
    """The limit of a call on so many cores; None where its work or the machine's limits are not known.

    Operations are those of the worker that has most to do. Bytes are shared, as is the bandwidth of all cores, but no
    worker moves its share faster than one core can.

    Args:
        work: What the call does, counted, see `Candidate.work`.
        dtype: Of the problem.
        cores: How many it has.
        limits: Of the machine.
    """
    peak, bandwidth = limits.best(f"multiply_add_{dtype}", cores), limits.bandwidth(cores)
    if not {"lanes", "busiest share"} <= work.keys() or peak is None or bandwidth is None:
        return None
    share = work["busiest share"]
    operations = 2 * work["lanes"] * sum(work.get(name, 0.0) for name in VECTORS)
    moved = moved_bytes(work, dtype)
    slowest = max(moved / bandwidth, share * moved / (limits.bandwidth(1) or bandwidth))
    return OwnLimit(share * operations * cores / peak, slowest)


def moved_bytes(work: Mapping[str, float], dtype: str) -> float:
    """Bytes of input, weights as the form reads them, and output, once each, and those that it copies."""
    weights = max(work.get(name, 0.0) for name in WEIGHTS)
    others = sum(count for name, count in work.items() if name.endswith(BYTES) and name not in WEIGHTS)
    return weights + others + work.get(COPIED_VECTORS, 0.0) * work["lanes"] * ITEM_SIZE[dtype]


def of_cell(cell: CellTimes, limits: Limits) -> OwnLimit | None:
    """The limit of what was measured in a cell, by the counts in its records."""
    return own_limit(cell.work, Problem.parse(cell.problem).dtype, cell.threads, limits)


def of_candidate(problem: Problem, candidate: Candidate, limits: Limits) -> OwnLimit | None:
    """The limit of a candidate of ours for a problem that it can compute, without measuring it."""
    return own_limit(candidate.work(problem), problem.dtype, candidate.threads, limits)
