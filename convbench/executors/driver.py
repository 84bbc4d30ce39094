"""The two compiled loops that run tiles: one worker's, and Numba's thread pool of them.

Workers claim one unit after the other from a common counter, so that a worker that is held up leaves its share to the
others. Both loops take the address of the tile's machine code: they are compiled once for all tiles and kept on disk.
Had they a tile for a closure, each tile would compile them anew in every process. Were it one of Numba's first-class
functions, Numba would call Python in every call to find its address, and what a signal handler raises there is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray

from convbench.executors.memory import private_empty
from convbench.integers import round_up
from convbench.kernels.clock import STAGES
from convbench.kernels.tile import Phase, Work, arguments, inlined, jit, signature
from convbench.runtime.loading import run_to_completion

_CACHE_LINE = 64


@intrinsic
def fetch_add(typing_context, counter, step):  # type: ignore[no-untyped-def]
    """Add to counter[0] and return what it was, as one indivisible step for threads and processes alike."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, arguments[1], "monotonic")

    return types.int64(counter, types.int64), generate


@intrinsic
def call_tile(typing_context, address, x, weights, out, parameters, workspace, scratch, clock, first, last):  # type: ignore[no-untyped-def]
    """Call the tile at an address."""
    arguments_of_tile = arguments(x.dtype.name)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        convention = context.call_conv
        function_type = convention.get_function_type(types.void, arguments_of_tile)
        function = builder.inttoptr(arguments[0], function_type.as_pointer())
        status, _ = convention.call_function(builder, function, types.void, arguments_of_tile, arguments[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, *arguments_of_tile), generate


def address(tile: Any, dtype: str) -> int:
    """Where a tile's machine code for a dtype is, see `TileName.load`; keep the tile as long as it is called.

    It may be compiled for other dtypes too.
    """
    compiled = tile.overloads[tuple(signature(dtype).args)]
    return int(run_to_completion(compiled.library.get_pointer_to_function, compiled.fndesc.llvm_func_name))


class PhaseFields(NamedTuple):
    """What the loops know of a phase, as a row of a table of int64.

    Attributes:
        tile: Address of the tile's machine code.
        units: How many there are.
        begin: Index of the phase's first parameter among those of all phases.
        end: Index after its last one.
        first_stage: Place of its first stage in a worker's clock.
    """

    tile: int
    units: int
    begin: int
    end: int
    first_stage: int


@dataclass(frozen=True)
class Loaded:
    """The phases of a work, compiled, as the loops take them.

    Attributes:
        tiles: Kept as long as their machine code may be called.
        table: Shape (phases, fields of `PhaseFields`), int64.
        parameters: Of all phases, one behind the other.
    """

    tiles: tuple[Any, ...]
    table: NDArray[np.int64]
    parameters: NDArray[np.int64]


def load_phases(phases: Sequence[Phase], first_stages: Sequence[int], dtype: str) -> Loaded:
    """Compile the tiles of some phases (or read them from the cache on disk)."""
    tiles = tuple(phase.tile.load(dtype) for phase in phases)
    ends = np.cumsum([phase.parameters.size for phase in phases])
    rows = [
        PhaseFields(address(tile, dtype), phase.units, end - phase.parameters.size, end, first_stage)
        for tile, phase, end, first_stage in zip(tiles, phases, ends, first_stages, strict=True)
    ]
    return Loaded(tiles, np.array(rows, np.int64), np.concatenate([phase.parameters for phase in phases]))


PHASE_FIELDS: Final = len(PhaseFields._fields)


@inlined
def phase_fields(row):  # type: ignore[no-untyped-def]
    """The fields of a row of `Loaded.table`."""
    return PhaseFields(*to_fixed_tuple(row, PHASE_FIELDS))


@jit
def claim(row, x, weights, out, parameters, workspace, scratch, clock, counter):  # type: ignore[no-untyped-def]
    """Fill unit after unit of the phase in a row of the table until none is left."""
    phase = phase_fields(row)
    own, own_clock = parameters[phase.begin : phase.end], clock[phase.first_stage :]
    while True:
        unit = fetch_add(counter, 1)
        if unit >= phase.units:
            break
        call_tile(phase.tile, x, weights, out, own, workspace, scratch, own_clock, unit, unit + 1)


get_num_threads = types.ExternalFunction("get_num_threads", types.intp())  # of Numba's pool, as it declares them
set_num_threads = types.ExternalFunction("set_num_threads", types.void(types.intp))


@numba.njit(parallel=True, nogil=True, cache=True)
def claim_on_threads(  # type: ignore[no-untyped-def]
    table, x, weights, out, parameters, workspace, scratch, clock, counters, team
):
    """The same for one phase after the other on as many threads as `scratch` has rows.

    `team` gets the number of the thread that took each row. A parallel loop ends when all of its threads have come to
    its end, which is the barrier between phases.

    The number of threads is set here and set back: a signal handler that raises in Numba's own function for that, which
    takes a lock, leaves the lock taken.
    """
    before = get_num_threads()
    set_num_threads(scratch.shape[0])
    for phase in range(table.shape[0]):
        row, counter = table[phase], counters[phase]
        for worker in numba.prange(scratch.shape[0]):
            team[worker] = numba.get_thread_id()
            claim(row, x, weights, out, parameters, workspace, scratch[worker], clock[worker], counter)
    set_num_threads(before)


_LOADED: Final[dict[tuple[str, str], Callable[..., None]]] = {}  # loops by name and dtype


def compiled_claim(dtype: str) -> Callable[..., None]:
    """`claim` for a dtype, compiled (or read from the cache on disk); it compiles nothing later, whatever the tile."""
    return _LOADED.get(("claim", dtype)) or run_to_completion(_compile_claim, dtype)


def compiled_claim_on_threads(dtype: str) -> Callable[..., None]:
    """The same of `claim_on_threads`; Numba has found itself a thread pool then."""
    return _LOADED.get(("claim_on_threads", dtype)) or run_to_completion(_compile_claim_on_threads, dtype)


def _compile_claim(dtype: str) -> Callable[..., None]:
    integers = types.int64[::1]
    return _compiled(claim, dtype, integers, *arguments(dtype)[:-2], integers)


def _compile_claim_on_threads(dtype: str) -> Callable[..., None]:
    numba.get_num_threads()
    compiled_claim(dtype)  # which it calls, and which compiles nothing by itself
    scratch, rows = getattr(types, dtype)[:, ::1], types.int64[:, ::1]
    shared = arguments(dtype)[:-4]  # of a tile's arguments: those that all workers have in common
    return _compiled(claim_on_threads, dtype, rows, *shared, scratch, rows, rows, types.int64[::1])


def _compiled(loop: Any, dtype: str, *arguments: types.Type) -> Callable[..., None]:
    if (loaded := _LOADED.get((loop.__name__, dtype))) is not None:  # another thread wanted it, too
        return loaded
    loop.disable_compile(False)  # noqa: FBT003
    loop.compile(types.void(*arguments))
    loop.disable_compile()
    return _LOADED.setdefault((loop.__name__, dtype), loop)


def new_scratch(work: Work, workers: int) -> NDArray[Any]:
    """One row for each worker, on cache lines of its own.

    It is zero, for what a tile computes in the unused lanes of its vectors: left-overs there could be denormal numbers,
    on which processors are a hundred times as slow.
    """
    line = _CACHE_LINE // work.dtype.itemsize
    columns = max(line, round_up(work.scratch_size, line))
    scratch = private_empty((workers, columns), work.dtype.name)
    scratch.fill(0)
    return scratch


def new_clock(workers: int) -> NDArray[np.int64]:
    """Where each worker's tile counts the ticks of its stages, on a cache line of its own."""
    clock = private_empty((workers, STAGES), "int64")
    clock.fill(0)
    return clock


def new_workspace(work: Work) -> NDArray[Any]:
    """What the phases of a call pass on to one another."""
    return private_empty((max(1, work.workspace_size),), work.dtype.name)


def new_counters(phases: int) -> NDArray[np.int64]:
    """What workers claim units from, for each phase on a cache line of its own; they must be zero before each call."""
    return np.zeros((phases, _CACHE_LINE // 8), np.int64)
