"""CuPy as far as convbench uses it, on the host: arrays are NumPy's, kernels are compiled by g++ and run as threads.

What runs on it is convbench's own code for GPUs; only the speed is not a GPU's.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
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
        return SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self) -> nullcontext:
        return nullcontext()


def empty(shape: tuple[int, ...], dtype: str) -> ndarray:
    return np.empty(shape, dtype).view(ndarray)


def asarray(array: Any) -> ndarray:
    return array if isinstance(array, ndarray) else np.array(array).view(ndarray)


def ascontiguousarray(array: ndarray, dtype: str | None = None) -> ndarray:
    return np.ascontiguousarray(array.view(np.ndarray), dtype).view(ndarray)


def asnumpy(array: ndarray) -> np.ndarray:
    return array.view(np.ndarray).copy()


def from_dlpack(array: Any) -> ndarray:
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


def get_default_memory_pool() -> SimpleNamespace:
    return SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)


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
        self._code, self._options = json.loads(machine_code)

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self._code, name, self._options)


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
    """A moment."""

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


lost: list[str] = []  # kernels after which nothing works any more


def synchronize() -> None:
    if lost:
        raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")


class Device:
    """A GPU; as a context manager, the one that everything happens on."""

    cublas_handle = 1

    def __init__(self, number: int = 0) -> None:
        assert 0 <= number < getDeviceCount()

    @property
    def compute_capability(self) -> str:
        return os.environ.get("FAKE_CAPABILITY", "80")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        synchronize()


def getDeviceCount() -> int:  # noqa: N802  # CUDA's name
    return int(os.environ.get("FAKE_GPUS", "1"))


cuda = SimpleNamespace(
    Event=Event,
    get_elapsed_time=lambda begin, end: 1e3 * (end.seconds - begin.seconds),
    Device=Device,
    Module=Module,
    compiler=SimpleNamespace(_compile_module_with_cache=compile_module),
    driver=SimpleNamespace(funcSetAttribute=set_attribute),
    cublas=SimpleNamespace(
        CUBLAS_DEFAULT_MATH=0,
        setMathMode=lambda _, mode: math_mode.__setitem__(0, mode),
    ),
    get_current_stream=lambda: SimpleNamespace(ptr=0),
    runtime=SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDevice=lambda: 0,
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
