"""An NVIDIA GPU through CuPy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.clock import STAGES

EVICTION_BYTES: Final = 2**28  # more than the second-level cache of any GPU

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convbench.device import DeviceWork
    from convbench.executors import Runner


class Gpu:
    """Runs work on the first GPU that CuPy sees."""

    flavour = "cupy"
    scales = False
    memory = "device"

    def available(self) -> str | None:
        """Why there is no GPU to use."""
        try:
            import cupy
        except ModuleNotFoundError:
            return "CuPy is not installed; pip install 'convbench[gpu]'"
        except ImportError as error:  # a CuPy for another CUDA, or half of one
            return f"CuPy cannot be loaded ({_first_line(error)}); install the one for this machine's CUDA"
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"CuPy finds no usable GPU ({_first_line(error)}); install an NVIDIA driver that fits CuPy's CUDA"
        return None if devices else "there is no NVIDIA GPU"

    def module(self) -> Any:
        """CuPy's."""
        import cupy

        return cupy

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Device memory."""
        return self.module().empty(shape, dtype)  # type: ignore[no-any-return]

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy into the device's memory."""
        into.set(array)  # type: ignore[attr-defined]  # CuPy's
        self.module().cuda.Device().synchronize()

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy into the host's memory."""
        return array.get(out=into)  # type: ignore[attr-defined, no-any-return]  # CuPy's

    def evict(self) -> Callable[[], None]:
        """Make what fills the device's caches with something else."""
        buffer = self.empty((EVICTION_BYTES,), "uint8")

        def fill() -> None:
            buffer.fill(0)
            self.module().cuda.Device().synchronize()

        return fill

    def open(self, work: DeviceWork, cores: int) -> Runner:  # noqa: ARG002
        """Compile the kernels for the card at hand, and send it the weights."""
        return GpuRunner(work, self.module())


class GpuRunner:
    """Launches the kernels and waits for the last; CUDA events between them tell how long each took."""

    pids = ()
    tick = 1e-9

    def __init__(self, work: DeviceWork, cupy: Any) -> None:
        begin = time.perf_counter()
        dtype = work.dtype.name
        self._launches = work.launches
        self._kernels = [
            cupy.RawKernel(launch.code, launch.name, options=launch.options(dtype)) for launch in work.launches
        ]
        for kernel in self._kernels:
            kernel.compile()
        compiled = time.perf_counter()
        self._weights = cupy.asarray(work.weights)
        self._scratch = cupy.empty((max(1, work.scratch_size),), dtype)
        self._events = [cupy.cuda.Event() for _ in range(len(work.launches) + 1)]
        self._elapsed = cupy.cuda.get_elapsed_time
        cupy.cuda.Device().synchronize()
        self.clock = np.zeros((1, STAGES), np.int64)
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`; both lie on the device, and the call ends when the last kernel has."""
        self._events[0].record()
        for kernel, launch, event in zip(self._kernels, self._launches, self._events[1:], strict=True):
            kernel((launch.blocks,), (launch.threads,), (x, self._weights, out, self._scratch))
            event.record()
        self._events[-1].synchronize()
        for stage in range(len(self._launches)):
            milliseconds = self._elapsed(self._events[stage], self._events[stage + 1])
            self.clock[0, stage] += round(milliseconds * 1e6)

    def threads(self) -> int:
        """One, of the host."""
        return 1

    def close(self) -> None:
        """Give back weights and scratch."""
        self._weights = self._scratch = None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


GPU = Gpu()
