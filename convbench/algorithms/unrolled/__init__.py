"""Unrolled convolution: im2col and a matrix product, a panel at a time."""

from convbench.algorithms import Algorithm, Implementation, forward_only, within_reason
from convbench.algorithms.unrolled import gpu, host

UNROLLED = Algorithm(
    supports=forward_only,
    implementations=(
        Implementation(
            "numba",
            host.prepare,
            supports=within_reason(host.footprint),
            footprint=host.footprint,
            fuses_epilogue=True,
        ),
        Implementation("gpu", gpu.prepare, supports=gpu.supports),
        Implementation("gpu", gpu.prepare_tf32, "tf32", supports=gpu.supports_tf32),
    ),
)
