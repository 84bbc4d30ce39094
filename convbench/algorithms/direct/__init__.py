"""Direct convolution: sums over taps, for one register block of outputs at a time."""

from convbench.algorithms import Algorithm, Implementation, columns_as_rows, forward_only, located
from convbench.algorithms.direct import cost, host

_GPU = "convbench.algorithms.direct.gpu"

DIRECT = Algorithm(
    supports=forward_only,
    implementations=(
        columns_as_rows(
            Implementation("numba", host.prepare, footprint=host.footprint, cost=cost.cost, fuses_epilogue=True)
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
