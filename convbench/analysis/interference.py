"""Interference from other programs while a sweep was measured, from the counters of all samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from convbench.analysis.drift import drifted
from convbench.analysis.times import OUT_OF_FITS
from convbench.results.record import Record


@dataclass(frozen=True)
class Interference:
    """Interference as shares and rates over all samples; None where the system does not count.

    Cells on more cores than there were, and on a GPU, count for nothing but the time inside calls.

    Attributes:
        samples: How many there are.
        flagged: How many raised a flag of their own.
        busy: CPU time of the process tree over the time of the cores that the cells were given.
        stolen: Time that the hypervisor gave to others, over the same.
        throttled: CPU time that a control group's quota held back, over the samples' time.
        waited: Time in which some task of the system waited for a CPU, over the samples' time.
        switches: Involuntary switches a second and core.
        faults: Page faults a sample.
        slowest: The slowest measurement of the fixed piece of work over the fastest.
        spread: Standard deviation of all its measurements over their mean.
        inside: Share of the sweep's time that was spent in warm-up or timed calls.
    """

    samples: int
    flagged: int
    busy: float | None
    stolen: float | None
    throttled: float | None
    waited: float | None
    switches: float | None
    faults: float | None
    slowest: float | None
    spread: float | None
    inside: float | None

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        """From the records of a sweep."""
        every = list(records)
        ok = [record for record in every if record.status == "ok"]
        free = [record for record in ok if OUT_OF_FITS not in record.flags and not record.transfers]
        wall = sum(record.counters.get("elapsed_seconds", 0) for record in free)
        cores = sum(record.counters.get("elapsed_seconds", 0) * record.cores for record in free)
        calls = sum(len(record.samples) for record in free)
        drift = [record.calibration for record in ok if record.calibration]
        spent = sum(record.wall_seconds for record in every)

        def total(counter: str, over: float) -> float | None:
            known = [record.counters[counter] for record in free if counter in record.counters]
            return sum(known) / over if known and over else None

        return cls(
            samples=calls,
            flagged=sum(bool(flags) for record in free for flags in record.sample_flags),
            busy=total("cpu_seconds", cores),
            stolen=total("steal_seconds", cores),
            throttled=total("throttled_seconds", wall),
            waited=total("pressure_seconds", wall),
            switches=total("involuntary_switches", cores),
            faults=total("minor_faults", calls),
            slowest=max(drift) / min(drift) if drift else None,
            spread=statistics.stdev(drift) / statistics.fmean(drift) if len(drift) > 1 else None,
            inside=sum(sum(r.warmups) + sum(r.samples) * r.loops for r in ok) / spent if spent else None,
        )


def raised(records: Iterable[Record]) -> Mapping[str, int]:
    """The number of records that raised each flag, the most frequent first.

    "drift" is judged by all the records together, not only by the run itself as in a record.
    """
    counts: dict[str, int] = {}
    every = list(records)
    for record, slow in zip(every, drifted(every), strict=True):
        for flag in dict.fromkeys((*record.flags, *(["drift"] if slow else []))):
            counts[flag] = counts.get(flag, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))
