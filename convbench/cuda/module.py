"""Compiling a launch with CuPy for the GPU at hand."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

if TYPE_CHECKING:
    from convbench.cuda.launch import Launch


def compiled(cupy: Any, launch: Launch, dtype: str) -> Any:
    """The launch's kernel, compiled: a `cupy.RawKernel`.

    CuPy keeps compiled code on disk and names the architecture by the GPU's compute capability. It cannot name the
    architectures whose instructions no later GPU has, so that for those the compiler is called here, and what it makes
    is kept here.
    """
    options = launch.options(dtype)
    if launch.architecture:
        module = cupy.RawModule(path=str(_cubin(cupy, launch.code, (*options, f"-arch={launch.architecture}"))))
        kernel = module.get_function(launch.name)
    else:
        kernel = cupy.RawKernel(launch.code, launch.name, options=options)
    kernel.compile()
    if launch.shared_bytes:
        kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
    return kernel


def _cubin(cupy: Any, code: str, options: tuple[str, ...]) -> Path:
    """A file with the machine code of a source, which is compiled unless the file is there."""
    nvrtc = cupy.cuda.nvrtc
    digest = hashlib.sha256(repr((nvrtc.getVersion(), options, code)).encode()).hexdigest()
    kept = _folder() / f"{digest[:32]}.cubin"
    if kept.exists():
        return kept
    program = nvrtc.createProgram(code, "convbench.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        machine_code = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        raise RuntimeError(f"NVRTC: {error}: {nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
    handle, unfinished = tempfile.mkstemp(dir=kept.parent)  # another process may write the same
    with os.fdopen(handle, "wb") as file:
        file.write(machine_code)
    Path(unfinished).replace(kept)
    return kept


def _folder() -> Path:
    """This user's folder for compiled code, or a new one for this process where that cannot be written to."""
    folder = platformdirs.user_cache_path("convbench") / "cuda"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="convbench-"))
