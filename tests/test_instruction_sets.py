"""The contract tests once more, compiled for other processors than this one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE, ROOT

from convbench.kernels.vector import instruction_set

OTHERS = ("haswell", "generic") if instruction_set().name in ("AVX2", "AVX-512") else ("generic",)
NARROW = "NEON" if platform.machine() in ("aarch64", "arm64") else "generic"
BLOCKS = {"haswell": "AVX2", "generic": NARROW}
CONTRACT = "tests/test_algorithms.py"


@pytest.mark.parametrize("cpu", OTHERS)
def test_the_blocks_are_those_of_the_processor_that_numba_compiles_for(cpu, tmp_path):
    asked = "from convbench.kernels.vector import instruction_set; print(instruction_set().name)"
    assert python(cpu, tmp_path, "-c", asked).strip() == BLOCKS[cpu]


@pytest.mark.long
@pytest.mark.parametrize("cpu", OTHERS)
def test_every_algorithm_agrees_with_the_reference_on_every_other_processor(cpu, tmp_path):
    """`haswell` has vectors of 256 bits and no more, and `generic` is what every processor of the kind can do."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", CONTRACT, "-k", "serial and not naive"]
    assert " passed" in python(cpu, tmp_path, *words)


@pytest.mark.long
@pytest.mark.parametrize("cpu", OTHERS)
def test_random_problems_are_right_and_nothing_else_is_touched_on_every_other_processor(cpu, tmp_path):
    """Masked loads and stores are other instructions there, or many."""
    said = python(cpu, tmp_path, "tests/random_problems.py", "--count", "8", "--seed", "3")
    assert "0 crashes, 0 outputs beyond their bound" in said


def python(cpu: str, cache: Path, *words: str) -> str:
    """Run Python with Numba told that this is the processor; its output."""
    own = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(cache), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **own},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * DEADLINE,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return done.stdout
