"""Convolution by Fourier transforms of tiles (overlap-save), for large kernels.

A NaN or infinity in the input turns every output of the tiles that read it into NaN, not only the outputs whose taps
read it; one in the weights does so for every output of its filter. Likewise, a number that is far larger than the
others spreads its rounding errors over these outputs, and it overflows earlier. `direct` and `unrolled` confine all of
these to the outputs whose taps read the number.
"""

from convbench.algorithms import Algorithm, Implementation, columns_as_rows, within_reason
from convbench.algorithms.fft import cost, cut, host

FFT = Algorithm(
    supports=cut.supports,
    implementations=(
        columns_as_rows(
            Implementation(
                "numba",
                host.prepare,
                supports=within_reason(host.footprint),
                footprint=host.footprint,
                cost=cost.cost,
                fuses_epilogue=True,
            )
        ),
    ),
)
