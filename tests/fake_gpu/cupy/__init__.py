"""CuPy as far as convbench uses it, on the host: arrays are NumPy's, kernels are compiled by g++ and run as threads.

What runs on it is convbench's own code for GPUs; only the speed is not a GPU's. Work is done when a call returns, but
events are done as a test says, and streams tell what they wait for.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

__version__ = "13.0-fake"
sys.path.append(str(Path(__file__).parents[2]))
on_the_host = importlib.import_module("on_the_host")


class ndarray(np.ndarray):  # noqa: N801  # CuPy's name
    """An array on the GPU, which nobody takes for one of the host's by accident."""

    __cuda_array_interface__: dict[str, Any] = {}  # noqa: RUF012

    def __array_finalize__(self, of: Any) -> None:
        """A view lies where its array does, and holds whatever owns the memory."""
        self.gpu = getattr(of, "gpu", None)
        if self.gpu is None:
            self.gpu = getDevice()
        self.memory = getattr(of, "memory", None) or PooledMemory()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def set(self, array: np.ndarray) -> None:
        assert not isinstance(array, ndarray), "the host's arrays are copied to the GPU"
        self.view(np.ndarray)[...] = array

    def get(self, out: np.ndarray | None = None) -> np.ndarray:
        if out is None:
            return self.view(np.ndarray).copy()
        out[...] = self.view(np.ndarray)
        return out

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self.ctypes.data, device_id=self.gpu, mem=self.memory)

    @property
    def device(self) -> Device:
        return Device(self.gpu)


class PooledMemory:
    """Memory of CuPy's pool."""


class DLPackMemory:
    """Memory of another library's array, which it holds."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


largest: list[int] = []  # the last number is the most bytes that an array may have


def empty(shape: tuple[int, ...], dtype: str) -> ndarray:
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if largest and nbytes > largest[-1]:
        raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes")
    return np.empty(shape, dtype).view(ndarray)


def asarray(array: Any) -> ndarray:
    return array if isinstance(array, ndarray) else np.array(array).view(ndarray)


def ascontiguousarray(array: ndarray, dtype: str | None = None) -> ndarray:
    if array.flags.c_contiguous and array.dtype == dtype:
        return array
    return np.ascontiguousarray(array.view(np.ndarray), dtype).view(ndarray)


def asnumpy(array: ndarray) -> np.ndarray:
    return array.view(np.ndarray).copy()


def from_dlpack(array: Any) -> ndarray:
    if hasattr(array, "values"):  # a tensor of the PyTorch beside this
        found = array.values.view(ndarray)
        found.memory = DLPackMemory(array)
        return found
    return np.from_dlpack(array).view(ndarray)


def pad(array: ndarray, widths: Sequence[tuple[int, int]]) -> ndarray:
    return np.pad(array.view(np.ndarray), widths).view(ndarray)


def as_tf32(array: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits behind the point, to nearest."""
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def matmul(a: ndarray, b: ndarray, out: ndarray) -> None:
    """As CuPy tells cuBLAS: by the handle's mode, and one product by the call's type too."""
    assert out.flags.c_contiguous
    one, other = (operand.view(np.ndarray) for operand in (a, b))
    rounded = math_mode[0] == TF32_MATH
    if a.dtype == "float32" and (rounded or (a.ndim == 2 and compute_type["float32"] == linalg.COMPUTE_TYPE_TF32)):
        one, other = as_tf32(one), as_tf32(other)
    np.matmul(one, other, out=out.view(np.ndarray))


TF32_MATH = 3  # has no name in CuPy
math_mode = [0]
compute_type = {"float32": 0}
linalg = SimpleNamespace(COMPUTE_TYPE_DEFAULT=1, COMPUTE_TYPE_TF32=7, set_compute_type=compute_type.__setitem__)
_core = SimpleNamespace(_routines_linalg=linalg)
lib = SimpleNamespace(stride_tricks=np.lib.stride_tricks)


freed_blocks: list[int] = []  # an entry for each time that the pool gave all blocks back


def get_default_memory_pool() -> SimpleNamespace:
    return SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: freed_blocks.append(1))


class RawKernel:
    """A kernel that is compiled for the host when it is first launched, when the number of blocks is known."""

    max_dynamic_shared_size_bytes = 0

    @property
    def ptr(self) -> Self:
        return self

    def __init__(self, code: str, name: str, options: Sequence[str]) -> None:
        # what is repeated only to be timed is not
        self._options = [re.sub(r"^(-D(?:SHARED_)?ROUNDS)=.*", r"\1=16", option) for option in options]
        self._code, self._name = code, name

    def compile(self) -> None:
        """Nothing yet: see above."""

    def __call__(self, grid: tuple[int], block: tuple[int], arrays: Sequence[ndarray], shared_mem: int = 0) -> None:
        assert shared_mem == self.max_dynamic_shared_size_bytes
        if self._name == "wait":
            return  # for a host that queues; here every call is done when it returns
        if self._name == os.environ.get("FAKE_FAULT"):
            lost.append(self._name)
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
        program = on_the_host.program(self._code, self._name, self._options, *grid, *block)
        with tempfile.TemporaryDirectory(prefix="convbench-fake-cupy-") as directory:
            files = [Path(directory) / str(number) for number in range(len(arrays))]
            for file, array in zip(files, arrays, strict=True):
                array.view(np.ndarray).tofile(file)
            subprocess.run([program, *files], check=True)
            for file, array in zip(files[2:], arrays[2:], strict=True):
                array.view(np.ndarray)[...] = np.fromfile(file, array.dtype).reshape(array.shape)


