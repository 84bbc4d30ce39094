"""Whether CUDA sources can be compiled for the host and run there."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

STUB = "#include <barrier>\n#include <thread>\nint main() { std::barrier<> one(1); one.arrive_and_wait(); }"


@cache
def obstacle(*flags: str) -> str | None:
    """Why not, with these flags of the compiler; None where they can."""
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "stub"
        words = ["g++", "-std=c++20", "-pthread", *flags, "-x", "c++", "-", "-o", str(program)]
        try:
            subprocess.run(words, input=STUB, text=True, capture_output=True, check=True)
            subprocess.run([program], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"CUDA sources cannot be run on this host ({error})"
    return None
