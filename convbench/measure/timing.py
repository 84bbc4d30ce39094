"""Warm-up and samples: when times have settled, and how many calls make a sample."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from pyperf import perf_counter

if TYPE_CHECKING:
    from convbench.measure.spec import Timing

T = TypeVar("T")
Clock = Callable[[Callable[[], object], int], float]


def seconds(call: Callable[[], object], loops: int, now: Callable[[], float] | None = None) -> float:
    """Seconds of so many calls in a row, by the host's clock, which `now` reads."""
    now = now or perf_counter
    begin = now()
    for _ in range(loops):
        call()
    return float(now() - begin)


def wake(call: Callable[[], object], timing: Timing, clock: Clock, now: Callable[[], float] | None = None) -> None:
    """Call for `timing.wake_seconds`: a GPU raises its clock only while it works; `now` reads the host's clock."""
    now = now or perf_counter
    until = now() + timing.wake_seconds
    while now() < until:
        clock(call, 1)


def warm_up(call: Callable[[], object], timing: Timing, clock: Clock = seconds) -> tuple[list[float], bool]:
    """Call until two times in a row agree.

    Returns:
        Seconds of each call, and whether they settled before `timing` said to go on.
    """
    times: list[float] = []
    while len(times) < timing.max_warmups and sum(times) < timing.warmup_seconds:
        times.append(clock(call, 1))
        if len(times) > 1 and abs(times[-1] - times[-2]) <= timing.settled * times[-2]:
            return times, True
    return times, len(times) == 1  # one call took all the time there was; there is nothing to compare it with


def take_samples(  # over 40 lines: half of them are the arguments and what they mean
    call: Callable[[], object],
    timing: Timing,
    warmups: list[float],
    prepare: Callable[[], object] | None = None,
    observe: tuple[Callable[[], T], Callable[[], T]] | None = None,
    clock: Clock = seconds,
) -> tuple[list[float], int, list[tuple[T, T]]]:
    """Time the call, with Python's garbage collector at rest.

    Args:
        call: What to time.
        timing: How often.
        warmups: Seconds of calls before; the first sample joins them if it turns out to be far too short.
        prepare: Called before each sample, outside of the clock; a sample is then one call.
        observe: What to call right before and right after each sample, outside of the clock.
        clock: Returns the seconds of a number of calls in a row.

    Returns:
        Seconds of one call for each sample, how many calls each sample is the mean of, and what was observed before and
        after each.
    """
    loops = 1 if prepare is not None else _loops(timing, min(warmups))
    samples: list[float] = []
    observed: list[tuple[T, T]] = []
    total = 0.0
    with _garbage_collector_off():
        while not _enough(timing, len(samples), total):
            if prepare is not None:
                prepare()
            before = observe[0]() if observe is not None else None
            taken = clock(call, loops)
            after = observe[1]() if observe is not None else None
            if prepare is None and not samples and loops < (more := _loops(timing, taken / loops)) // 2:
                warmups.append(taken / loops)  # the calls before it were disturbed
                loops = more
                continue
            total += taken
            samples.append(taken / loops)
            if before is not None and after is not None:
                observed.append((before, after))
    return samples, loops, observed


def _enough(timing: Timing, samples: int, seconds: float) -> bool:
    """Whether so many samples, of so many seconds together, are enough or the most that `timing` allows."""
    if samples >= timing.max_samples or seconds >= timing.max_seconds:
        return True
    return samples >= timing.min_samples and seconds >= timing.min_seconds


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    """Keep Python's garbage collector from running, and leave it as it was."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _loops(timing: Timing, estimate: float) -> int:
    """How many calls of about `estimate` seconds make a sample."""
    return max(1, round(timing.sample_seconds / max(estimate, 1e-9) + 0.5))
