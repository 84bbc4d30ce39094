"""What this machine can do at most: multiply-adds and memory traffic, on one core and on several.

The limits are measured by tiles on the very executors that convolutions run on. Every rate is taken several times, in
turns, so that what the machine does meanwhile hits all of them alike; the best is the limit, and how far the others
fall short of it tells how steady the machine was.

What is computed on, read and written is as random as a convolution's data. Some processors write zeros several times as
fast as anything else, and arithmetic on numbers of few bits takes less power, which leaves a higher clock.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import psutil
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from pyperf import perf_counter

from convbench import machine
from convbench.executors import EXECUTORS
from convbench.executors.memory import private_empty
from convbench.kernels.clock import STAGES
from convbench.kernels.copying import copy_vectors, stream
from convbench.kernels.tile import Phase, TileName, Work, copy, jit
from convbench.kernels.vector import Vectors, fence, index, instruction_set
from convbench.measure.affinity import pin, threading_layer
from convbench.measure.placement import Nodes, nodes_of, place

CHAINS: Final = 12  # of multiply-adds that do not wait for one another: more than latency times units of any processor
ROUNDS: Final = 20_000  # multiply-adds of a chain in a unit
UNITS: Final = 200  # of multiply-adds, on each core
CHUNK: Final = 2**16  # numbers in a unit of memory traffic
ROW: Final = 2**12  # random numbers that are written again and again: few enough for the first-level cache
SHRINK: Final = 1e-4  # a factor is -1 and at most so much nearer to 0: a unit's chains neither grow nor vanish
SEED: Final = 11  # the calibration must be the same work in every process
LARGEST_BUFFER: Final = 2**28  # bytes
CLOCK_READINGS: Final = 10_000
TRAFFIC: Final = {"read": 1, "write": 1, "stream": 1, "copy": 2}  # kind: how often a byte of the buffer moves


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
    """What is read and what is written, both full of random numbers, and placed as a sweep's arrays are."""
    buffers = [private_empty(shape, "float32") for _ in range(2)]
    for buffer in buffers:
        place(buffer, nodes)
    np.random.default_rng(SEED).standard_normal(dtype=np.float32, out=buffers[0])
    buffers[1][...] = buffers[0]
    return buffers


def clock_seconds() -> float:
    """Seconds that one reading of the clock takes that samples are timed with."""
    return min(timeit.repeat(perf_counter, repeat=5, number=CLOCK_READINGS)) / CLOCK_READINGS


