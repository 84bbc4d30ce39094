"""What executors on the host have in common: their arrays are NumPy's, and lie where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.precision import Precision


class Host:
    """An executor whose arrays are the host's."""

    backend = "numba"

    def unsupported_precision(self, precision: Precision) -> str | None:  # noqa: ARG002
        """Whatever a form has tiles for."""
        return None

    def module(self) -> Any:
        """NumPy's."""
        return np

    def input(self, array: Any, dtype: str) -> NDArray[Any]:
        """As tiles read it."""
        return readable(array, dtype)

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy."""
        into[...] = array

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """It is there already; copied only where `into` says where to."""
        if into is None:
            return array
        into[...] = array
        return into


def readable(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """An array as tiles read it: C-contiguous, aligned, of a dtype and the machine's byte order, copied if it is not.

    What is only marked read-only is not copied, since no tile writes to its input.
    """
    if array.dtype != dtype or not (array.flags.c_contiguous and array.flags.aligned):
        return np.array(array, dtype, order="C")
    return array if array.flags.writeable else np.asarray(_Unmarked(array))


class _Unmarked:
    """An array's memory without the mark that it is read-only, which compiled code takes for another type."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # kept as long as the memory is looked at
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
