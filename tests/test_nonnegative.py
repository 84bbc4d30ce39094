"""Non-negative least squares, where SciPy's goes in circles as well."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from convbench.nonnegative import least_squares


def test_the_coefficients_are_those_of_least_error_and_none_is_negative():
    random = np.random.default_rng(0)
    columns = random.random((40, 3))
    assert least_squares(columns, columns @ [1.0, 0.0, 2.0]) == pytest.approx([1.0, 0.0, 2.0], abs=1e-9)
    assert least_squares(columns[:, :1], -columns[:, 0]) == pytest.approx([0.0])


def test_columns_that_are_nearly_one_another_have_an_answer():
    """Powers of one number: what counted work is where every problem is of the same kind."""
    random = np.random.default_rng(1)
    for _ in range(200):
        base = 10 ** random.uniform(0, 6, 43)
        columns = base[:, None] ** random.uniform(0.9, 1.1, 6)
        columns *= (1 + 1e-9 * random.standard_normal(columns.shape)) / columns.max(axis=0)
        wanted = columns[:, 2]
        found = least_squares(columns / wanted[:, None], np.ones(43))
        assert (found >= 0).all()
        assert columns @ found == pytest.approx(wanted, rel=1e-3)


def test_where_scipy_gives_up_another_method_answers(monkeypatch):
    def circles(*_, **__):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(optimize, "nnls", circles)
    columns = np.random.default_rng(2).random((20, 4))
    assert least_squares(columns, columns @ [0.0, 3.0, 0.0, 1.0]) == pytest.approx([0.0, 3.0, 0.0, 1.0], abs=1e-9)
