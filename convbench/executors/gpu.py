"""An NVIDIA GPU through CuPy.

Calls return once their work is queued, as is usual in CuPy. Times are measured by CUDA events in the same stream.
"""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from convbench.cuda import SOURCES
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.errors import RequestError, first_line
from convbench.executors.gpu_runner import FORKED, GpuRunner, InFlight
from convbench.runtime.loading import load

EVICTION_BYTES: Final = 2**28  # larger than the L2 cache of any GPU
WAIT: Final = SOURCES / "wait.cu"
CYCLES: Final = 3e9  # upper bound of a GPU's clock, in Hz
HEAD_START: Final = 1e-4  # minimum seconds for which a kernel delays calls while the host queues them
LONGEST_HEAD_START: Final = 0.02  # maximum of the same
UNINITIALIZED: Final = "cudaErrorInitializationError"
TOGETHER: Final = 128  # maximum number of calls that are queued at once, bounded by the capacity of the queue

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import DTypeLike, NDArray

    from convbench.cuda.launch import GpuWork
    from convbench.executors import Runner
    from convbench.precision import Precision


class Gpu:
    """Runs work on the first GPU that CuPy sees."""

    backend = "gpu"
    scales = False
    memory = "gpu"
    distributes = False
    launched = False
    _pid = 0  # the process that used the GPU first
    _has_compiler = False  # known once it was found
    _queueing = 0.0  # seconds that the host took to queue a call, last time

    def __init__(self) -> None:
        """Nothing is in flight."""
        self.in_flight = InFlight()

    def available(self) -> str | None:
        """Why no GPU can be used, and the remedy; None if one can."""
        try:
            cupy = load("cupy")
        except ModuleNotFoundError:
            return "CuPy is not installed; pip install 'convbench[gpu]', or [gpu-cuda13]"
        except ImportError as error:  # CuPy for another CUDA version, or a partial installation
            return f"CuPy cannot be loaded ({first_line(error)}); install the one for this machine's CUDA"
        if self.lost():
            return FORKED
        try:
            gpus = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if UNINITIALIZED in str(error):  # also where a parent process had used it through another library
                return f"CUDA cannot be initialized; install an NVIDIA driver, or, in a forked process: {FORKED}"
            return f"CuPy finds no usable GPU ({first_line(error)}); install an NVIDIA driver that fits CuPy's CUDA"
        self._pid = os.getpid()
        return self._no_compiler(cupy) if gpus else "there is no NVIDIA GPU"

    def _no_compiler(self, cupy: Any) -> str | None:
        """Why kernels cannot be compiled; None if they can."""
        if not self._has_compiler:
            try:
                cupy.cuda.nvrtc.getVersion()
            except RuntimeError as error:
                return f"CuPy finds no compiler of CUDA's ({first_line(error)}); pip install 'convbench[gpu]' anew"
            self._has_compiler = True
        return None

    def lost(self) -> bool:
        """Whether this process was forked from one that had used the GPU."""
        return self._pid not in (0, os.getpid())

    def module(self) -> Any:
        """CuPy."""
        import cupy

        return cupy

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array in the GPU's memory, of undefined content."""
        return self.module().empty(shape, dtype)  # type: ignore[no-any-return]

    def input(self, array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """Convert an array to C order and a dtype, copying only if necessary.

        Raises:
            RequestError: It is on a GPU that is not the current one.
        """
        cupy = self.module()
        place, current = array.data.device_id, cupy.cuda.runtime.getDevice()  # type: ignore[attr-defined]
        if place != current:
            raise RequestError(f"x is on GPU {place}, and the current one is GPU {current}; use Device({place})")
        read: NDArray[Any] = cupy.ascontiguousarray(array, dtype)
        if read is not array:
            self.in_flight.keep(cupy.cuda, array)  # the copy is queued
        return read

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy to the GPU's memory, and wait for completion."""
        into.set(array)  # type: ignore[attr-defined]  # a CuPy array
        self.wait()

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy to the host's memory."""
        return array.get(out=into)  # type: ignore[attr-defined, no-any-return]  # a CuPy array

    def unsupported_precision(self, precision: Precision) -> str | None:
        """Some precisions need tensor cores, which older GPUs lack."""
        if (known := GPU_PRECISIONS.get(precision.name)) is None:
            return f"no GPU form computes in {precision.name}"
        if int(self.module().cuda.Device().compute_capability) >= known.capability:
            return None
        return f"{precision.name} needs a GPU of compute capability {known.capability / 10:.1f} or more"

    def evict(self) -> Callable[[], object]:
        """Make a function that queues a kernel which evicts the GPU's caches.

        The kernel only reads: data that it wrote would be written back during the next call.
        """
        buffer, largest = self.empty((EVICTION_BYTES // 4,), "float32"), self.empty((), "float32")
        buffer.fill(1)
        return lambda: buffer.max(out=largest)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds on the GPU from the beginning of the first of `loops` calls to the end of the last.

        A preceding kernel keeps the GPU busy while the host queues the calls, so that the GPU does not wait for the
        host between calls.
        """
        whole, rest = divmod(loops, TOGETHER)
        return sum(self._queued(call, count) for count in [TOGETHER] * whole + [rest] * (rest > 0))

    def _queued(self, call: Callable[[], object], count: int) -> float:
        cuda = self.module().cuda
        begin, end = cuda.Event(), cuda.Event()
        self.hold_up(2 * count * self._queueing)
        since = time.perf_counter()
        begin.record()
        for _ in range(count):
            call()
        end.record()
        self._queueing = (time.perf_counter() - since) / count
        end.synchronize()
        return float(cuda.get_elapsed_time(begin, end)) / 1e3

    def hold_up(self, seconds: float = 0.0) -> None:
        """Queue a kernel that takes at least `seconds` (limited to the range of head starts) and accesses no memory."""
        seconds = min(LONGEST_HEAD_START, max(HEAD_START, seconds))
        self._wait((1,), (1,), (int(seconds * CYCLES),))

    @cached_property
    def _wait(self) -> Any:
        return self.module().RawKernel(WAIT.read_text(encoding="utf-8"), "wait", options=("--std=c++17",))

    def usable(self) -> bool:
        """Whether this process can still use the GPU; some errors, such as an invalid address, are permanent."""
        cuda = self.module().cuda
        try:
            cuda.Device().synchronize()
        except cuda.runtime.CUDARuntimeError:
            return False
        return True

    def device_of(self, worker: int) -> int:
        """Workers take the GPUs of a machine in turns."""
        return worker % int(self.module().cuda.runtime.getDeviceCount())

    def device(self, worker: int) -> AbstractContextManager[object]:
        """See `GpuExecutor`."""
        return self.module().cuda.Device(self.device_of(worker))  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Wait for the current GPU."""
        self.module().cuda.Device().synchronize()
        self.in_flight.purge()

    def open(self, work: GpuWork, cores: int) -> Runner:  # noqa: ARG002
        """Compile the kernels for the current GPU, and copy the weights to it."""
        return GpuRunner(work, self)


GPU = Gpu()
