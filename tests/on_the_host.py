"""CUDA sources compiled for the host, where they run as threads; programs are kept, as compiling takes time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HEADER = Path(__file__).parent / "cuda_on_cpu.hpp"
HOST = HEADER.with_suffix(".cpp")
KEPT = Path(__file__).parents[1] / ".pytest_cache" / "cuda_on_the_host"
DEADLINE = 600.0  # seconds
COMPILER = ("g++", "-std=c++20", "-O1", "-pthread", "-w")
SANITIZER = ("-fsanitize=thread", "-g")
NOTHING = 'extern "C" __global__ void nothing(const real*, const real*, real*, real*) { __syncthreads(); }'


@cache
def unsupported_reason(*flags: str) -> str | None:
    """Why they cannot be run with these flags of the compiler; None where they can."""
    with tempfile.NamedTemporaryFile() as empty:
        try:
            stub = program(NOTHING, "nothing", ["-Dreal=float"], 2, 2, *flags)
            subprocess.run([stub, *[empty.name] * 4], capture_output=True, check=True, timeout=DEADLINE)
        except (OSError, subprocess.SubprocessError) as error:
            return f"CUDA sources cannot be run on this host ({error})"
    return None


def program(code: str, name: str, options: Sequence[str], blocks: int, threads: int, *flags: str) -> Path:
    """A program that runs so many blocks of one kernel of a source, on arrays from the files that it is told.

    Args:
        code: The source.
        name: Of the kernel.
        options: What CuPy's compiler is told; what is not a macro is left out.
        blocks: How many.
        threads: Of a block.
        flags: Further ones of the compiler.
    """
    macros = [option.removeprefix("-D") for option in options if option.startswith("-D")]
    macros += [f"KERNEL={name}", f"BLOCKS={blocks}", f"THREADS_OF_A_BLOCK={threads}"]
    defined = "".join(f"#define {macro.replace('=', ' ', 1)}\n" for macro in macros)
    host = kept(HOST.read_text(), *flags, "-c", f"-I{HOST.parent}", suffix=".o")  # what all programs share
    return kept(f'{defined}#include "{HEADER}"\n{code}', *flags, host)


def kept(text: str, *words: str | Path, suffix: str = "") -> Path:
    """What the compiler makes of a text, unless it is there already."""
    key = repr((HEADER.read_text(), text, words))
    made = KEPT / (hashlib.sha256(key.encode()).hexdigest()[:32] + suffix)
    if not made.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_name(f"{os.getpid()}-{made.name}")  # for another may make the same
        source = unfinished.with_suffix(".cpp")
        source.write_text(text)
        compile_to(unfinished, source, *words)
        source.unlink()
        unfinished.rename(made)
    return made


def compile_to(path: Path, source: Path, *words: str | Path) -> None:
    """Run the compiler."""
    done = subprocess.run(
        [*COMPILER, *words, source, "-o", path], text=True, capture_output=True, check=False, timeout=DEADLINE
    )
    if done.returncode:
        raise OSError(done.stderr.strip().partition("\n")[0])
