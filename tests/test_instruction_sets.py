"""The contract tests once more, compiled for other processors than this one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

OTHERS = {"x86_64": ("haswell", "generic"), "AMD64": ("haswell", "generic")}.get(platform.machine(), ("generic",))
BLOCKS = {"haswell": "AVX2"}


@pytest.mark.parametrize("cpu", OTHERS)
def test_every_algorithm_agrees_with_the_reference_on_another_processor(cpu, tmp_path):
    """`haswell` has vectors of 256 bits and no more, and `generic` is what every processor of the kind can do."""
    own = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path), "PYTEST_ADDOPTS": ""}
    env = {**os.environ, **own}

    def python(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    others = "NEON" if platform.machine() in ("aarch64", "arm64") else "generic"
    asked = python("-c", "from convbench.vector import instruction_set; print(instruction_set().name)")
    assert asked.strip() == BLOCKS.get(cpu, others)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_algorithms.py"]
    assert " passed" in python(*words, "-k", "serial and not naive")
