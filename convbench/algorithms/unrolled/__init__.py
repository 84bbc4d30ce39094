"""Unrolled convolution: im2col and a matrix product, a few panels at a time."""

from functools import partial

from convbench.algorithms import Algorithm, Implementation, columns_as_rows, forward_only, located, within_reason
from convbench.algorithms.unrolled import cost, host
from convbench.precision import EXACT, TF32

_GPU = "convbench.algorithms.unrolled.gpu"

UNROLLED = Algorithm(
    supports=forward_only,
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
        *(
            Implementation(
                "gpu",
                partial(located(_GPU, "prepare"), precision=precision),
                precision.name,
                supports=partial(located(_GPU, "supports"), precision=precision),
                footprint=partial(located(_GPU, "footprint"), precision=precision),
                cost=partial(located(_GPU, "cost"), precision=precision),
                fuses_epilogue=True,
            )
            for precision in (EXACT, TF32)
        ),
    ),
)
