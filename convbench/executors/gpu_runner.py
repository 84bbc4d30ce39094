"""What a plan holds on a GPU, and how its kernels are queued."""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from convbench.cuda.module import LEAKED, compiled, raise_as_told
from convbench.cuda.streams import is_captured, queue_of
from convbench.errors import RequestError, UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.cuda.launch import GpuWork, Launch
    from convbench.cuda.module import Kernel
    from convbench.cuda.streams import Queue
    from convbench.executors.gpu import Gpu

VECTOR_BYTES: Final = 16  # bytes of a kernel's vector store
MOST_CALLS: Final = 64  # calls whose arrays of other libraries are in flight
MOST_BYTES: Final = 2**28  # bytes of these arrays, unless those of one call are more
FOREIGN: Final = frozenset({"DLPackMemory", "UnownedMemory"})  # CuPy's types of memory that others allocated
FORKED: Final = "CUDA does not outlive a fork; start the process afresh, as multiprocessing does with 'spawn'"


class InFlight:
    """Arrays of other libraries that queued work still reads or writes.

    A library gives the memory of an array that nobody references to its own next one, in the order of its own streams:
    it does not know what CuPy has queued in another. So an array is referenced here until an event behind that work is
    done, and let go of at a later call, or when the GPU is waited for. Those behind one that is not done wait for it. A
    caller who queues faster than the GPU computes waits where these arrays are many.
    """

    def __init__(self) -> None:
        self._entries: deque[tuple[Any, tuple[Any, ...]]] = deque()

    def keep(self, cuda: Any, *arrays: NDArray[Any]) -> None:
        """Hold those of the arrays that are another library's until all is done that the current stream has by now.

        A graph reads and writes them whenever it is launched: who captures it holds them.
        """
        found = tuple(array for array in arrays if is_foreign(array))
        if found and not is_captured(cuda.get_current_stream()):
            event = cuda.Event(disable_timing=True)
            event.record()
            self._entries.append((event, found))
            self._bound()

    def _bound(self) -> None:
        """Wait for the oldest until the others are few and small enough."""
        entries = self._entries.copy()
        size = sum(array.nbytes for _, arrays in entries for array in arrays)
        while len(entries) > 1 and (len(entries) > MOST_CALLS or size > MOST_BYTES):
            event, arrays = entries.popleft()
            size -= sum(array.nbytes for array in arrays)
            event.synchronize()
        self.purge()

    def purge(self) -> None:
        """Let go of what is done with; any thread may do so at any time."""
        if self._entries:
            with suppress(IndexError, ValueError):  # nothing is left, or another thread was faster
                while (oldest := self._entries[0])[0].done:
                    self._entries.remove(oldest)


def is_foreign(array: Any) -> bool:
    """Whether another library allocated a CuPy array's memory."""
    return type(array.data.mem).__name__ in FOREIGN


class Held:
    """The kernels and weights of a plan; its calls hold them, too, so that they go with the last that uses them.

    CuPy's pool gives memory back to the stream in which it was allocated, whose next work may overwrite it at once. So
    that stream waits for the last call of every other one first.

    Attributes:
        kernels: The loaded kernels, in the order of launches.
        weights: The packed weights.
        captured: What captured calls read and write, which their graphs do at every launch.
    """

    def __init__(self, gpu: Gpu, device: int, kernels: list[Kernel], weights: NDArray[Any]) -> None:
        self._ends: dict[Queue, Any] = {}  # events behind the last calls on other streams
        self.kernels, self.weights = kernels, weights
        self.captured: list[tuple[NDArray[Any], ...]] = []
        self._gpu, self._cuda, self._device = gpu, gpu.module().cuda, device
        self._stream = self._cuda.get_current_stream()
        self._queue = queue_of(self._stream)

    def leave(self, stream: Any) -> None:
        """Note the end of a call on a stream that captures nothing."""
        queue = queue_of(stream)
        if queue != self._queue:
            event = self._ends.get(queue)
            if event is None:
                event = self._ends.setdefault(queue, self._cuda.Event(disable_timing=True))
            else:
                stream.wait_event(event)  # of another stream, where this one has its pointer
            event.record()

    def __del__(self) -> None:
        if self._gpu.lost():
            LEAKED.extend(self._ends.values())
        elif self._ends and not sys.is_finalizing():
            # a lost GPU computes nothing any more
            with suppress(RuntimeError, RequestError), self._cuda.Device(self._device):
                # it is another one if it is another thread's default stream
                own = queue_of(self._stream) == self._queue and not is_captured(self._stream)
                for event in self._ends.values():
                    self._stream.wait_event(event) if own else event.synchronize()


