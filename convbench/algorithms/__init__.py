"""What is computed: one file for each form of the convolution, none of which knows of parallelism."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.problem import Problem

SCRATCH_BYTES: Final = 2**26  # of a worker, that nobody minds; beyond that ...
SCRATCH_SHARE: Final = 4  # ... so many times the bytes of input, weights and output together

Prepare = Callable[["Problem", "NDArray[Any]"], Any]  # `Work` on the host, `DeviceWork` on a GPU


@dataclass(frozen=True)
class Footprint:
    """The memory that a form needs beside input, weights as they are given, and output.

    Attributes:
        scratch_bytes: Of each worker.
        weights_bytes: Of the packed weights, once; 0 where weights are used as they are.
        packing_bytes: While weights are packed, beside them and before there is any scratch.
    """

    scratch_bytes: int
    weights_bytes: int
    packing_bytes: int = 0

    def total(self, workers: int) -> int:
        """The most that is taken at a time, with so many workers."""
        return self.weights_bytes + max(workers * self.scratch_bytes, self.packing_bytes)


@dataclass(frozen=True)
class Algorithm:
    """One form of the convolution.

    Attributes:
        supports: Says why the form cannot do a problem; None where it can.
        prepare: For each flavour that the form has ("numba", "cupy", and "cupy-tf32", which may round the inputs of
            float32's products to TF32), the function that packs the weights, of
            `problem.weights_shape` and `problem.dtype`, and returns the work to be done.
        footprints: For flavours that can tell it without packing weights, the function that tells the memory needed.
        limits: For flavours that cannot do all of that, a function that says why they cannot do a problem.
    """

    supports: Callable[[Problem], str | None]
    prepare: Mapping[str, Prepare]
    footprints: Mapping[str, Callable[[Problem], Footprint]] = field(default_factory=dict)
    limits: Mapping[str, Callable[[Problem], str | None]] = field(default_factory=dict)

    def obstacle(self, problem: Problem, flavour: str) -> str | None:
        """Why the form cannot do a problem with this flavour of tile; None where it can."""
        if flavour not in self.prepare:
            return f"has no {flavour} form"
        reason = self.supports(problem)
        return self.limits[flavour](problem) if reason is None and flavour in self.limits else reason

    def footprint(self, problem: Problem, flavour: str = "numba") -> Footprint:
        """The memory that a problem needs that the form can do; a flavour that cannot tell packs zeros to find out."""
        if flavour in self.footprints:
            return self.footprints[flavour](problem)
        import numpy as np

        work = self.prepare[flavour](problem, np.zeros(problem.weights_shape, problem.dtype))
        return Footprint(work.scratch_size * work.dtype.itemsize, work.weights.nbytes)


def forward_only(problem: Problem) -> str | None:
    """Why a form that knows only the forward direction cannot do a problem."""
    return None if problem.direction == "forward" else f"has no {problem.direction} form"


def within_reason(footprint: Callable[[Problem], Footprint]) -> Callable[[Problem], str | None]:
    """A limit for forms whose scratch can grow far beyond what a problem itself takes."""

    def limit(problem: Problem) -> str | None:
        needed, most = footprint(problem).scratch_bytes, max(SCRATCH_BYTES, SCRATCH_SHARE * problem.bytes)
        return None if needed <= most else f"would need {needed / 2**20:.0f} MiB of scratch for each worker"

    return limit


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
