"""Direct convolution: sums over taps, for one register block of outputs at a time."""

from convbench.algorithms import Algorithm, Implementation, forward_only
from convbench.algorithms.direct import cost, gpu, host

DIRECT = Algorithm(
    supports=forward_only,
    implementations=(
        Implementation("numba", host.prepare, footprint=host.footprint, cost=cost.cost, fuses_epilogue=True),
        Implementation("gpu", gpu.prepare, supports=gpu.supports, footprint=gpu.footprint, fuses_epilogue=True),
    ),
)
