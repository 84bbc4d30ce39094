"""An NVIDIA GPU through CuPy.

As everywhere in CuPy, calls return when their work is queued. What is timed is timed by CUDA events in the same queue.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench.clock import STAGES
from convbench.errors import RequestError

TF32_CAPABILITY: Final = 80  # compute capability 8.0, Ampere: the first with such products
EVICTION_BYTES: Final = 2**28  # more than the second-level cache of any GPU
VECTOR_BYTES: Final = 16  # that kernels write at once
MOST_PENDING: Final = 1024  # calls whose events are kept until somebody asks how long their stages took

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

    def tf32_flavour(self) -> str | None:
        """What runs on tensor cores that take TF32, which Ampere and later cards have."""
        can = int(self.module().cuda.Device().compute_capability) >= TF32_CAPABILITY
        return "cupy-tf32" if can else None

    def evict(self) -> Callable[[], None]:
        """Make what fills the device's caches with something else; whatever is queued next finds it done."""
        buffer = self.empty((EVICTION_BYTES,), "uint8")
        return lambda: buffer.fill(0)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds of so many calls in a row, from the first one's begin on the device to the last one's end there."""
        cuda = self.module().cuda
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        for _ in range(loops):
            call()
        end.record()
        end.synchronize()
        return float(cuda.get_elapsed_time(begin, end)) / 1e3

    def open(self, work: DeviceWork, cores: int) -> Runner:  # noqa: ARG002
        """Compile the kernels for the card at hand, and send it the weights."""
        return GpuRunner(work, self.module())


class GpuRunner:
    """Queues the kernels; CUDA events between them tell how long each took."""

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
        self._cuda = cupy.cuda
        self._idle: list[list[Any]] = []  # events that may be recorded again
        self._pending: list[list[Any]] = []  # those of calls whose times nobody has asked for yet
        self._clock = np.zeros((1, STAGES), np.int64)
        cupy.cuda.Device().synchronize()
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out`; both lie on the device. The call returns when the kernels are queued."""
        if out.data.ptr % VECTOR_BYTES:  # type: ignore[attr-defined]  # CuPy's
            raise RequestError(f"out begins between multiples of {VECTOR_BYTES} bytes; give an array of its own")
        if len(self._pending) == MOST_PENDING:
            self._settle()
        events = self._idle.pop() if self._idle else [self._cuda.Event() for _ in range(len(self._launches) + 1)]
        events[0].record()
        for kernel, launch, event in zip(self._kernels, self._launches, events[1:], strict=True):
            kernel((launch.blocks,), (launch.threads,), (x, self._weights, out, self._scratch))
            event.record()
        self._pending.append(events)

    @property
    def clock(self) -> NDArray[np.int64]:
        """Nanoseconds of each launch, of all calls so far; waits for the last of them."""
        self._settle()
        return self._clock

    def _settle(self) -> None:
        for events in self._pending:
            events[-1].synchronize()
            for stage, (begin, end) in enumerate(itertools.pairwise(events)):
                self._clock[0, stage] += round(self._cuda.get_elapsed_time(begin, end) * 1e6)
        self._idle += self._pending
        self._pending = []

    def threads(self) -> int:
        """One, of the host."""
        return 1

    def close(self) -> None:
        """Give back weights and scratch."""
        self._weights = self._scratch = None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


GPU = Gpu()
