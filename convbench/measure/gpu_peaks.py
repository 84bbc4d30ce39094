"""A GPU's limits: the highest rates of multiply-adds, and of traffic with its memories.

Like the cores' limits (see `peaks`), they are measured on the executor that convolutions run on, in turns, by the same
clock as convolutions there, and on random data, since switching bits costs power and so clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from convbench.cuda import SOURCES
from convbench.cuda.launch import GpuWork, Launch
from convbench.executors import GpuExecutor, gpu_executor
from convbench.machine import gpu

SOURCE: Final = SOURCES / "peaks.cu"
THREADS: Final = 256  # of a block
WAVES: Final = 16  # blocks for each multiprocessor
CHAINS: Final = 8  # as in the source
ROUNDS: Final = 2**14  # multiply-adds of a chain
BURST: Final = 8  # vectors that a thread moves at a time, as in the source
VECTOR_BYTES: Final = 16
SHARED_ROUNDS: Final = 2**13
TILE_BYTES: Final = THREADS * BURST * VECTOR_BYTES
LARGEST_BUFFER: Final = 2**32  # bytes: a millisecond of traffic where memory is fast
FREE_SHARE: Final = 8  # a buffer takes an eighth of what is free
BEYOND_L2: Final = 4  # times the second-level cache, or a buffer might be served from it
SHRINK: Final = 1e-4  # a factor is -1 and at most so much nearer to 0, see `weights`
SECONDS: Final = 0.02  # of a repetition, at least

Call = tuple[Callable[[], object], float]


def measure_gpu_peaks(repetitions: int) -> dict[str, Any]:
    """Measure the limits of the GPU that the gpu executor runs on.

    Returns:
        "rates": every repetition's of "multiply_add_float32" and "multiply_add_float64" in floating-point operations a
        second, and of "read", "write", "copy" (memory) and "shared" (reading what a block's threads share) in bytes a
        second; "data" ("random"); "buffer_bytes"; and "reason", in one line, where some of them could not be measured.
    """
    executor = cast("GpuExecutor", gpu_executor("gpu"))
    if (unsupported_reason := executor.available()) is not None:
        return {"rates": {}, "reason": unsupported_reason}
    reasons: list[str] = []
    calls: dict[str, Call] = {}
    size = 0
    try:
        size = _buffer_bytes(executor)
        calls = _traffic(executor, size)
    except Exception as error:  # noqa: BLE001  # whatever CuPy raises, the rest goes on
        reasons.append(_line(error))
    try:
        calls = {**_arithmetic(executor), **calls}
    except Exception as error:  # noqa: BLE001
        reasons.append(_line(error))
    rates: dict[str, list[float]] = {name: [] for name in calls}
    try:
        loops = {name: _loops(executor, call) for name, (call, _) in calls.items()}
        for _ in range(repetitions):
            for name, (call, amount) in calls.items():
                rates[name].append(amount * loops[name] / executor.seconds(call, loops[name]))
    except Exception as error:  # noqa: BLE001
        reasons.append(_line(error))
    rates = {name: several for name, several in rates.items() if several}
    found: dict[str, Any] = {"data": "random", "rates": rates, "buffer_bytes": size}
    return {**found, "reason": "; ".join(dict.fromkeys(reasons))} if reasons else found


def launch(kernel: str, multiprocessors: int, *, tiles: int = 1) -> Launch:
    """One of the source's kernels for a GPU of so many multiprocessors and a buffer of so many tiles."""
    macros = {
        "THREADS": THREADS,
        "GRID": WAVES * multiprocessors,
        "ROUNDS": ROUNDS,
        "SHARED_ROUNDS": SHARED_ROUNDS,
        "TILES": tiles,
    }
    return Launch((SOURCE,), kernel, tuple(macros.items()), WAVES * multiprocessors, THREADS, kernel)


def weights(dtype: str) -> NDArray[Any]:
    """Random numbers for chains to begin with, addends and factors, shape ((CHAINS + 2) * THREADS,), as in the source.

    A chain s -> factor * s + addend goes back and forth between about s and addend - s: after ROUNDS steps, its
    distance from its fixed point has shrunk to (1 - SHRINK) ** ROUNDS = 0.19 of what it was at most. So operands change
    from step to step, and none overflows, vanishes or becomes denormal.
    """
    random = np.random.default_rng(0)
    begins_and_addends = random.standard_normal((CHAINS + 1) * THREADS)
    return np.concatenate([begins_and_addends, SHRINK * random.random(THREADS) - 1]).astype(dtype)


def _arithmetic(executor: GpuExecutor) -> dict[str, Call]:
    """Work inside the multiprocessors."""
    multiprocessors = _multiprocessors()
    threads = THREADS * WAVES * multiprocessors
    calls: dict[str, Call] = {}
    for dtype in ("float32", "float64"):
        out = executor.empty((threads,), dtype)
        calls[f"multiply_add_{dtype}"] = (
            _opened(executor, launch("multiply_add", multiprocessors), dtype, out, out),
            2.0 * threads * CHAINS * ROUNDS,
        )
    out = executor.empty((threads,), "float32")
    calls["shared"] = (
        _opened(executor, launch("read_shared", multiprocessors), "float32", out, out),
        float(threads * SHARED_ROUNDS * BURST * VECTOR_BYTES),
    )
    return calls


def _traffic(executor: GpuExecutor, size: int) -> dict[str, Call]:
    """Traffic with the GPU's memory; a copy counts what it reads and what it writes."""
    buffers = [executor.empty((size // 4,), "float32") for _ in range(2)]
    multiprocessors = _multiprocessors()
    for buffer in buffers:
        fill = launch("fill_memory", multiprocessors, tiles=size // TILE_BYTES)
        _opened(executor, fill, "float32", buffer, buffer)()
    calls: dict[str, Call] = {}
    for kind, moves in {"read": 1, "write": 1, "copy": 2}.items():
        work = launch(f"{kind}_memory", multiprocessors, tiles=size // TILE_BYTES)
        calls[kind] = (_opened(executor, work, "float32", *buffers), float(moves * size))
    return calls


def _opened(executor: GpuExecutor, work: Launch, dtype: str, x: Any, out: Any) -> Callable[[], object]:
    runner = executor.open(GpuWork((work,), weights(dtype)), 1)
    return partial(runner, x, out)


def _multiprocessors() -> int:
    found = gpu.describe()
    return int(found["multiprocessors"]) if found else 1


def _buffer_bytes(executor: GpuExecutor) -> int:
    """Bytes of a buffer: a share of the free memory, up to `LARGEST_BUFFER`.

    Raises:
        MemoryError: That is not well beyond the second-level cache.
    """
    free, _ = executor.module().cuda.runtime.memGetInfo()
    size = min(LARGEST_BUFFER, free // FREE_SHARE) // TILE_BYTES * TILE_BYTES
    cache = (gpu.describe() or {}).get("l2_bytes", 0)
    sums = 4 * THREADS * WAVES * _multiprocessors()  # bytes that reading writes
    if size < max(TILE_BYTES, sums, BEYOND_L2 * cache):
        raise MemoryError(f"only {free / 2**20:.0f} MiB of the device's memory are free, too few to tell it from cache")
    return int(size)


def _loops(executor: GpuExecutor, call: Callable[[], object]) -> int:
    """How many calls make a repetition, after two that compile, touch memory and raise the clocks."""
    executor.seconds(call, 1)
    return max(1, math.ceil(SECONDS / max(executor.seconds(call, 1), 1e-6)))


def _line(error: Exception) -> str:
    """What went wrong, in one line."""
    of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # CuPy's
    kind = "out of device memory" if of_memory else type(error).__name__
    return f"{kind}: {' '.join(str(error).split())}"
