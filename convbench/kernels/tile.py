"""The seam between algorithms and executors: tiles, and the work that they do.

An algorithm turns a problem and its weights into `Work`: packed weights and an ordered list of **phases** with a
barrier between them. A phase is a **tile**, a compiled function of one signature that fills the phase's units [first,
last) and touches nothing else, and how many independent units there are. An executor takes the work and decides who
fills which units. Neither knows the other.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from convbench.errors import UnavailableError
from convbench.kernels.clock import STAGES
from convbench.rounding import Errors
from convbench.runtime.loading import load, run_to_completion
from convbench.runtime.sources import digest

MADE_OF: Final = ("kernels", "algorithms")
"""The sources of machine code of tiles."""

jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
"""Decorator for tiles and what they call: no GIL, compiled code kept on disk, a * b + c fused."""

inlined = numba.njit(inline="always")
"""Decorator for parts of tiles to which literals are passed: they become part of the caller."""


@dataclass(frozen=True)
class FunctionName:
    """Where a plain function is found, so that another process can find it too.

    Attributes:
        module: Name of the module.
        name: Of the function there.
    """

    module: str
    name: str

    def __call__(self) -> None:
        """Import and call it."""
        getattr(load(self.module), self.name)()


@dataclass(frozen=True)
class TileName:
    """Where a tile is found, so that another process can find it too.

    Attributes:
        module: Name of the module.
        name: The tile there, or the function that makes it.
        arguments: What to call that function with; None where `name` is the tile itself.
    """

    module: str
    name: str
    arguments: tuple[int | str, ...] | None = None

    def load(self, dtype: str) -> Callable[..., None]:
        """The tile, compiled for `dtype` (or read from the cache on disk).

        Raises:
            UnavailableError: What the system needs for that is not to be had, such as another open file.
        """
        try:
            return _COMPILED.get((self, dtype)) or run_to_completion(_compiled, self, dtype)
        except OSError as error:
            raise UnavailableError(f"{self.module} cannot be loaded ({error.strerror or error})") from None


@dataclass(frozen=True)
class Phase:
    """A tile and how many units it fills; a phase begins when every unit of the one before is filled.

    Attributes:
        tile: The compiled function `tile(x, weights, out, parameters, workspace, scratch, clock, first, last)`.
        units: How many work units there are; any split of [0, units) into ranges gives the same result.
        parameters: int64, 1-D, whatever else the tile needs to know; see `fields`.
        stages: Names of the stages whose time the tile counts, in the order of their places in `clock`, see `lap`.
    """

    tile: TileName
    units: int
    parameters: NDArray[np.int64]
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What an executor runs.

    Attributes:
        phases: One after the other, with a barrier between them.
        weights: Packed as the tiles want them, 1-D, of the problem's dtype, with what else is constant, such as biases.
        scratch_size: Elements of the problem's dtype that one worker needs for itself. It may get a few more, and they
            are zero before the first call.
        workspace_size: Elements that all workers of a call share: what one phase writes there, the next ones read.
        errors: How far rounding can take its outputs; None if that is not known.
        variant: What was chosen for the problem (tile, blocks, ...), for records.
        set_up: A function without arguments to be called in every process that computes, before its first tile, such as
            one that asks the system for matrix units; executors have `set_up_process` call it.
    """

    phases: tuple[Phase, ...]
    weights: NDArray[Any]
    scratch_size: int = 0
    workspace_size: int = 0
    errors: Errors | None = None
    variant: Mapping[str, str | int] = field(default_factory=dict)
    set_up: FunctionName | None = None

    def __post_init__(self) -> None:
        if len(self.stages) > STAGES:
            raise ValueError(f"{len(self.stages)} stages are more than the {STAGES} that can be told apart")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights, output, scratch and workspace."""
        return self.weights.dtype

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages of all phases, in the order of their places in a worker's clock."""
        return tuple(name for phase in self.phases for name in phase.stages)

    @property
    def first_stages(self) -> tuple[int, ...]:
        """The place of each phase's first stage in a worker's clock."""
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
    """The one signature that every tile has: `x` and `out` are 4-D and C-contiguous, the rest is 1-D."""
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


# Slice assignment is as fast, but adds 2 s of compiling its error messages.


@jit
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy the first numbers of `source` to all of `target`; both are 1-D and do not overlap."""
    for i in range(target.size):
        target[i] = source[i]


@jit
def clear(target):  # type: ignore[no-untyped-def]
    """Make all numbers of `target`, 1-D, zero."""
    for i in range(target.size):
        target[i] = 0


_COMPILED: Final[dict[tuple[TileName, str], Callable[..., None]]] = {}
"""Every tile that this process has loaded; they stay as long as the process does, since Numba gives no code back."""


def _compiled(tile: TileName, dtype: str) -> Callable[..., None]:
    if (tile, dtype) in _COMPILED:  # another thread wanted it, too
        return _COMPILED[tile, dtype]
    found = getattr(importlib.import_module(tile.module), tile.name)
    dispatcher = found if tile.arguments is None else found(*tile.arguments)
    # Machine code on disk goes by this name and by how many functions its process had compiled. If all variants had one
    # name, a process that loads two which others have compiled could call one for the other. Numba looks whether the
    # tile's own file has changed; what the tile is made of has files of its own.
    variant = "-".join(map(str, (*(tile.arguments or ()), digest(*MADE_OF))))
    if not dispatcher.py_func.__qualname__.endswith(variant):
        dispatcher.py_func.__qualname__ += f"-{variant}"
        dispatcher.enable_caching()
    dispatcher.disable_compile(False)  # noqa: FBT003
    dispatcher.compile(signature(dtype))
    dispatcher.disable_compile()  # for other arrays than executors give: those are copied
    return _COMPILED.setdefault((tile, dtype), dispatcher)