def _calls(cores: int, buffers: list[Any]) -> dict[str, tuple[Callable[[], None], float]]:
    """What to call for each rate, and how many operations or bytes a call is."""
    calls: dict[str, tuple[Callable[[], None], float]] = {}
    executor = EXECUTORS["threads" if cores > 1 else "serial"]
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
    """A small fixed piece of work on one core, a millisecond of multiply-adds, to see the machine drift by.

    No executor runs it, so that it is the same whatever becomes of them.
    """
    work = _work("multiply_add", "float32", UNITS // 10)
    small = private_empty((1, 1, 1, CHUNK), "float32")
    [phase] = work.phases
    tile, scratch, clock = (
        phase.tile.load("float32"),
        private_empty((CHUNK,), "float32"),
        private_empty((STAGES,), "int64"),
    )
    return lambda: tile(small, work.weights, small, phase.parameters, scratch, scratch, clock, 0, phase.units)


def _opened(executor: Any, kind: str, dtype: str, units: int, cores: int, x: Any, out: Any) -> Callable[[], None]:
    runner = executor.open(_work(kind, dtype, units), cores)
    return lambda: runner(x, out)


def _work(kind: str, dtype: str, units: int) -> Work:
    """So many units of one kind of work: its weights are what chains begin with, or what is written."""
    lanes = instruction_set().lanes(dtype)
    random = _chain_data(lanes) if KINDS[kind] == MULTIPLY_ADD else np.random.default_rng(SEED).standard_normal(ROW)
    weights = private_empty(random.shape, dtype)
    weights[...] = random
    return Work(
        phases=(Phase(TileName(__name__, "make_tile", (KINDS[kind], lanes)), units, np.zeros(1, np.int64)),),
        weights=weights,
        scratch_size=CHUNK,
    )


def _chain_data(lanes: int) -> NDArray[np.float64]:
    """A vector for each chain to begin with, one of addends, and one of factors, shape ((CHAINS + 2) * lanes,).

    A factor f is a little above -1, so that s -> f s + a goes back and forth between about s and a - s: after ROUNDS
    steps, its distance from the fixed point a / (1 - f) has shrunk to (1 - SHRINK) ** ROUNDS = 0.14 of what it was at
    most. So operands change from step to step, and none overflows, vanishes or becomes denormal.
    """
    random = np.random.default_rng(SEED)
    begins_and_addends = random.standard_normal((CHAINS + 1) * lanes)
    return np.concatenate([begins_and_addends, SHRINK * random.random(lanes) - 1])


def _buffer_bytes() -> int:
    """Twice the largest cache, within reason: less than that might be served from it."""
    cache = max((level["bytes"] for level in machine.caches()), default=0)
    fitting = psutil.virtual_memory().available // 8
    return max(4 * CHUNK, min(max(2 * cache, LARGEST_BUFFER // 4), LARGEST_BUFFER, fitting) // (4 * CHUNK) * 4 * CHUNK)


@intrinsic(prefer_literal=True)
def multiply_adds(typing_context, lanes, rounds, numbers):  # type: ignore[no-untyped-def]
    """Run chains of multiply-adds of whole vectors in registers; the sums go where they came from."""
    width = lanes.literal_value

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, numbers.dtype, width)
        data = emit.data(signature.args[2], arguments[2])
        addend, factor = (emit.load(emit.at(data, place * width)) for place in (CHAINS, CHAINS + 1))
        begins = [emit.at(data, chain * width) for chain in range(CHAINS)]
        sums = [cgutils.alloca_once_value(builder, emit.load(begin)) for begin in begins]
        with cgutils.for_range(builder, arguments[1]):
            for place in sums:
                builder.store(emit.multiply_add(builder.load(place), factor, addend), place)
        for begin, place in zip(begins, sums, strict=True):
            emit.store(builder.load(place), begin)
        return context.get_dummy_value()

    return types.void(lanes, types.int64, numbers), generate


@intrinsic(prefer_literal=True)
def add_up(typing_context, lanes, source, source_begin, count, sums):  # type: ignore[no-untyped-def]
    """Read `count` neighbours of a 1-D array, a multiple of CHAINS vectors, and leave sums of them in `sums`."""
    width = lanes.literal_value
    integer = types.int64

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, source.dtype, width)
        read = emit.at(emit.data(signature.args[1], arguments[1]), arguments[2])
        target = emit.data(signature.args[4], arguments[4])
        places = [cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(8)]
        step = index(width * len(places))
        with cgutils.for_range_slice(builder, index(0), arguments[3], step, inc=True) as (place, _):
            for number, total in enumerate(places):
                value = emit.load(emit.at(read, place, number * width))
                builder.store(builder.fadd(builder.load(total), value), total)
        for number, total in enumerate(places):
            emit.store(builder.load(total), emit.at(target, number * width))
        return context.get_dummy_value()

    return types.void(lanes, source, integer, integer, sums), generate


MULTIPLY_ADD, READ, WRITE, STREAM, COPY = range(5)
KINDS: Final = {"multiply_add": MULTIPLY_ADD, "read": READ, "write": WRITE, "stream": STREAM, "copy": COPY}


def make_tile(kind: int, lanes: int) -> Any:
    """The tile for one kind of work; a unit is ROUNDS of every chain, from their beginning, or CHUNK numbers.

    The kind is a number that is known when the tile is compiled, and the branches of the others fall away. Had the tile
    another function for a closure instead, no process would find it on disk.
    """

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        flat_x, flat_out = x.reshape(x.size), out.reshape(out.size)
        for unit in range(first, last):
            if kind == MULTIPLY_ADD:
                copy(weights, scratch[: weights.size])
                multiply_adds(lanes, ROUNDS, scratch)
            elif kind == READ:
                add_up(lanes, flat_x, unit * CHUNK, CHUNK, scratch)
            elif kind == STREAM:
                for begin in range(unit * CHUNK, (unit + 1) * CHUNK, ROW):
                    stream(lanes, weights, 0, flat_out, begin, ROW)
            else:
                for begin in range(unit * CHUNK, (unit + 1) * CHUNK, 8 * lanes):
                    if kind == COPY:
                        copy_vectors(8, lanes, flat_x, begin, flat_out, begin)
                    else:
                        copy_vectors(8, lanes, weights, begin % ROW, flat_out, begin)
        fence()

    return tile
