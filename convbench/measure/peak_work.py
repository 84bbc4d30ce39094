"""The kinds of work that limits are measured by: a tile each, on data as random as a convolution's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from convbench.executors.memory import private_empty
from convbench.kernels.copying import copy_vectors, stream
from convbench.kernels.tile import Phase, TileName, Work, copy, jit
from convbench.kernels.vector import Vectors, fence, index, instruction_set
from convbench.kernels.vector_code import Array, Constant, vector_code

CHAINS: Final = 12  # independent multiply-adds: more than latency times units of any processor
ROUNDS: Final = 20_000  # multiply-adds of a chain in a unit
CHUNK: Final = 2**16  # numbers in a unit of memory traffic
ROW: Final = 2**12  # random numbers that are written repeatedly: few enough for the first-level cache
SHRINK: Final = 1e-4  # a factor is -1 and at most so much nearer to 0: a unit's chains neither grow nor vanish
SEED: Final = 11  # the calibration must be the same work in every process
TRAFFIC: Final = {"read": 1, "write": 1, "stream": 1, "copy": 2}  # kind: how often a byte of the buffer moves


def make_work(kind: str, dtype: str, units: int) -> Work:
    """So many units of one of `KINDS`."""
    lanes = instruction_set().lanes(dtype)
    random = KINDS[kind].data(lanes)
    weights = private_empty(random.shape, dtype)
    weights[...] = random
    return Work(
        phases=(Phase(TileName(__name__, KINDS[kind].make_tile.__name__, (lanes,)), units, np.zeros(1, np.int64)),),
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


def _row(_lanes: int) -> NDArray[np.float64]:
    """Random normal numbers, shape (ROW,)."""
    return np.random.default_rng(SEED).standard_normal(ROW)


@vector_code
def multiply_adds(emit: Vectors, lanes: Constant, rounds: ir.Value, numbers: Array) -> None:
    """Run chains of multiply-adds of whole vectors in registers; the sums go where they came from."""
    builder = emit.builder
    addend, factor = (emit.load(emit.at(numbers.data, place * lanes)) for place in (CHAINS, CHAINS + 1))
    begins = [emit.at(numbers.data, chain * lanes) for chain in range(CHAINS)]
    sums = [cgutils.alloca_once_value(builder, emit.load(begin)) for begin in begins]
    with cgutils.for_range(builder, rounds):
        for place in sums:
            builder.store(emit.multiply_add(builder.load(place), factor, addend), place)
    for begin, place in zip(begins, sums, strict=True):
        emit.store(builder.load(place), begin)


@vector_code
def add_up(emit: Vectors, lanes: Constant, source: Array, source_begin: ir.Value, count: ir.Value, sums: Array) -> None:
    """Read `count` neighbours of an array, a multiple of 8 vectors, and leave their sums by lane in `sums`."""
    builder, read = emit.builder, emit.at(source.data, source_begin)
    places = [cgutils.alloca_once_value(builder, emit.constant(0.0)) for _ in range(8)]
    step = index(lanes * len(places))
    with cgutils.for_range_slice(builder, index(0), count, step, inc=True) as (place, _):
        for number, total in enumerate(places):
            value = emit.load(emit.at(read, place, number * lanes))
            builder.store(builder.fadd(builder.load(total), value), total)
    for number, total in enumerate(places):
        emit.store(builder.load(total), emit.at(sums.data, number * lanes))


# A function for each tile: a process finds machine code on disk by a function's name and arguments, and would not if a
# tile closed over another function.


def make_multiply_add_tile(lanes: int) -> Any:
    """A unit is ROUNDS of every chain, from what `weights` holds."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        for _ in range(first, last):
            copy(weights, scratch[: weights.size])
            multiply_adds(lanes, ROUNDS, scratch)
        fence()

    return tile


def make_read_tile(lanes: int) -> Any:
    """A unit is CHUNK numbers of `x`."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        source = x.reshape(x.size)
        for unit in range(first, last):
            add_up(lanes, source, unit * CHUNK, CHUNK, scratch)
        fence()

    return tile


def make_write_tile(lanes: int) -> Any:
    """A unit is CHUNK numbers of `out`, filled with rows of `weights` by ordinary stores."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        target = out.reshape(out.size)
        for unit in range(first, last):
            for begin in range(unit * CHUNK, (unit + 1) * CHUNK, 8 * lanes):
                copy_vectors(8, lanes, weights, begin % ROW, target, begin)
        fence()

    return tile


def make_stream_tile(lanes: int) -> Any:
    """A unit is CHUNK numbers of `out`, filled with rows of `weights` by stores past the caches."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        target = out.reshape(out.size)
        for unit in range(first, last):
            for begin in range(unit * CHUNK, (unit + 1) * CHUNK, ROW):
                stream(lanes, weights, 0, target, begin, ROW)
        fence()

    return tile


def make_copy_tile(lanes: int) -> Any:
    """A unit is CHUNK numbers, copied from `x` to `out` by ordinary stores."""

    @jit
    def tile(x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
        source, target = x.reshape(x.size), out.reshape(out.size)
        for unit in range(first, last):
            for begin in range(unit * CHUNK, (unit + 1) * CHUNK, 8 * lanes):
                copy_vectors(8, lanes, source, begin, target, begin)
        fence()

    return tile


@dataclass(frozen=True)
class Kind:
    """A kind of work whose rate is measured.

    Attributes:
        make_tile: Makes its tile for vectors of so many lanes.
        data: What its weights hold, for so many lanes: what chains begin with, or what is written.
    """

    make_tile: Callable[[int], Any]
    data: Callable[[int], NDArray[np.float64]]


KINDS: Final = {
    "multiply_add": Kind(make_multiply_add_tile, _chain_data),
    "read": Kind(make_read_tile, _row),
    "write": Kind(make_write_tile, _row),
    "stream": Kind(make_stream_tile, _row),
    "copy": Kind(make_copy_tile, _row),
}
