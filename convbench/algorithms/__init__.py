"""What is computed: one file for each form of the convolution, none of which knows of parallelism."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.problem import Problem

Prepare = Callable[["Problem", "NDArray[Any]"], Any]  # `Work` on the host, `DeviceWork` on a GPU


@dataclass(frozen=True)
class Algorithm:
    """One form of the convolution.

    Attributes:
        supports: Says why the form cannot do a problem; None where it can.
        prepare: For each flavour that the form has ("numba", "cupy", and "cupy-tf32", which may round the inputs of
            float32's products to TF32), the function that packs the weights, of
            `problem.weights_shape` and `problem.dtype`, and returns the work to be done.
        limits: For flavours that cannot do all of that, a function that says why they cannot do a problem.
    """

    supports: Callable[[Problem], str | None]
    prepare: Mapping[str, Prepare]
    limits: Mapping[str, Callable[[Problem], str | None]] = field(default_factory=dict)

    def obstacle(self, problem: Problem, flavour: str) -> str | None:
        """Why the form cannot do a problem with this flavour of tile; None where it can."""
        if flavour not in self.prepare:
            return f"has no {flavour} form"
        reason = self.supports(problem)
        return self.limits[flavour](problem) if reason is None and flavour in self.limits else reason


def forward_only(problem: Problem) -> str | None:
    """Why a form that knows only the forward direction cannot do a problem."""
    return None if problem.direction == "forward" else f"has no {problem.direction} form"


ALGORITHMS: Table[Algorithm] = Table(
    "algorithm",
    [
        Entry("naive", "convbench.algorithms.naive:NAIVE", "the textbook loops", by_default=False),
        Entry("direct", "convbench.algorithms.direct:DIRECT", "sums over taps, a block of kernels at a time"),
        Entry("unrolled", "convbench.algorithms.unrolled:UNROLLED", "im2col band by band, then a matrix product"),
        Entry("winograd", "convbench.algorithms.winograd:WINOGRAD", "tiles transformed, for fewer products"),
        Entry("fft", "convbench.algorithms.fft:FFT", "Fourier transforms of tiles, for large kernels"),
    ],
)
