"""Compiling a launch with CuPy for the GPU at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convbench.cuda.launch import Launch


def compiled(cupy: Any, launch: Launch, dtype: str) -> Any:
    """The launch's kernel, compiled: a `cupy.RawKernel`.

    CuPy keeps compiled code on disk and names the architecture by the GPU's compute capability. It cannot name the
    architectures whose instructions no later GPU has, so that for those the compiler is called here, which takes some
    tenths of a second for every plan.

    Raises:
        RuntimeError: The compiler refuses the source.
    """
    if launch.architecture:
        kernel = _for_one_architecture(cupy, launch, dtype)
    else:
        kernel = cupy.RawKernel(launch.code, launch.name, options=launch.options(dtype))
        kernel.compile()
    if launch.shared_bytes:
        kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
    return kernel


def _for_one_architecture(cupy: Any, launch: Launch, dtype: str) -> Any:
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(launch.code, "convbench.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*launch.options(dtype), f"-arch={launch.architecture}"))
        machine_code = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"NVRTC: {error}: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
    with tempfile.TemporaryDirectory(prefix="convbench-") as directory:  # CuPy loads machine code from files alone
        file = Path(directory) / "kernel.cubin"
        file.write_bytes(machine_code)
        kernel = cupy.RawModule(path=str(file)).get_function(launch.name)
        kernel.compile()
    return kernel
