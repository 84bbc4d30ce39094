"""The seam between algorithms and executors: a tile, and the work that it does.

An algorithm turns a problem and its weights into `Work`: a number of independent units, and a **tile**, the compiled
function that fills the output's units [first, last) and touches nothing else. An executor takes the work and decides
who fills which units. Neither knows the other.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from convbench.errors import UnavailableError
from convbench.kernels.clock import STAGES
from convbench.problem import Problem
from convbench.rounding import Errors
from convbench.runtime.loading import run_to_completion
from convbench.runtime.sources import digest

MADE_OF: Final = ("kernels", "algorithms")
"""The sources of machine code of tiles."""

jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
"""Decorator for tiles and what they call: no GIL, compiled code kept on disk, a * b + c fused."""

inlined = numba.njit(inline="always")
"""Decorator for parts of tiles to which literals are passed: they become part of the caller."""


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
class Work:
    """What an executor runs.

    Attributes:
        tile: The compiled function `tile(x, weights, out, parameters, scratch, clock, first, last)`.
        units: How many work units there are; any split of [0, units) into ranges gives the same output.
        weights: Packed as the tile wants them, 1-D, of the problem's dtype.
        parameters: int64, 1-D, whatever else the tile needs to know.
        scratch_size: Elements of the problem's dtype that one worker needs for itself. It may get a few more, and they
            are zero at first.
        errors: How far rounding can take its outputs; None if that is not known.
        stages: Names of the stages whose time the tile counts, in the order of their places in `clock`, see `lap`.
    """

    tile: TileName
    units: int
    weights: NDArray[Any]
    parameters: NDArray[np.int64]
    scratch_size: int = 0
    errors: Errors | None = None
    stages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.stages) > STAGES:
            raise ValueError(f"{len(self.stages)} stages are more than the {STAGES} that can be told apart")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of input, weights, output and scratch."""
        return self.weights.dtype


def signature(dtype: str) -> Any:
    """The one signature that every tile has: `x` and `out` are 4-D and C-contiguous, the rest is 1-D."""
    real, integers = getattr(types, dtype), types.int64[::1]
    array, vector = real[:, :, :, ::1], real[::1]
    return types.void(array, vector, array, integers, vector, integers, types.int64, types.int64)


# To assign to a slice is as fast, but Numba would compile the text of its error messages with it, for seconds.


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


GEOMETRY = 9
"""How many parameters `geometry` gives."""


def geometry(problem: Problem) -> NDArray[np.int64]:
    """The parameters that any forward tile starts from; `unpack` reads them in the tile."""
    (top, _), (left, _) = problem.padding
    return np.array(
        [
            problem.groups,
            problem.kernel_height,
            problem.kernel_width,
            *problem.stride,
            *problem.dilation,
            top,
            left,
        ],
        np.int64,
    )


@jit
def unpack(parameters):  # type: ignore[no-untyped-def]
    """What `geometry` packed.

    Returns:
        (groups, kernel rows, kernel columns, vertical stride, horizontal stride, vertical dilation, horizontal
        dilation, top padding, left padding).
    """
    return (
        parameters[0],
        parameters[1],
        parameters[2],
        parameters[3],
        parameters[4],
        parameters[5],
        parameters[6],
        parameters[7],
        parameters[8],
    )


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
