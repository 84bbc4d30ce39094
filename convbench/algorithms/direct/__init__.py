"""Direct convolution: every output is summed tap by tap, a block of them at a time in registers."""

from convbench.algorithms import Algorithm, Implementation, forward_only
from convbench.algorithms.direct import gpu, host

DIRECT = Algorithm(
    supports=forward_only,
    implementations=(
        Implementation("numba", host.prepare, footprint=host.footprint, fuses_epilogue=True),
        Implementation("gpu", gpu.prepare, supports=gpu.supports, footprint=gpu.footprint, fuses_epilogue=True),
    ),
)
