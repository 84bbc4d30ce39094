"""Winograd convolution: tiles of outputs from fewer multiplications, by `toom_cook` along both axes.

A NaN or infinity in the input turns every output of the tiles that read it into NaN, not only the outputs whose taps
read it; one in the weights does so for every output of its filter. Likewise, a number that is far larger than the
others spreads its rounding errors over these outputs, and it overflows earlier. `direct` and `unrolled` confine all of
these to the outputs whose taps read the number.
"""

from convbench.algorithms import Algorithm, Implementation, columns_as_rows, located
from convbench.algorithms.winograd import cost, host, nested

_GPU = "convbench.algorithms.winograd.gpu"

WINOGRAD = Algorithm(
    supports=nested.supports,
    implementations=(
        columns_as_rows(
            Implementation(
                "numba",
                host.prepare,
                supports=host.supports,
                footprint=host.footprint,
                cost=cost.cost,
                fuses_epilogue=True,
            )
        ),
        Implementation(
            "gpu",
            located(_GPU, "prepare"),
            supports=located(_GPU, "supports"),
            footprint=located(_GPU, "footprint"),
            cost=located(_GPU, "cost"),
            fuses_epilogue=True,
        ),
    ),
)
