"""Functions that Numba compiles, with their machine code cached on disk where that is possible."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numba


def cached(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit` with a cache on disk, or without one where no folder for it can be written."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            _warn()
            return numba.njit(**options)(function)

    return decorate


@cache
def _warn() -> None:
    """Say once what Numba does not: the remedy."""
    warnings.warn(
        "machine code cannot be kept on disk, so that every process compiles it for seconds or minutes; set "
        "NUMBA_CACHE_DIR to a folder that may be written",
        RuntimeWarning,
        stacklevel=3,
    )