class GpuRunner:
    """Queues the kernels on the calling thread's current stream."""

    pids = ()
    clock = None

    def __init__(self, work: GpuWork, gpu: Gpu) -> None:
        begin, cupy = time.perf_counter(), gpu.module()
        self._gpu, self._cuda = gpu, cupy.cuda
        if is_captured(self._cuda.get_current_stream()):
            raise RequestError("a plan cannot be made while a graph is captured; call it once before, or make it there")
        dtype = work.dtype.name
        self._launches, self._dtype = work.launches, dtype
        kernels = [compiled(cupy, launch, dtype) for launch in work.launches]
        self._device = cupy.cuda.runtime.getDevice()
        ready = time.perf_counter()
        self._scratch_size = max(1, work.scratch_size)
        self._held: Held | None = Held(gpu, self._device, kernels, cupy.asarray(work.weights))
        gpu.empty((self._scratch_size,), dtype)  # MemoryError here, where another form can be tried; the pool keeps it
        cupy.cuda.Device().synchronize()
        self.setup = {"compile": ready - begin, "start": time.perf_counter() - ready}

    def __call__(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Queue the kernels that compute `out`; both arrays are on the plan's GPU, which is the current one."""
        held, stream = self._checked(x, out), self._cuda.get_current_stream()
        captured = is_captured(stream)
        if not captured:  # while a graph is captured, events must not be asked
            self._gpu.in_flight.purge()
        arrays = (x, held.weights, out, self._new_scratch())
        if captured:
            held.captured.append(arrays)
        try:
            for launch, kernel in zip(self._launches, held.kernels, strict=True):
                self._queue(launch, kernel, arrays)
        except BaseException:
            with suppress(RuntimeError):  # the first error counts
                self._queued(held, stream, x, out, captured=captured)
            raise
        self._queued(held, stream, x, out, captured=captured)

    def _queued(self, held: Held, stream: Any, *arrays: NDArray[Any], captured: bool) -> None:
        """Note what was queued, so that nothing that it uses goes before it is done; a graph's calls keep it anyway."""
        if not captured:
            try:
                held.leave(stream)
            finally:
                self._gpu.in_flight.keep(self._cuda, *arrays)

    def _checked(self, x: NDArray[Any], out: NDArray[Any]) -> Held:
        """What a call uses, if it may be made."""
        if (held := self._held) is None:
            raise RequestError("the plan is closed; make a new one with convbench.plan")
        if out.data.ptr % VECTOR_BYTES:  # type: ignore[attr-defined]  # a CuPy array
            raise RequestError(f"out begins between multiples of {VECTOR_BYTES} bytes; give an array of its own")
        if self._gpu.lost():
            raise UnavailableError(FORKED)
        if self._cuda.runtime.getDevice() != self._device:
            raise RequestError(f"the plan is on GPU {self._device}, which is not the current one")
        for name, array in (("x", x), ("out", out)):
            if (place := array.data.device_id) != self._device:  # type: ignore[attr-defined]
                raise RequestError(f"{name} is on GPU {place}, and the plan on GPU {self._device}; give an array there")
        return held

    def _new_scratch(self) -> NDArray[Any]:
        """Scratch for one call; CuPy's pool reuses the memory in later calls on the same stream only."""
        try:
            return self._gpu.empty((self._scratch_size,), self._dtype)
        except MemoryError:
            raise UnavailableError(
                f"the GPU has no memory for the scratch of a call ({self._scratch_size} numbers of {self._dtype}); "
                "use a smaller batch, or let go of other arrays"
            ) from None

    def _queue(self, launch: Launch, kernel: Kernel, arrays: tuple[Any, ...]) -> None:
        try:
            kernel.function((launch.blocks,), (launch.threads,), arrays, shared_mem=launch.shared_bytes)
        except self._cuda.driver.CUDADriverError as error:
            raise_as_told(self._gpu.module(), error, f"the launch of {launch.name}")

    def shares(self, x: NDArray[Any], out: NDArray[Any]) -> list[float]:
        """The share of each launch in a call's time, from a separate call, since events between launches cost time."""
        if len(self._launches) == 1:
            return [1.0]
        held = self._checked(x, out)
        events = [self._cuda.Event() for _ in range(len(self._launches) + 1)]
        arrays = (x, held.weights, out, self._new_scratch())
        self._gpu.hold_up()
        events[0].record()
        for launch, kernel, event in zip(self._launches, held.kernels, events[1:], strict=True):
            self._queue(launch, kernel, arrays)
            event.record()
        events[-1].synchronize()
        parts = [self._cuda.get_elapsed_time(begin, end) for begin, end in itertools.pairwise(events)]
        return [part / sum(parts) for part in parts]

    @property
    def is_captured(self) -> bool:
        """Whether a graph has captured a call, and needs what the plan holds."""
        return bool(self._held and self._held.captured)

    def threads(self) -> int:
        """One: the host's calling thread."""
        return 1

    def close(self) -> None:
        """Release the weights and the kernels, once the calls under way are through with them."""
        self._held = None
        if not is_captured(self._cuda.get_current_stream()):
            self._gpu.in_flight.purge()
