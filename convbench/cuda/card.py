"""The GPU for which kernels are chosen."""

from __future__ import annotations

import sys
from typing import Final

UNKNOWN: Final = 90  # a large GPU's, for footprints where there is none


def number() -> int | None:
    """The number of the GPU that CuPy computes on; None where CuPy is not in use, or finds no GPU."""
    if (cupy := sys.modules.get("cupy")) is None:
        return None
    try:
        return int(cupy.cuda.runtime.getDevice())
    except (AttributeError, RuntimeError):  # as below
        return None


def capability() -> int:
    """Ten times the compute capability of the GPU that CuPy computes on; `UNKNOWN` where CuPy is not in use."""
    if (cupy := sys.modules.get("cupy")) is None:
        return UNKNOWN
    try:
        return int(cupy.cuda.Device().compute_capability)
    except (AttributeError, RuntimeError):  # CuPy is half imported, or finds no GPU (its CUDARuntimeError)
        return UNKNOWN
