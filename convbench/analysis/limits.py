"""The machine's limits as a measure of rates: percent of peak, and the roofline.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures", CACM
52(4), 2009.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from convbench.problem import Problem

OPERATIONS: Final = ("multiply_add_float32", "multiply_add_float64")
TRAFFIC: Final = ("read", "write", "stream", "copy")


@dataclass(frozen=True)
class Limits:
    """The highest rates of a machine, as a sweep measured them.

    Attributes:
        rates: For each number of cores and each kind of work, every repetition's rate: operations or bytes a second.
    """

    rates: Mapping[int, Mapping[str, Sequence[float]]]

    @classmethod
    def of(cls, machine: Mapping[str, Any]) -> Self:
        """From a sweep's description of the machine; empty if its limits were not measured."""
        cores = machine.get("peaks", {}).get("cores", {})
        return cls({int(count): cores[count] for count in sorted(cores, key=int)})

    @classmethod
    def of_gpu(cls, machine: Mapping[str, Any]) -> Self:
        """Those of its GPU, under one core, as a GPU's cells are; empty if they were not measured."""
        rates = machine.get("peaks", {}).get("device", {}).get("rates")
        return cls({1: rates} if rates else {})

    def best(self, kind: str, cores: int) -> float | None:
        """The limit: the best repetition on so many cores or fewer; None if not measured."""
        if not self.rates.get(cores, {}).get(kind):
            return None
        return max(rate for count in self.rates if count <= cores for rate in self.rates[count].get(kind, ()))

    def steadiness(self, kind: str, cores: int) -> float | None:
        """The median repetition as a share of the best: 1 on an undisturbed machine."""
        rates = self.rates.get(cores, {}).get(kind)
        return statistics.median(rates) / max(rates) if rates else None

    def bandwidth(self, cores: int) -> float | None:
        """The highest rate of any kind of traffic, in bytes a second."""
        found = [rate for kind in TRAFFIC if (rate := self.best(kind, cores)) is not None]
        return max(found, default=None)

    def share_of_peak(self, products: str, rate: float, cores: int) -> float | None:
        """The direct form's operations a second over the multiply-add limit of a dtype; None where that is unknown.

        A form with fewer multiplications can go beyond 1.
        """
        peak = self.best(f"multiply_add_{products}", cores)
        return None if peak is None else rate / peak

    def roof(self, intensity: float, dtype: str, cores: int) -> float | None:
        """The roof at an intensity (operations for each byte), in operations a second."""
        peak, bandwidth = self.best(f"multiply_add_{dtype}", cores), self.bandwidth(cores)
        return None if peak is None or bandwidth is None else min(peak, intensity * bandwidth)


def intensity(problem: Problem) -> float:
    """Operations for each byte of input, weights and output, each moved once."""
    return problem.flops / problem.bytes
