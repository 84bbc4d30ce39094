"""What is measured of times that are known: sleeps, and work of which a fifth is serial. Needs a quiet machine.

python -m benchmarks.known_times

Tests ask the same of a simulated clock (tests/simulated.py), on which nothing else can take time; here it is the real
clock, and what the system adds to a sleep shows.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

from convbench.analysis.statistics import mean
from convbench.measure.peaks import clock_seconds
from convbench.measure.spec import Timing
from convbench.measure.timing import take_samples, warm_up
from convbench.report.content import Column, Table, Value
from convbench.terminal import show_table

SERIAL, SECONDS = 0.2, 0.1  # share that is serial, and seconds on one core
SLEEPS = (0.001, 0.02, 0.1)
CORES = (1, 2, 4, 8)
RUNS = 5
SPIN = 0.002  # seconds before the end from which on a call looks at the clock, since sleeping ends late


def lasting(seconds: float) -> Callable[[], None]:
    """A call that lasts so many seconds by the clock."""

    def call() -> None:
        end = time.perf_counter() + seconds
        time.sleep(max(0.0, seconds - SPIN))
        while time.perf_counter() < end:
            pass

    return call


def measured(call: Callable[[], None], timing: Timing) -> float:
    """The mean of the samples of a call, as a cell takes them."""
    warmups, _ = warm_up(call, timing)
    samples, _, _ = take_samples(call, timing, warmups)
    return statistics.fmean(samples)


def times(timing: Timing) -> Table:
    """Sleeps, and calls that last a known time."""
    rows: list[list[Value]] = []
    for name, kind in (("sleep", lambda seconds: lambda: time.sleep(seconds)), ("call", lasting)):
        for seconds in SLEEPS:
            found = mean([measured(kind(seconds), timing) for _ in range(RUNS)])
            rows.append([name, seconds, found, found.value / seconds - 1])
    titles = [Column(""), Column("lasts, s", ".4f"), Column("measured, s", ".5f"), Column("too long by", ".2%")]
    return Table("known-times", "Known times", titles, rows)


def scaling(timing: Timing) -> Table:
    """Karp and Flatt's serial fraction of calls that follow Amdahl's law."""
    known = {cores: SECONDS * (SERIAL + (1 - SERIAL) / cores) for cores in CORES}
    found = {cores: measured(lasting(seconds), timing) for cores, seconds in known.items()}
    rows = [
        [cores, known[cores], found[cores], (found[cores] / found[1] - 1 / cores) / (1 - 1 / cores)]
        for cores in CORES[1:]
    ]
    titles = [
        Column("cores"),
        Column("lasts, s", ".4f"),
        Column("measured, s", ".5f"),
        Column("serial fraction", ".3f"),
    ]
    return Table("known-fraction", f"Calls of which {SERIAL:.0%} is serial", titles, rows)


def main() -> None:
    """Measure and print."""
    timing = dataclasses.replace(Timing(), peak_repetitions=0)
    show_table(times(timing))
    show_table(scaling(timing))
    reading = clock_seconds()
    print(
        f"a reading of the clock takes {1e9 * reading:.0f} ns; two are {2 * reading / timing.sample_seconds:.5%} "
        f"of the shortest sample"
    )


if __name__ == "__main__":
    main()
