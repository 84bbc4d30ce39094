"""What a sweep knows of its GPU: a description, and telemetry from while it was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from convbench.results.record import Record


def facts(machine: Mapping[str, Any]) -> Mapping[str, Any]:
    """A machine's GPU as `gpu.describe` describes it; of the oldest sweeps its name alone, and empty without a GPU."""
    found = machine.get("gpu") or {}
    return {"name": found} if isinstance(found, str) else found


@dataclass(frozen=True)
class GpuTelemetry:
    """What NVML reported while cells were sampled, over all of their samples; None where it reported nothing.

    Attributes:
        samples: After how many samples it reported anything.
        sm_mhz, memory_mhz: The lowest and the highest clock.
        celsius: The highest temperature.
        watts: Energy over time where energy is counted, otherwise the mean of the readings.
        reasons: After how many samples clocks were lowered for each reason; idling is not one.
        capped: Share of the time for which the power limit lowered clocks.
        heated: The same for heat.
    """

    samples: int
    sm_mhz: tuple[float, float] | None
    memory_mhz: tuple[float, float] | None
    celsius: float | None
    watts: float | None
    reasons: Mapping[str, int]
    capped: float | None
    heated: float | None

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """The telemetry of all the records together."""
        several = list(records)
        levels = [level for record in several for level in record.device if level]

        def of_all(name: str) -> list[float]:
            return [level[name] for level in levels if name in level]

        def over_time(counter: str) -> float | None:
            counted = [record.counters for record in several]
            known = [counters for counters in counted if counter in counters and "elapsed_seconds" in counters]
            seconds = sum(counters["elapsed_seconds"] for counters in known)
            return sum(counters[counter] for counters in known) / seconds if seconds else None

        def span(name: str) -> tuple[float, float] | None:
            return (min(found), max(found)) if (found := of_all(name)) else None

        watts = of_all("watts")
        energy = over_time("energy_joules")
        return cls(
            samples=len(levels),
            sm_mhz=span("sm_mhz"),
            memory_mhz=span("memory_mhz"),
            celsius=max(of_all("celsius"), default=None),
            watts=energy if energy is not None else sum(watts) / len(watts) if watts else None,
            reasons=Counter(reason for level in levels for reason in level.get("reasons", ()) if reason != "idle"),
            capped=over_time("power_capped_seconds"),
            heated=over_time("heat_seconds"),
        )
