"""The contract tests once more, compiled for other processors than this one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import ROOT

OTHERS = {"x86_64": ("haswell", "generic"), "AMD64": ("haswell", "generic")}.get(platform.machine(), ("generic",))
BLOCKS = {"haswell": "AVX2"}


def test_every_algorithm_agrees_with_the_reference_on_other_processors(tmp_path):
    """`haswell` has vectors of 256 bits and no more, and `generic` is what every processor of the kind can do."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_algorithms.py", "-k", "serial and not naive"]
    asked = "from convbench.vector import instruction_set; print(instruction_set().name)"
    with ThreadPoolExecutor() as pool:  # side by side
        names = pool.map(lambda cpu: python(cpu, tmp_path / cpu, "-c", asked), OTHERS)
        tested = pool.map(lambda cpu: python(cpu, tmp_path / cpu, *words), OTHERS)
    narrow = "NEON" if platform.machine() in ("aarch64", "arm64") else "generic"
    assert [name.strip() for name in names] == [BLOCKS.get(cpu, narrow) for cpu in OTHERS]
    assert all(" passed" in said for said in tested)


def python(cpu: str, cache: Path, *words: str) -> str:
    """Run Python with Numba told that this is the processor; its output."""
    own = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(cache), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **own}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout
