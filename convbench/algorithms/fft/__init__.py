"""Convolution by Fourier transforms of tiles: overlap-save, for large kernels.

One NaN or infinity in the input spreads, as NaN, over every output of the tiles that read it, and not only over those
whose filter covers it; one among the weights over every output of its filter. So do the rounding errors of one number
that is far larger than the rest, and it overflows sooner. `direct` and `unrolled` keep all of these where they belong.
"""

from convbench.algorithms import Algorithm, Implementation, within_reason
from convbench.algorithms.fft import cut, host

FFT = Algorithm(
    supports=cut.supports,
    implementations=(
        Implementation(
            "numba",
            host.prepare,
            supports=within_reason(host.footprint),
            footprint=host.footprint,
            fuses_epilogue=True,
        ),
    ),
)
