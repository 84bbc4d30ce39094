"""Calls timed in turns, so that what the machine does meanwhile hits all of them alike."""

import time
from collections.abc import Callable

ROUNDS = 10
SECONDS = 0.05


def fastest(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of one call of each, the fastest of several short stretches taken in turns."""
    best, timed = dict.fromkeys(calls, float("inf")), {}
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        timed[name] = _repeated(call, max(1, round(SECONDS / (time.perf_counter() - begin))))
    for _ in range(ROUNDS):
        for name, seconds in timed.items():
            best[name] = min(best[name], seconds())
    return best


def _repeated(call: Callable[[], object], times: int) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begin) / times

    return timed
