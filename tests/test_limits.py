"""The machine's limits: that they are measured, and what is computed from them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import DEADLINE

from convbench.algorithms import ALGORITHMS
from convbench.analysis.limits import OPERATIONS, TRAFFIC, Limits, intensity
from convbench.measure.process import WorkerProcess
from convbench.problem import Problem

PROBLEM = Problem(height=20, width=20, out_channels=4, kernel_height=3, kernel_width=3)
MADE_UP = {
    "peaks": {
        "cores": {
            "2": {"multiply_add_float32": [8e9], "read": [2e9]},
            "1": {"multiply_add_float32": [3e9, 4e9, 2e9], "read": [1e9], "copy": [1.5e9]},
        }
    }
}


def test_every_limit_is_measured_on_every_number_of_cores():
    limits = Limits.of({"peaks": WorkerProcess.peaks([2, 1, 2], 3)})
    assert list(limits.rates) == [1, 2]
    for cores in (1, 2):
        assert set(limits.rates[cores]) == {*OPERATIONS, *TRAFFIC}
        for kind in (*OPERATIONS, *TRAFFIC):
            assert len(limits.rates[cores][kind]) == 3
            assert limits.best(kind, cores) > 0
            assert 0 < limits.steadiness(kind, cores) <= 1


def test_a_worker_that_dies_is_a_reason_and_no_error():
    assert "no end after" in WorkerProcess.peaks([1], 3, limit=0.001)["reason"]


def test_the_best_repetition_is_the_limit_and_the_median_tells_how_steady_it_was():
    limits = Limits.of(MADE_UP)
    assert limits.best("multiply_add_float32", 1) == 4e9
    assert limits.steadiness("multiply_add_float32", 1) == 3 / 4
    assert limits.best("multiply_add_float64", 1) is None
    assert limits.best("read", 16) is None


def test_share_of_peak_counts_the_direct_form():
    operations = 2 * 4 * 18 * 18 * 9
    assert Limits.of(MADE_UP).share_of_peak(PROBLEM.dtype, operations / 1e-6, 2) == pytest.approx(
        operations / 1e-6 / 8e9
    )
    assert Limits.of({}).share_of_peak(PROBLEM.dtype, operations / 1e-6, 2) is None


def test_the_roof_is_the_lower_of_bandwidth_and_peak():
    limits = Limits.of(MADE_UP)
    assert limits.roof(2.0, "float32", 1) == 3e9
    assert limits.roof(100.0, "float32", 1) == 4e9
    assert limits.roof(1.0, "float64", 1) is None
    assert intensity(PROBLEM) == pytest.approx(2 * 4 * 18 * 18 * 9 / (4 * (400 + 36 + 4 * 18 * 18)))


@pytest.mark.long
def test_compiled_code_is_found_again_by_the_next_process(tmp_path):
    """The fixed piece of work, and a plan of each algorithm."""
    code = (
        "import numpy as np, convbench\n"
        "from convbench.measure.peaks import calibration_kernel\n"
        "calibration_kernel()()\n"
        "problem = convbench.Problem.parse('mb1ic1ih20oc8kh3')\n"
        f"for name in {tuple(ALGORITHMS)}:\n"
        "    convbench.plan(problem, np.ones(problem.weights_shape), algorithm=name, executor='threads').close()\n"
    )
    found = []
    for _ in range(2):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=DEADLINE)
        found.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")})
    assert found[0]
    assert found[0] == found[1], "nothing is compiled a second time"
