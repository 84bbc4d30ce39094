"""The two compiled loops that run tiles: one for a single worker, one for Numba's thread pool.

Each worker has a share of the units, one after the other, the same ones in every call: what it wrote to or read from
before is in its own caches, and no two workers write side by side. It claims its units one at a time, or as many as a
phase says together, and when none is left those of the others, so that these take over the share of a delayed worker.
Both loops take the address of a tile's machine code, so that they are compiled once for all tiles and cached on disk. A
tile as a closure variable would require compiling the loops for each tile in every process. For a tile as a first-class
function, Numba would run Python code in every call to find its address, and an exception of a signal handler there
would be lost.
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
from convbench.kernels.cached import cached
from convbench.kernels.clock import STAGES
from convbench.kernels.tile import Phase, Work, arguments, compile_for, inlined, jit, signature
from convbench.runtime.loading import run_to_completion

_CACHE_LINE = 64
COUNTER: Final = (
    _CACHE_LINE // 8
)  # numbers, int64, from one counter of units to the next; Numba's cache follows this file
GRAINS: Final = 4  # minimum number of sets that are claimed together in a share, for it to begin with a whole one


@intrinsic
def fetch_add(typing_context, counter, step):  # type: ignore[no-untyped-def]
    """Atomically add to counter[0] and return its previous value; atomic among threads and among processes."""

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
    """Address of a tile's machine code for a dtype; see `TileName.load`.

    The tile may be compiled for other dtypes as well. The caller must keep it alive while the address is in use.
    """
    compiled = tile.overloads[tuple(signature(dtype).args)]
    return int(run_to_completion(compiled.library.get_pointer_to_function, compiled.fndesc.llvm_func_name))


class PhaseFields(NamedTuple):
    """The description of a phase for the loops, a row of a table of int64.

    Attributes:
        tile: Address of the tile's machine code.
        units: Number of units.
        together: Maximum number of units to claim at a time.
        begin: Index of the phase's first parameter among those of all phases.
        end: Index after the phase's last parameter.
        first_stage: Index of the phase's first stage in a worker's clock.
    """

    tile: int
    units: int
    together: int
    begin: int
    end: int
    first_stage: int


@dataclass(frozen=True)
class Loaded:
    """The compiled phases of a work, in the representation of the loops.

    Attributes:
        tiles: The tiles, kept alive while their machine code may be called.
        table: A row of `PhaseFields` for each phase, int64.
        parameters: Concatenated parameters of all phases.
    """

    tiles: tuple[Any, ...]
    table: NDArray[np.int64]
    parameters: NDArray[np.int64]


def load_phases(phases: Sequence[Phase], first_stages: Sequence[int], dtype: str) -> Loaded:
    """Compile the tiles of phases, or read them from the cache on disk."""
    tiles = tuple(phase.tile.load(dtype) for phase in phases)
    ends = np.cumsum([phase.parameters.size for phase in phases])
    rows = [
        PhaseFields(address(tile, dtype), phase.units, phase.together, end - phase.parameters.size, end, first_stage)
        for tile, phase, end, first_stage in zip(tiles, phases, ends, first_stages, strict=True)
    ]
    return Loaded(tiles, np.array(rows, np.int64), np.concatenate([phase.parameters for phase in phases]))


PHASE_FIELDS: Final = len(PhaseFields._fields)


@inlined
def phase_fields(row):  # type: ignore[no-untyped-def]
    """The fields of a row of `Loaded.table`."""
    return PhaseFields(*to_fixed_tuple(row, PHASE_FIELDS))


@jit
def claim(row, x, weights, out, parameters, workspace, scratch, clock, counters, worker):  # type: ignore[no-untyped-def]
    """Claim and compute units of the phase of a row of the table until none is left, those of `worker` first.

    `counters` are those of the phase, see `new_counters`. Where units may be claimed together and others claim as well,
    at most half of those that are left of a share are: guided self-scheduling, by Polychronopoulos and Kuck, 1987.
    Large shares begin with the first of units that are claimed together.
    """
    phase, workers = phase_fields(row), counters.size // COUNTER
    grain = phase.together if phase.units >= GRAINS * workers * phase.together else 1
    grains = (phase.units + grain - 1) // grain
    own, own_clock = parameters[phase.begin : phase.end], clock[phase.first_stage :]
    for step in range(workers):
        share = (worker + step) % workers
        begin, end = share * grains // workers * grain, min(phase.units, (share + 1) * grains // workers * grain)
        while True:
            count = 1
            if phase.together > 1:  # of as many as are left, or more, if another worker claims some now
                count = max(1, min(phase.together, (end - begin - counters[share * COUNTER]) // min(workers, 2)))
            unit = begin + fetch_add(counters[share * COUNTER :], count)
            if unit >= end:
                break
            call_tile(phase.tile, x, weights, out, own, workspace, scratch, own_clock, unit, min(end, unit + count))


get_num_threads = types.ExternalFunction("get_num_threads", types.intp())  # of Numba's pool, declared as in Numba
set_num_threads = types.ExternalFunction("set_num_threads", types.void(types.intp))


@cached(parallel=True, nogil=True)
def claim_on_threads(  # type: ignore[no-untyped-def]
    table, x, weights, out, parameters, workspace, scratch, clock, counters, team
):
    """Run `claim` for each phase in turn on as many threads as `scratch` has rows.

    `team[row]` receives the number of the thread that ran a row. The end of a parallel loop is the barrier between
    phases.

    The number of threads is set and restored in compiled code: Numba's Python function for that takes a lock, which
    would stay locked if a signal handler raised in it.
    """
    before = get_num_threads()
    set_num_threads(scratch.shape[0])
    for phase in range(table.shape[0]):
        row, own = table[phase], counters[phase]
        for worker in numba.prange(scratch.shape[0]):
            team[worker] = numba.get_thread_id()
            claim(row, x, weights, out, parameters, workspace, scratch[worker], clock[worker], own, worker)
    set_num_threads(before)


_LOADED: Final[dict[tuple[str, str], Callable[..., None]]] = {}  # compiled loops by name and dtype


def compiled_claim(dtype: str) -> Callable[..., None]:
    """`claim` compiled for a dtype, or read from the cache on disk; serves all tiles without further compilation."""
    return _LOADED.get(("claim", dtype)) or run_to_completion(_compile_claim, dtype)


def compiled_claim_on_threads(dtype: str) -> Callable[..., None]:
    """`claim_on_threads` compiled for a dtype, likewise; Numba has then chosen a thread pool."""
    return _LOADED.get(("claim_on_threads", dtype)) or run_to_completion(_compile_claim_on_threads, dtype)


def _compile_claim(dtype: str) -> Callable[..., None]:
    integers = types.int64[::1]
    return _compiled(claim, dtype, integers, *arguments(dtype)[:-2], integers, types.int64)


def _compile_claim_on_threads(dtype: str) -> Callable[..., None]:
    numba.get_num_threads()
    compiled_claim(dtype)  # called by the loop, and not compiled automatically
    scratch, rows = getattr(types, dtype)[:, ::1], types.int64[:, ::1]
    shared = arguments(dtype)[:-4]  # the arguments of a tile that all workers share
    return _compiled(claim_on_threads, dtype, rows, *shared, scratch, rows, rows, types.int64[::1])


def _compiled(loop: Any, dtype: str, *arguments: types.Type) -> Callable[..., None]:
    if (loaded := _LOADED.get((loop.__name__, dtype))) is not None:  # compiled meanwhile by another thread
        return loaded
    compile_for(loop, types.void(*arguments))
    return _LOADED.setdefault((loop.__name__, dtype), loop)


def new_scratch(work: Work, workers: int) -> NDArray[Any]:
    """Scratch with one row for each worker, padded to whole cache lines to avoid false sharing.

    It is zero-initialised: tiles compute on unused lanes of vectors, and undefined content could be denormal numbers,
    on which processors are 100 times slower.
    """
    line = _CACHE_LINE // work.dtype.itemsize
    columns = max(line, round_up(work.scratch_size, line))
    scratch = private_empty((workers, columns), work.dtype.name)
    scratch.fill(0)
    return scratch


def new_clock(workers: int) -> NDArray[np.int64]:
    """Tick counts of stages, zero; one row, a cache line, for each worker."""
    clock = private_empty((workers, STAGES), "int64")
    clock.fill(0)
    return clock


def new_workspace(work: Work) -> NDArray[Any]:
    """The workspace of a call, in which phases pass data to later phases."""
    return private_empty((max(1, work.workspace_size),), work.dtype.name)


def new_counters(phases: int, workers: int) -> NDArray[np.int64]:
    """Counters from which units are claimed, a row for each phase, in it a cache line for each worker's share.

    They are to be zeroed before each call. Where all are set to the number of units, none is left.
    """
    counters = private_empty((phases, workers * COUNTER), "int64")
    counters.fill(0)
    return counters


def new_team(workers: int) -> NDArray[np.int64]:
    """Numbers of the threads that ran each row, -1 for none; in cache lines that nothing else is in."""
    team = private_empty((workers,), "int64")
    team.fill(-1)
    return team
