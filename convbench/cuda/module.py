"""Compiling a launch with CuPy for the GPU at hand.

A kernel is compiled for one problem, and what is loaded takes memory of the GPU. CuPy's `RawKernel` and `RawModule`
keep everything that they have ever loaded: a program that meets new shapes all day would fill the GPU with code. So
modules are loaded here, and only the kernels that were used last stay. A graph of CUDA's that captures a call needs its
plan for as long as it is launched, not closed: the plan keeps the kernels, and what the captured call read and wrote.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from convbench.cuda.streams import is_captured
from convbench.errors import UnavailableError, first_line

if TYPE_CHECKING:
    from convbench.cuda.launch import Launch

MOST_LOADED: Final = 256  # kernels that stay loaded without a plan that uses them, of 60 KiB or so each
MAX_DYNAMIC_SHARED_SIZE_BYTES: Final = 8  # of CUfunction_attribute
LEAKED: Final[list[Any]] = []  # in a forked child, which cannot tell CUDA that it is through with them
OUT_OF_MEMORY: Final = "OUT_OF_MEMORY"  # ends the name of the driver's error


class Kernel:
    """A loaded kernel, which is unloaded while its own GPU is the current one: the driver looks for it there.

    Attributes:
        function: A `cupy.cuda.Function`; hold the kernel for as long as it is in use.
    """

    def __init__(self, cuda: Any, device: int, function: Any) -> None:
        """Take a function of a module that nothing else holds."""
        self._cuda, self._device, self.function, self._pid = cuda, device, function, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self._pid:
            LEAKED.append(self.function)
        elif not sys.is_finalizing():
            with suppress(RuntimeError), self._cuda.Device(self._device):  # a lost GPU has unloaded everything
                self.function = None


def compiled(cupy: Any, launch: Launch, dtype: str) -> Kernel:
    """The launch's kernel, compiled and loaded.

    Raises:
        MemoryError: The GPU's memory cannot hold it.
        UnavailableError: The compiler or the driver refuses it.
        RuntimeError: The GPU is lost (CuPy's `CUDARuntimeError`).
    """
    kernel = (launch.code, launch.name, launch.options(dtype), launch.architecture, launch.shared_bytes)
    load = (cupy, cupy.cuda.runtime.getDevice(), *kernel)
    errors = (RuntimeError, OSError, cupy.cuda.compiler.CompileException)
    try:
        return _loaded(*load)
    except errors as error:
        if not _is_of_memory(cupy, error):
            raise_as_told(cupy, error, f"the kernel {launch.name}")
    cupy.get_default_memory_pool().free_all_blocks()  # which the driver knows nothing of
    try:
        return _loaded(*load)
    except errors as error:
        raise_as_told(cupy, error, f"the kernel {launch.name}")


def raise_as_told(cupy: Any, error: Exception, what: str) -> NoReturn:
    """Raise what callers are told in place of one of CuPy's errors.

    Args:
        cupy: The module.
        error: What CuPy raised.
        what: What it raised it for.

    Raises:
        MemoryError: The GPU's memory does not suffice.
        UnavailableError: The compiler or the driver refuses it.
        RuntimeError: The GPU is lost (CuPy's `CUDARuntimeError`).
    """
    if isinstance(error, cupy.cuda.runtime.CUDARuntimeError | UnavailableError):
        raise error
    if _is_of_memory(cupy, error):
        raise MemoryError(f"the GPU has no memory for {what}") from error
    line = first_line(error)
    if not isinstance(error, cupy.cuda.driver.CUDADriverError):
        raise UnavailableError(
            f"CUDA's compiler fails for {what} ({line}); pip install 'convbench[gpu]' anew"
        ) from error
    if not is_captured(cupy.cuda.get_current_stream()):
        cupy.cuda.Device().synchronize()  # raises where the GPU is lost, and with it every other plan
    raise UnavailableError(
        f"the driver refuses {what} ({line}); use another form, or a driver that fits CuPy's CUDA"
    ) from error


def _is_of_memory(cupy: Any, error: Exception) -> bool:
    return isinstance(error, cupy.cuda.driver.CUDADriverError) and OUT_OF_MEMORY in str(error)


@lru_cache(maxsize=MOST_LOADED)
def _loaded(
    cupy: Any, device: int, code: str, name: str, options: tuple[str, ...], architecture: str, shared_bytes: int
) -> Kernel:
    cuda = cupy.cuda
    with cuda.Device(device):
        if architecture:
            module = cuda.Module()
            module.load(_machine_code(cuda.nvrtc, code, (*options, f"-arch={architecture}")))
        else:
            module = cuda.compiler._compile_module_with_cache(code, options)  # noqa: SLF001  # see above
        function = module.get_function(name)
        if shared_bytes:
            cuda.driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)
    return Kernel(cuda, device, function)


def _machine_code(nvrtc: Any, code: str, options: tuple[str, ...]) -> bytes:
    """Machine code for an architecture that CuPy cannot name: one whose instructions no later GPU has.

    CuPy names architectures by compute capability. What it compiles itself it also keeps on disk.
    """
    program = nvrtc.createProgram(code, "convbench.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        return nvrtc.getCUBIN(program)  # type: ignore[no-any-return]
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"NVRTC: {error}: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
