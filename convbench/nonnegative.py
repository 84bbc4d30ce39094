"""Non-negative least squares that has an answer for every matrix."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ITERATIONS: Final = 30  # for each column, ten times SciPy's default: near an exact fit, rounding makes it go in circles


def least_squares(columns: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of the columns, none negative, of the least squared error (Lawson and Hanson, 1974).

    Args:
        columns: Shape (m, n), finite.
        wanted: Shape (m,), finite.

    Returns:
        Shape (n,).
    """
    from scipy import optimize  # a quarter of a second, which commands that fit nothing are spared

    try:
        return np.asarray(optimize.nnls(columns, wanted, maxiter=ITERATIONS * columns.shape[1])[0])
    except RuntimeError:  # it went in circles; another method of active sets, which ends
        return np.asarray(optimize.lsq_linear(columns, wanted, (0, np.inf), method="bvls").x)
