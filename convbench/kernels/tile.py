"""The interface between algorithms and executors: tiles, phases and work.

An algorithm turns a problem and its weights into `Work`: packed weights and an ordered list of **phases** with a
barrier between them. A phase is a **tile** and a number of independent units. A tile is a compiled function of a fixed
signature that computes the phase's units [first, last) and writes nothing else. An executor takes the work and assigns
units to workers. Algorithms and executors do not depend on each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numba
import numpy as np
import numpy.ma  # the first call of what Numba compiled would import it, with nothing to protect that
from numba import types
from numba.core.runtime import rtsys
from numba.extending import intrinsic
from numpy.typing import NDArray

from convbench.errors import UnavailableError
from convbench.kernels.cached import cached
from convbench.kernels.clock import STAGES
from convbench.rounding import Errors
from convbench.runtime.loading import load, run_to_completion
from convbench.runtime.sources import digest

MADE_OF: Final = ("kernels", "algorithms")
"""Folders with the sources that tiles are compiled from."""

jit = cached(nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
"""Decorator for tiles and the functions they call: GIL released, compiled code cached on disk, a * b + c fused."""

inlined = numba.njit(inline="always")
"""Decorator for parts of tiles that take literals: they are inlined into the caller."""


@dataclass(frozen=True)
class FunctionName:
    """Import path of a plain function, for other processes.

    Attributes:
        module: Name of the module.
        name: Name of the function in the module.
    """

    module: str
    name: str

    def __call__(self) -> None:
        """Import the function and call it."""
        getattr(load(self.module), self.name)()


@dataclass(frozen=True)
class TileName:
    """Import path of a tile, for other processes.

    Attributes:
        module: Name of the module.
        name: Name in the module of the tile, or of the function that makes it.
        arguments: Arguments of that function; None where `name` is the tile itself.
    """

    module: str
    name: str
    arguments: tuple[int | str, ...] | None = None

    def load(self, dtype: str) -> Callable[..., None]:
        """The tile, compiled for `dtype` (or read from the cache on disk).

        Raises:
            UnavailableError: The operating system refuses a resource, such as another open file.
        """
        try:
            return _COMPILED.get((self, dtype)) or run_to_completion(_compiled, self, dtype)
        except OSError as error:
            raise UnavailableError(f"{self.module} cannot be loaded ({error.strerror or error})") from None

    def make(self) -> Any:
        """The tile, not compiled yet.

        A symbol of cached machine code consists of its name and the number of functions that its process had compiled.
        With one name for all variants, a process that loads two variants, compiled by different processes, could call
        the wrong one. Numba invalidates its cache when the tile's own file changes; the digest covers the files it
        imports.
        """
        found = getattr(importlib.import_module(self.module), self.name)
        dispatcher = found if self.arguments is None else found(*self.arguments)
        variant = "-".join((*_short(self.arguments or ()), digest(*MADE_OF)))
        if not dispatcher.py_func.__qualname__.endswith(variant):
            dispatcher.py_func.__qualname__ += f"-{variant}"
            with contextlib.suppress(RuntimeError):  # where no folder can be written, see `cached`
                dispatcher.enable_caching()
        _guard(dispatcher)
        return dispatcher


@dataclass(frozen=True)
class Phase:
    """A tile and its number of units; a phase begins when all units of the previous phase are complete.

    Attributes:
        tile: The compiled function `tile(x, weights, out, parameters, workspace, scratch, clock, first, last)`.
        units: Number of units; any split of [0, units) into ranges gives the same result.
        parameters: The tile's parameters, int64, 1-D; see `fields`.
        stages: Names of the stages whose ticks the tile counts, in the order of their indices in `clock`; see `lap`.
        together: Maximum number of adjacent units that a worker takes at a time, where a tile then reads less.
    """

    tile: TileName
    units: int
    parameters: NDArray[np.int64]
    stages: tuple[str, ...] = ()
    together: int = 1


@dataclass(frozen=True)
class Work:
    """The work that an executor runs.

    Attributes:
        phases: The phases in their order, with a barrier between them.
        weights: Weights as packed for the tiles, and other constants such as biases; 1-D, of the problem's dtype.
        scratch_size: Elements of the problem's dtype that each worker needs as private scratch. A worker may get a few
            more. No output may depend on what is in scratch when a tile is called; executors make it zero before a
            worker's first tile, so that unused lanes of vectors compute with no left-overs.
        workspace_size: Elements that all workers of a call share; phases use them to pass data to later phases. The
            content is undefined when a call begins.
        errors: Rounding errors of the outputs; None if unknown.
        variant: Choices made for the problem (tile, blocks, ...), for records.
        set_up: A function without arguments to be called in every process that computes, before its first tile; for
            instance one that requests access to matrix units from the system. Executors call `set_up_process`.
        is_short: Whether one core computes a call in about the time in which several could begin and end it together.
    """

    phases: tuple[Phase, ...]
    weights: NDArray[Any]
    scratch_size: int = 0
    workspace_size: int = 0
    errors: Errors | None = None
    variant: Mapping[str, str | int] = field(default_factory=dict)
    set_up: FunctionName | None = None
    is_short: bool = False

    def __post_init__(self) -> None:
        if len(self.stages) > STAGES:
            raise ValueError(f"{len(self.stages)} stages are more than the {STAGES} that can be told apart")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights, output, scratch and workspace."""
        return self.weights.dtype

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages of all phases, in the order of their indices in a worker's clock."""
        return tuple(name for phase in self.phases for name in phase.stages)

    @property
    def first_stages(self) -> tuple[int, ...]:
        """Index of each phase's first stage in a worker's clock."""
        counts = [len(phase.stages) for phase in self.phases[:-1]]
        return tuple(itertools.accumulate(counts, initial=0))

    def set_up_process(self) -> None:
        """Call `set_up`, unless this very process has: a forked child is another one than its parent."""
        if self.set_up is not None and self.set_up not in _SET_UP:
            self.set_up()
            _SET_UP.add(self.set_up)


