"""Precisions on a GPU: one entry of `GPU_PRECISIONS` for each precision of `PRECISIONS` that a GPU supports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convbench.cuda import SOURCES
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.rounding import Errors, of_sums, of_sums_in_tf32


@dataclass(frozen=True)
class GpuPrecision:
    """How a GPU, and NVIDIA's libraries on it, compute products in one precision.

    Attributes:
        capability: Ten times the lowest compute capability that supports such products.
        source: CUDA source of a matrix product's tile.
        filters: Allowed numbers of filters of a thread block.
        depths: Allowed numbers of terms of a step, where shared memory holds two steps; the last is always allowed.
        errors: Rounding errors of sums of such products.
        cublas_compute_type: CuPy's name of cuBLAS's compute type for one product of float32.
        cublas_math_mode: cuBLAS's math mode for several products of float32 at once, a `cublasMath_t`.
        cudnn_allow_tf32: Whether PyTorch lets cuDNN round factors to TF32.
    """

    capability: int
    source: Path
    filters: tuple[int, ...]
    depths: tuple[int, ...]
    errors: Callable[[Problem], Errors]
    cublas_compute_type: str
    cublas_math_mode: int
    cudnn_allow_tf32: bool


GPU_PRECISIONS: Final[Mapping[str, GpuPrecision]] = {
    EXACT.name: GpuPrecision(
        capability=0,
        source=SOURCES / "product.cuh",
        filters=(8, 16, 32, 64, 128),
        depths=(16, 8, 4),
        errors=of_sums,
        cublas_compute_type="COMPUTE_TYPE_DEFAULT",
        cublas_math_mode=0,  # CUBLAS_DEFAULT_MATH
        cudnn_allow_tf32=False,
    ),
    TF32.name: GpuPrecision(
        capability=80,  # Ampere
        source=SOURCES / "product_tf32.cuh",
        filters=(16, 32, 64, 128),  # tensor cores have tiles of 16 rows x 8 terms
        depths=(16, 8),
        errors=of_sums_in_tf32,
        cublas_compute_type="COMPUTE_TYPE_TF32",
        cublas_math_mode=3,  # CUBLAS_TF32_TENSOR_OP_MATH, for which CuPy has no name
        cudnn_allow_tf32=True,
    ),
}
