"""What type checkers see of convbench."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convbench

SCRIPT = """
import numpy as np
import pytest

import convbench

reveal_type(convbench.conv2d(np.ones((4, 4)), np.ones((1, 2, 2))))
reveal_type(convbench.sweep("ic3ih9oc2kh3", cores=2, algorithms="direct"))
reveal_type(convbench.RequestError("wrong"))
reveal_type(convbench.Conv2d(np.ones((1, 2, 2)))([[1.0]]))
convbench.conv3d
"""


@pytest.mark.long
def test_a_users_script_is_checked_against_the_types(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "script.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    array, results, error, image, unknown, _ = done.stdout.splitlines()
    assert '"numpy.ndarray[' in array
    assert '"convbench.api.Results"' in results
    assert '"convbench.errors.RequestError"' in error
    assert '"numpy.ndarray[' in image
    assert 'Module has no attribute "conv3d"' in unknown


def test_the_marker_lies_in_the_package():
    assert (Path(convbench.__file__).parent / "py.typed").read_text() == ""


def test_names_are_sorted_and_each_has_a_home():
    assert convbench.__all__ == sorted(convbench.__all__)
    assert set(convbench.__all__) == set(convbench._HOME)
    assert {"RequestError", "UnavailableError"} <= set(convbench.__all__)