_SET_UP: Final[set[FunctionName]] = set()
"""What this process has been set up by."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SET_UP.clear)


def signature(dtype: str) -> Any:
    """The signature of every tile: `x` and `out` are 4-D and C-contiguous, all other arrays are 1-D."""
    return types.void(*arguments(dtype))


def arguments(dtype: str) -> tuple[Any, ...]:
    """Numba's types of a tile's arguments, in their order."""
    real, integers = getattr(types, dtype), types.int64[::1]
    array, vector = real[:, :, :, ::1], real[::1]
    return (
        *(array, vector, array),  # x, weights, out
        integers,  # parameters
        *(vector, vector),  # workspace, scratch
        integers,  # clock
        *(types.int64, types.int64),  # first, last
    )


# These loops replace slice assignment, which is as fast but adds 2 s of compiling its error messages.


@intrinsic
def borrowed(typing_context, array):  # type: ignore[no-untyped-def]
    """The same array without a reference count.

    Numba counts a reference, by an atomic instruction, wherever an array or a tuple of arrays is passed on; views of a
    borrowed array cost nothing. The array must outlive them, as a tile's arguments do.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        for field_name in ("meminfo", "parent"):
            setattr(view, field_name, getattr(view, field_name).type(None))
        return view._getvalue()  # noqa: SLF001  # as Numba's own intrinsics do

    return array(array), generate


@jit
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy the first `target.size` elements of `source` to `target`; both are 1-D and do not overlap."""
    for i in range(target.size):
        target[i] = source[i]


@jit
def clear(target):  # type: ignore[no-untyped-def]
    """Set all elements of `target`, 1-D, to zero."""
    for i in range(target.size):
        target[i] = 0


_COMPILED: Final[dict[tuple[TileName, str], Callable[..., None]]] = {}
"""Every tile that this process has loaded; kept for the life of the process, since Numba never frees machine code."""


def _compiled(tile: TileName, dtype: str) -> Callable[..., None]:
    if (tile, dtype) in _COMPILED:  # compiled meanwhile by another thread
        return _COMPILED[tile, dtype]
    dispatcher = tile.make()
    compile_for(dispatcher, signature(dtype))
    return _COMPILED.setdefault((tile, dtype), dispatcher)


def _short(arguments: tuple[int | str, ...]) -> list[str]:
    """The arguments as parts of a file's name; those of a tile that has a tile inside would be too long."""
    if not any(isinstance(argument, str) for argument in arguments):
        return [str(argument) for argument in arguments]
    return [hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]]


def _guard(dispatcher: Any) -> None:
    """Make the cache on disk a convenience: what cannot be read or written there is compiled, or kept in memory."""
    cache = dispatcher._cache  # noqa: SLF001  # a private name of Numba's, as those in `_read`
    names = ("load_overload", "save_overload", "_load_overload", "_guard_against_spurious_io_errors")
    if all(hasattr(cache, name) for name in names) and not isinstance(cache.load_overload, partial):
        cache.load_overload, cache.save_overload = partial(_read, cache), partial(_write, cache.save_overload)


def compile_for(dispatcher: Any, needed: Any) -> None:
    """Compile a function for a signature, or read it from the cache on disk; it takes no other signature then."""
    _guard(dispatcher)
    dispatcher.disable_compile(False)  # noqa: FBT003
    dispatcher.compile(needed)
    dispatcher.disable_compile()  # executors copy arrays of other types, so that no other signature is needed


def _read(cache: Any, needed: Any, context: Any) -> Any:
    """Machine code from the cache on disk; None where it is not there, or damaged.

    This is Numba's `load_overload` without its first step, `context.refresh()`: it imports and registers all that Numba
    can compile, SciPy's linear algebra among it, which takes a quarter of a process's time to its first result. Machine
    code that is read needs none of it but the runtime's symbols; whatever is compiled, by whomever, refreshes first.
    """
    rtsys.initialize(context)
    with cache._guard_against_spurious_io_errors():  # noqa: SLF001  # which leads to None
        try:
            return cache._load_overload(needed, context)  # noqa: SLF001
        except (OSError, MemoryError):
            raise
        except Exception:  # noqa: BLE001  # a file that was cut off, as where the disk was full, breaks in any way
            cache.flush()
    return None


def _write(save: Callable[[Any, Any], None], needed: Any, compiled: Any) -> None:
    """Write machine code to the cache on disk; where it cannot be written, it holds for this process alone."""
    with contextlib.suppress(OSError):
        save(needed, compiled)
