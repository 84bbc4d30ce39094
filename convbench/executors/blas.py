"""Keeping BLAS to one thread where an executor already keeps every core busy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convbench.tile import Work


def single_threaded_blas(work: Work) -> Callable[[], AbstractContextManager[object]]:
    """What to run a tile in: a context with single-threaded BLAS if the work calls BLAS, otherwise none."""
    if not work.uses_blas:
        return contextlib.nullcontext
    import scipy.linalg.cython_blas  # noqa: F401  # what Numba's np.dot calls; it must be loaded to be limited
    import threadpoolctl

    return partial(threadpoolctl.ThreadpoolController().select(user_api="blas").limit, limits=1)
