"""Winograd convolution: tiles of outputs from fewer multiplications, by `toom_cook` in both directions.

One NaN or infinity in the input spreads, as NaN, over every output of the tiles that read it, and not only over those
whose filter covers it; one among the weights over every output of its filter. So do the rounding errors of one number
that is far larger than the rest, and it overflows sooner. `direct` and `unrolled` keep all of these where they belong.
"""

from convbench.algorithms import Algorithm, Implementation, within_reason
from convbench.algorithms.winograd import gpu, host, nested

WINOGRAD = Algorithm(
    supports=nested.supports,
    implementations=(
        Implementation(
            "numba",
            host.prepare,
            supports=within_reason(host.footprint),
            footprint=host.footprint,
            fuses_epilogue=True,
        ),
        Implementation("gpu", gpu.prepare, footprint=gpu.footprint, fuses_epilogue=True),
    ),
)
