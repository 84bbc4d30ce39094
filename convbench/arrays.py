"""Arrays of callers, of whatever library, as NumPy or CuPy arrays; without a copy where the library allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

DLPACK_CUDA: Final = 2  # DLPack's device type kDLCUDA
REAL: Final = "fiub"  # NumPy's kinds of dtypes that hold real numbers


def on_gpu(value: Any) -> bool:
    """Whether an array lies on a GPU."""
    if type(value) is np.ndarray:
        return False
    try:
        if hasattr(value, "__cuda_array_interface__"):
            return True
    except RuntimeError:  # PyTorch raises it for a tensor on a GPU that has gradients
        return True
    try:
        return bool(value.__dlpack_device__()[0] == DLPACK_CUDA)
    except Exception:  # noqa: BLE001  # no DLPack, or a device without a DLPack type
        return False


def on_host(name: str, value: Any) -> Any:
    """The array itself, or a copy on the host if it lies on a GPU.

    Raises:
        UnavailableError: The array lies on a GPU that cannot be used.
    """
    if not on_gpu(value):
        return value
    gpu = EXECUTORS["gpu"]
    if (reason := gpu.available()) is not None:
        raise UnavailableError(f"{name} lies on a GPU, and {reason}")
    return gpu.download(as_array(name, value, gpu.module()))


def as_array(name: str, value: Any, arrays: Any = np) -> NDArray[Any]:
    """A NumPy or CuPy array of real numbers from any kind of array.

    Args:
        name: Name of the argument for errors.
        value: A NumPy or CuPy array, an object with `__array__`, CuPy's interface or DLPack, or a nested list.
        arrays: The module numpy or cupy.

    Raises:
        RequestError: The value cannot be converted to an array, or does not hold real numbers.
        UnavailableError: There is not enough memory.
    """
    array = value if type(value) is arrays.ndarray else _converted(name, value, arrays)
    if array.dtype.kind not in REAL:
        raise RequestError(f"{name} holds {array.dtype}; give real numbers")
    return array


def _converted(name: str, value: Any, arrays: Any) -> NDArray[Any]:
    if hasattr(value, "filled"):
        raise RequestError(f"{name} is a masked array; give it filled, as in {name}.filled(0)")
    native = isinstance(value, arrays.ndarray) or (arrays is np and hasattr(value, "__array__"))
    try:
        # on a GPU by DLPack, since that waits for what the other library has queued in a stream of its own
        foreign = hasattr(value, "__dlpack__") and not native and (arrays is np or on_gpu(value))
        return arrays.from_dlpack(value) if foreign else arrays.asarray(value)  # type: ignore[no-any-return]
    except MemoryError:
        raise UnavailableError(f"there is no memory to read {name} as an array") from None
    except Exception as error:  # noqa: BLE001  # conversions of foreign arrays raise errors of any type
        words = str(error).strip().partition("\n")[0]
        raise RequestError(f"{name} cannot be read as an array ({words or type(error).__name__})") from None