class Module:
    """What the compiler made of a source: here, the source and the options."""

    def load(self, machine_code: bytes) -> None:
        if load_errors:
            raise load_errors.pop(0)
        self._code, self._options = json.loads(machine_code)
        self.gpu = getDevice()

    def get_function(self, name: str) -> RawKernel:
        kernel = RawKernel(self._code, name, self._options)
        kernel.module = self
        return kernel

    def __del__(self) -> None:
        if hasattr(self, "gpu") and not sys.is_finalizing():
            unloaded.append((self.gpu, getDevice()))


load_errors: list[Exception] = []  # what the next modules' loading raises
unloaded: list[tuple[int, int]] = []  # each module's GPU, and the current one when it was unloaded


def compile_module(code: str, options: Sequence[str]) -> Module:
    module = Module()
    module.load(json.dumps([code, options]).encode())
    return module


def set_attribute(function: RawKernel, attribute: int, value: int) -> None:
    assert attribute == 8  # the largest dynamic shared memory, in bytes
    function.max_dynamic_shared_size_bytes = value


class Nvrtc:
    """NVIDIA's compiler, which makes of a source the source and the options."""

    NVRTCError = RuntimeError

    def getVersion(self) -> tuple[int, int]:  # noqa: N802  # as CuPy's, like the others
        return (12, 9)

    def createProgram(self, code: str, _name: str, _headers: tuple[()], _names: tuple[()]) -> list[Any]:  # noqa: N802
        return [code]

    def compileProgram(self, program: list[Any], options: Sequence[str]) -> None:  # noqa: N802
        program.append(options)

    def getCUBIN(self, program: list[Any]) -> bytes:  # noqa: N802
        return json.dumps(program).encode()

    def destroyProgram(self, _program: list[Any]) -> None:  # noqa: N802
        pass


class Event:
    """A moment in a stream."""

    is_done: Callable[[], bool] = staticmethod(lambda: True)

    def __init__(self, disable_timing: bool = False) -> None:
        self.timed = not disable_timing

    def record(self, stream: Stream | None = None) -> None:
        self.seconds, self.stream = time.perf_counter(), stream or get_current_stream()
        assert not self.stream.captures, "an event of a graph tells nothing of its launches"

    def synchronize(self) -> None:
        pass

    @property
    def done(self) -> bool:
        assert not get_current_stream().captures, "while a graph is captured, nobody asks events"
        return Event.is_done()


class Stream:
    """A stream, which remembers the streams whose events it waits for."""

    def __init__(self, ptr: int | None = None) -> None:
        self.ptr = id(self) if ptr is None else ptr
        self.waits: list[int] = []
        self.captures = False

    def wait_event(self, event: Event) -> None:
        self.waits.append(event.stream.ptr)

    def is_capturing(self) -> bool:
        assert self.ptr not in (0, 1), "nobody captures the legacy default stream"
        return self.captures

    def __enter__(self) -> Self:
        streams().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        streams().pop()


DEFAULT_STREAM = Stream(0)
_thread = threading.local()


def streams() -> list[Stream]:
    """Those that this thread has entered."""
    if not hasattr(_thread, "streams"):
        _thread.streams = [DEFAULT_STREAM]
    return _thread.streams


def get_current_stream() -> Stream:
    return streams()[-1]


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class CUDADriverError(RuntimeError):
    """As CuPy's."""


class CompileException(Exception):  # noqa: N818  # CuPy's name
    """As CuPy's."""


lost: list[str] = []  # kernels after which nothing works any more


def synchronize() -> None:
    if lost:
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")


class Device:
    """A GPU; as a context manager, the one that everything happens on."""

    cublas_handle = 1

    def __init__(self, number: int | None = None) -> None:
        self.id = getDevice() if number is None else number
        assert 0 <= self.id < getDeviceCount()

    @property
    def compute_capability(self) -> str:
        return os.environ.get("FAKE_CAPABILITY", "80")

    def __enter__(self) -> Self:
        devices().append(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        devices().pop()

    def synchronize(self) -> None:
        synchronize()


def devices() -> list[int]:
    """Those that this thread has entered."""
    if not hasattr(_thread, "devices"):
        _thread.devices = [0]
    return _thread.devices


def getDevice() -> int:  # noqa: N802  # CUDA's name
    return devices()[-1]


def getDeviceCount() -> int:  # noqa: N802  # CUDA's name
    return int(os.environ.get("FAKE_GPUS", "1"))


cuda = SimpleNamespace(
    Event=Event,
    get_elapsed_time=lambda begin, end: 1e3 * (end.seconds - begin.seconds),
    Device=Device,
    Module=Module,
    Stream=Stream,
    compiler=SimpleNamespace(_compile_module_with_cache=compile_module, CompileException=CompileException),
    driver=SimpleNamespace(funcSetAttribute=set_attribute, CUDADriverError=CUDADriverError),
    cublas=SimpleNamespace(
        CUBLAS_DEFAULT_MATH=0,
        setMathMode=lambda _, mode: math_mode.__setitem__(0, mode),
    ),
    get_current_stream=get_current_stream,
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDevice=getDevice,
        getDeviceCount=getDeviceCount,
        getDeviceProperties=lambda _: {
            "name": b"a GPU on the host",
            "major": 9,
            "minor": 0,
            "multiProcessorCount": 1,
            "totalGlobalMem": 2**30,
            "l2CacheSize": 2**16,
        },
        deviceGetPCIBusId=lambda _: "0000:1B:00.0",
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 12090,
        memGetInfo=lambda: (int(os.environ.get("FAKE_MEMORY", "8388608")), 2**30),
    ),
    nvrtc=Nvrtc(),
)
