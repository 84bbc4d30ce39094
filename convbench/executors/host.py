"""The base class of executors on the host: their arrays are NumPy arrays, used in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from convbench.precision import Precision


class Host:
    """An executor on the host."""

    backend = "numba"
    distributes = False
    launched = False

    def unsupported_precision(self, precision: Precision) -> str | None:  # noqa: ARG002
        """Supports every precision that a form has tiles for."""
        return None

    def module(self) -> Any:
        """NumPy."""
        return np

    def input(self, array: Any, dtype: DTypeLike) -> NDArray[Any]:
        """See `readable`."""
        return readable(array, dtype)

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy on the host."""
        into[...] = array

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """The array itself, or `into` after copying to it."""
        if into is None:
            return array
        into[...] = array
        return into


def readable(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Convert an array to C order, a dtype, native byte order and alignment, as tiles need; copies only if necessary.

    A read-only array is not copied for that reason alone, since no tile writes to its input.
    """
    flags = array.flags
    if array.dtype != dtype or not (flags.carray or (flags.c_contiguous and flags.aligned)):
        return np.array(array, dtype, order="C")
    return array if flags.writeable else np.asarray(_Writeable(array))


class _Writeable:
    """An array's memory presented as writeable: for Numba, read-only arrays have a different type."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # keeps the memory alive
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
