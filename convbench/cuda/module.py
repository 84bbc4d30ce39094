"""Compiling a launch with CuPy for the GPU at hand.

A kernel is compiled for one problem, and what is loaded takes memory of the GPU. CuPy's `RawKernel` and `RawModule`
keep everything that they have ever loaded: a program that meets new shapes all day would fill the GPU with code. So
modules are loaded here, and only the kernels that were used last stay. A graph of CUDA's that captures a call needs its
plan for as long as it is launched.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from convbench.cuda.launch import Launch

MOST_LOADED: Final = 256  # kernels that stay loaded without a plan that uses them, of 60 KiB or so each
MAX_DYNAMIC_SHARED_SIZE_BYTES: Final = 8  # of CUfunction_attribute


def compiled(cupy: Any, launch: Launch, dtype: str) -> Any:
    """The launch's kernel, compiled and loaded: a `cupy.cuda.Function`.

    Raises:
        RuntimeError: The compiler refuses the source.
    """
    kernel = (launch.code, launch.name, launch.options(dtype), launch.architecture, launch.shared_bytes)
    return _loaded(cupy, cupy.cuda.runtime.getDevice(), *kernel)


@lru_cache(maxsize=MOST_LOADED)
def _loaded(
    cupy: Any, device: int, code: str, name: str, options: tuple[str, ...], architecture: str, shared_bytes: int
) -> Any:
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
    return function


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
