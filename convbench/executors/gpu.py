"""An NVIDIA GPU through CuPy.

Calls return when their work is queued, as everywhere in CuPy. Times are those of CUDA events in the same queue.
"""

from __future__ import annotations

import itertools
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from convbench.cuda import SOURCES
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.errors import RequestError, UnavailableError
from convbench.runtime.loading import load

EVICTION_BYTES: Final = 2**28  # more than the second-level cache of any GPU
VECTOR_BYTES: Final = 16  # of a kernel's write
WAIT: Final = SOURCES / "wait.cu"
CYCLES: Final = 3e9  # of a second, more than the clock of any GPU has
HEAD_START: Final = 1e-4  # seconds by which a kernel delays calls while the host queues them, at least ...
LONGEST_HEAD_START: Final = 0.02  # ... and at most
FORKED: Final = "CUDA does not outlive a fork; start the process afresh, as multiprocessing does with 'spawn'"
TOGETHER: Final = 128  # calls that are queued at once, few enough that the queue has room for all their kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convbench.cuda.launch import GpuWork
    from convbench.executors import Runner
    from convbench.precision import Precision


class Gpu:
    """Runs work on the first GPU that CuPy sees."""

    backend = "gpu"
    scales = False
    memory = "gpu"
    _pid = 0  # of the process that used the GPU first
    _queueing = 0.0  # seconds in which the host queued a call, the last time

    def available(self) -> str | None:
        """Why no GPU can be used, and the remedy; None where one can."""
        try:
            cupy = load("cupy")
        except ModuleNotFoundError:
            return "CuPy is not installed; pip install 'convbench[gpu]'"
        except ImportError as error:  # a CuPy for another CUDA, or half of one
            return f"CuPy cannot be loaded ({_first_line(error)}); install the one for this machine's CUDA"
        if self.lost():
            return FORKED
        try:
            gpus = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"CuPy finds no usable GPU ({_first_line(error)}); install an NVIDIA driver that fits CuPy's CUDA"
        self._pid = os.getpid()
        return None if gpus else "there is no NVIDIA GPU"

    def lost(self) -> bool:
        """Whether another process used the GPU first, and this one was forked from it."""
        return self._pid not in (0, os.getpid())

    def module(self) -> Any:
        """CuPy."""
        import cupy

        return cupy

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """An array in the GPU's memory, of undefined content."""
        return self.module().empty(shape, dtype)  # type: ignore[no-any-return]

    def input(self, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        """A C-contiguous array of a dtype, as kernels read it; a copy where it is not one."""
        return self.module().ascontiguousarray(array, dtype)  # type: ignore[no-any-return]

    def upload(self, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Copy to the GPU's memory, and wait until the copy is there."""
        into.set(array)  # type: ignore[attr-defined]  # CuPy's
        self.module().cuda.Device().synchronize()

    def download(self, array: NDArray[Any], into: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy to the host's memory."""
        return array.get(out=into)  # type: ignore[attr-defined, no-any-return]  # CuPy's

    def unsupported_precision(self, precision: Precision) -> str | None:
        """Tensor cores compute some precisions, which earlier GPUs lack."""
        if (known := GPU_PRECISIONS.get(precision.name)) is None:
            return f"no GPU form computes in {precision.name}"
        if int(self.module().cuda.Device().compute_capability) >= known.capability:
            return None
        return f"{precision.name} needs a GPU of compute capability {known.capability / 10:.1f} or more"

    def evict(self) -> Callable[[], object]:
        """Make a function that queues a kernel which fills the GPU's caches with other data.

        The kernel reads: data that it wrote would be written back while the next call runs.
        """
        buffer, largest = self.empty((EVICTION_BYTES // 4,), "float32"), self.empty((), "float32")
        buffer.fill(1)
        return lambda: buffer.max(out=largest)

    def seconds(self, call: Callable[[], object], loops: int) -> float:
        """Seconds on the GPU from the begin of the first of `loops` calls to the end of the last.

        The host queues calls while a kernel keeps the GPU busy, so that the GPU never idles between calls because the
        host is slower.
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
        """Queue a kernel that takes at least so many seconds and touches no memory."""
        seconds = min(LONGEST_HEAD_START, max(HEAD_START, seconds))
        self._wait((1,), (1,), (int(seconds * CYCLES),))

    @cached_property
    def _wait(self) -> Any:
        return self.module().RawKernel(WAIT.read_text(encoding="utf-8"), "wait", options=("--std=c++17",))

    def usable(self) -> bool:
        """Whether the GPU still computes for this process: some errors, such as a wild address, end that for good."""
        cuda = self.module().cuda
        try:
            cuda.Device().synchronize()
        except cuda.runtime.CUDARuntimeError:
            return False
        return True

    def open(self, work: GpuWork, cores: int) -> Runner:  # noqa: ARG002
        """Compile the kernels for the GPU at hand, and send the weights."""
        return GpuRunner(work, self)


class GpuRunner:
    """Queues the kernels on the calling thread's current stream."""

    pids = ()
    clock = None

    def __init__(self, work: GpuWork, gpu: Gpu) -> None:
        begin, cupy = time.perf_counter(), gpu.module()
        dtype = work.dtype.name
        self._launches, self._dtype = work.launches, dtype
        self._kernels = [
            cupy.RawKernel(launch.code, launch.name, options=launch.options(dtype)) for launch in work.launches
        ]
        for kernel in self._kernels:
            kernel.compile()
        compiled = time.perf_counter()
        self._weights = cupy.asarray(work.weights)
        self._scratch_size = max(1, work.scratch_size)
        self._gpu, self._cuda = gpu, cupy.cuda
        cupy.cuda.Device().synchronize()
        self.setup = {"compile": compiled - begin, "start": time.perf_counter() - compiled}

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Queue the kernels that fill `out`; both arrays lie on the GPU."""
        if out.data.ptr % VECTOR_BYTES:  # type: ignore[attr-defined]  # CuPy's
            raise RequestError(f"out begins between multiples of {VECTOR_BYTES} bytes; give an array of its own")
        if self._gpu.lost():
            raise UnavailableError(FORKED)
        scratch = self._new_scratch()
        for place in range(len(self._launches)):
            self._launch(place, x, out, scratch)

    def _new_scratch(self) -> NDArray[Any]:
        """Scratch for one call; CuPy's pool reuses it in later calls of the same stream, never in another one."""
        return self._gpu.empty((self._scratch_size,), self._dtype)

    def _launch(self, place: int, x: NDArray[Any], out: NDArray[Any], scratch: NDArray[Any]) -> None:
        launch = self._launches[place]
        self._kernels[place]((launch.blocks,), (launch.threads,), (x, self._weights, out, scratch))

    def shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """The share of each launch in a call's time, from a call of its own: events between launches cost time."""
        if len(self._launches) == 1:
            return [1.0]
        events = [self._cuda.Event() for _ in range(len(self._launches) + 1)]
        scratch = self._new_scratch()
        self._gpu.hold_up()
        events[0].record()
        for place, event in enumerate(events[1:]):
            self._launch(place, x, out, scratch)
            event.record()
        events[-1].synchronize()
        parts = [self._cuda.get_elapsed_time(begin, end) for begin, end in itertools.pairwise(events)]
        return [part / sum(parts) for part in parts]

    def threads(self) -> int:
        """One, of the host."""
        return 1

    def close(self) -> None:
        """Give back the weights."""
        self._weights = None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


GPU = Gpu()
