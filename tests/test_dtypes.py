"""Both dtypes in one process, and nothing on disk from before."""

from __future__ import annotations

import pytest
from conftest import python

CODE = """
import numpy as np
from convbench import Problem, plan

for dtype in ("float32", "float64", "float32"):
    problem = Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3, dtype=dtype)
    x, weights = np.ones(problem.input_shape, dtype), np.ones(problem.weights_shape, dtype)
    with plan(problem, weights, algorithm="naive", executor=EXECUTOR, cores=2) as bound:
        assert (bound(x) == 9).all()
"""


@pytest.mark.parametrize("executor", ["threads", pytest.param("processes", marks=pytest.mark.long)])
def test_one_process_computes_in_both(executor, tmp_path):
    """One loop is compiled for each, and one tile may have code for both."""
    done = python("-c", CODE.replace("EXECUTOR", repr(executor)), NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
