"""The limits of this machine's cores: the highest rates of multiply-adds and memory traffic, on one core and several.

The limits are measured by tiles on the executors that convolutions run on. Every rate is taken several times, in turns,
so that disturbances affect all of them alike; the best is the limit, and the distance of the others from it tells how
steady the machine was.

All data are as random as a convolution's. Some processors write zeros several times as fast as anything else, and
arithmetic on numbers of few bits takes less power, which leaves a higher clock.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import psutil
from numpy.typing import NDArray
from pyperf import perf_counter

from convbench import machine
from convbench.executors import EXECUTORS
from convbench.executors.memory import private_empty
from convbench.kernels.clock import STAGES
from convbench.kernels.vector import instruction_set
from convbench.measure.affinity import pin, threading_layer
from convbench.measure.peak_work import CHAINS, CHUNK, ROUNDS, SEED, TRAFFIC, make_work
from convbench.measure.placement import Nodes, nodes_of, place

UNITS: Final = 200  # of multiply-adds, on each core
LARGEST_BUFFER: Final = 2**28  # bytes
CLOCK_READINGS: Final = 10_000
ON_ONE_CORE: Final = "serial"  # the executors that limits are measured on
ON_SEVERAL: Final = "threads"


def measure_peaks(core_counts: Iterable[int], repetitions: int) -> dict[str, Any]:
    """Measure the limits on each number of cores, in this process, which is pinned for it.

    Returns:
        "data" ("random"), "buffer_bytes", "threading_layer" (Numba's; None if one core was all), "clock_seconds" (of
        one reading), and "cores": for each number of cores, as a string, the rates of every repetition:
        "multiply_add_float32" and "multiply_add_float64" in floating-point operations a second (two for a
        multiply-add), "read", "write", "stream" (a write past the caches) and "copy" in bytes a second (a copy counts
        what is read and what is written).
    """
    cpus = machine.allowed_cpus()
    size = _buffer_bytes()
    shape = (1, 1, size // CHUNK // 4, CHUNK)
    buffers = _buffers(shape, nodes_of(cpus))
    found = {}
    for cores in sorted(set(core_counts)):
        pin(cpus[:cores])
        calls = _calls(cores, buffers)
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for call, _ in calls.values():
            call()
        for _ in range(repetitions):
            for name, (call, amount) in calls.items():
                begin = time.perf_counter()
                call()
                rates[name].append(amount / (time.perf_counter() - begin))
        found[str(cores)] = rates
    pin(cpus)
    return {
        "data": "random",
        "buffer_bytes": size,
        "threading_layer": threading_layer(),
        "clock_seconds": clock_seconds(),
        "cores": found,
    }


def _buffers(shape: tuple[int, ...], nodes: Nodes = ()) -> list[NDArray[np.float32]]:
    """A buffer to read and a buffer to write, full of random numbers, and placed as a sweep's arrays are."""
    buffers = [private_empty(shape, "float32") for _ in range(2)]
    for buffer in buffers:
        place(buffer, nodes)
    np.random.default_rng(SEED).standard_normal(dtype=np.float32, out=buffers[0])
    buffers[1][...] = buffers[0]
    return buffers


def clock_seconds() -> float:
    """Seconds of one reading of the clock that times samples."""
    return min(timeit.repeat(perf_counter, repeat=5, number=CLOCK_READINGS)) / CLOCK_READINGS


def _calls(cores: int, buffers: list[Any]) -> dict[str, tuple[Callable[[], None], float]]:
    """For each rate, what to call, and the operations or bytes of a call."""
    calls: dict[str, tuple[Callable[[], None], float]] = {}
    executor = EXECUTORS[ON_ONE_CORE if cores == 1 else ON_SEVERAL]
    for dtype in ("float32", "float64"):
        small = private_empty((1, 1, 1, CHUNK), dtype)
        units = UNITS * cores
        call = _opened(executor, "multiply_add", dtype, units, cores, small, small)
        calls[f"multiply_add_{dtype}"] = (
            call,
            2.0 * units * ROUNDS * CHAINS * instruction_set().lanes(dtype),
        )
    for kind, moves in TRAFFIC.items():
        call = _opened(executor, kind, "float32", buffers[0].shape[2], cores, *buffers)
        calls[kind] = (call, float(moves * buffers[0].nbytes))
    return calls


def calibration_kernel() -> Callable[[], None]:
    """A fixed piece of work on one core, a millisecond of multiply-adds, whose time shows when the machine drifts.

    No executor runs it, so that changes of executors leave it as it is.
    """
    work = make_work("multiply_add", "float32", UNITS // 10)
    small = private_empty((1, 1, 1, CHUNK), "float32")
    [phase] = work.phases
    tile, scratch, clock = (
        phase.tile.load("float32"),
        private_empty((CHUNK,), "float32"),
        private_empty((STAGES,), "int64"),
    )
    return lambda: tile(small, work.weights, small, phase.parameters, scratch, scratch, clock, 0, phase.units)


def _opened(executor: Any, kind: str, dtype: str, units: int, cores: int, x: Any, out: Any) -> Callable[[], None]:
    runner = executor.open(make_work(kind, dtype, units), cores)
    return lambda: runner(x, out)


def _buffer_bytes() -> int:
    """Twice the largest cache, between limits: a smaller buffer might be served from the cache."""
    cache = max((level["bytes"] for level in machine.caches()), default=0)
    fitting = psutil.virtual_memory().available // 8
    return max(4 * CHUNK, min(max(2 * cache, LARGEST_BUFFER // 4), LARGEST_BUFFER, fitting) // (4 * CHUNK) * 4 * CHUNK)
