"""Unrolled convolution: im2col and a matrix product, a few panels at a time."""

from functools import partial

from convbench.algorithms import Algorithm, Implementation, forward_only, within_reason
from convbench.algorithms.unrolled import cost, gpu, host
from convbench.precision import EXACT, TF32

UNROLLED = Algorithm(
    supports=forward_only,
    implementations=(
        Implementation(
            "numba",
            host.prepare,
            supports=within_reason(host.footprint),
            footprint=host.footprint,
            cost=cost.cost,
            fuses_epilogue=True,
        ),
        *(
            Implementation(
                "gpu",
                partial(gpu.prepare, precision=precision),
                precision.name,
                supports=partial(gpu.supports, precision=precision),
                footprint=partial(gpu.footprint, precision=precision),
                fuses_epilogue=True,
            )
            for precision in (EXACT, TF32)
        ),
    ),
)
