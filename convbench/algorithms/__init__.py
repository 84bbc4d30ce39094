"""What is computed: a file or a folder for each form of the convolution, none of which knows of parallelism."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from convbench.epilogue import NO_EPILOGUE
from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.epilogue import Epilogue
    from convbench.problem import Problem

SCRATCH_BYTES: Final = 2**26  # of a worker, that nobody minds; beyond that ...
SCRATCH_SHARE: Final = 4  # ... so many times the bytes of input, weights and output together

Supports = Callable[["Problem"], str | None]
"""Says why a problem cannot be done; None where it can."""

Prepare = Callable[["Problem", "NDArray[Any]", "Epilogue"], Any]
"""Packs weights, of `problem.weights_shape` and `problem.dtype`; returns `Work` on the host, `GpuWork` on a GPU."""


@dataclass(frozen=True)
class Footprint:
    """The memory that a form needs beside input, weights as they are given, and output.

    Attributes:
        scratch_bytes: Of each worker.
        weights_bytes: Of the packed weights, once; 0 where weights are used as they are.
        packing_bytes: While weights are packed, beside them and before there is any scratch.
        workspace_bytes: Of what one phase leaves for the next, once for all workers.
    """

    scratch_bytes: int
    weights_bytes: int
    packing_bytes: int = 0
    workspace_bytes: int = 0

    def total(self, workers: int) -> int:
        """The most that is taken at a time, with so many workers."""
        return self.weights_bytes + max(workers * self.scratch_bytes + self.workspace_bytes, self.packing_bytes)


def any_problem(_: Problem) -> None:
    """No reason against any problem."""


@dataclass(frozen=True)
class Implementation:
    """One form of the convolution on one backend, in one precision.

    Attributes:
        backend: What it is compiled by, which executors name: "numba" or "gpu".
        prepare: Packs weights and returns the work to be done.
        precision: What products are computed in, from `PRECISIONS`.
        supports: Why it cannot do a problem that the form as such can.
        footprint: The memory that a problem needs, told without packing its weights.
        fuses_epilogue: Whether `prepare` heeds the epilogue; if not, it is a phase of its own after the others, which
            only the host has.
    """

    backend: str
    prepare: Prepare
    precision: str = "exact"
    supports: Supports = any_problem
    footprint: Callable[[Problem], Footprint] | None = None
    fuses_epilogue: bool = False


@dataclass(frozen=True)
class Algorithm:
    """One form of the convolution.

    Attributes:
        supports: Why the form cannot do a problem, whatever computes it.
        implementations: At most one for each backend and precision.
    """

    supports: Supports
    implementations: tuple[Implementation, ...]

    def find(self, backend: str, precision: str = "exact") -> Implementation | None:
        """The implementation for a backend and a precision, if there is one."""
        return next((one for one in self.implementations if (one.backend, one.precision) == (backend, precision)), None)

    def unsupported_reason(self, problem: Problem, backend: str, precision: str = "exact") -> str | None:
        """Why the form cannot do a problem on a backend in a precision; None where it can."""
        found = self.find(backend, precision)
        if found is None:
            return f"has no {backend} form" + ("" if precision == "exact" else f" in {precision}")
        return self.supports(problem) or found.supports(problem)

    def footprint(self, problem: Problem, backend: str = "numba", precision: str = "exact") -> Footprint:
        """The memory that a supported problem needs; an implementation that cannot tell packs zeros to find out."""
        found = self.find(backend, precision)
        if found is None:
            raise KeyError(backend, precision)
        if found.footprint is not None:
            return found.footprint(problem)
        import numpy as np

        weights = np.zeros(problem.weights_shape, problem.dtype)
        work = found.prepare(problem, weights, NO_EPILOGUE)
        packed = 0 if np.may_share_memory(work.weights, weights) else work.weights.nbytes
        item = work.dtype.itemsize
        workspace = getattr(work, "workspace_size", 0) * item
        return Footprint(work.scratch_size * item, packed, workspace_bytes=workspace)


def forward_only(problem: Problem) -> str | None:
    """Why a form that knows only the forward direction cannot do a problem."""
    return None if problem.direction == "forward" else f"has no {problem.direction} form"


def within_reason(footprint: Callable[[Problem], Footprint]) -> Supports:
    """A limit for implementations whose scratch can grow far beyond what a problem itself takes."""

    def supports(problem: Problem) -> str | None:
        needed, most = footprint(problem).scratch_bytes, max(SCRATCH_BYTES, SCRATCH_SHARE * problem.bytes)
        return None if needed <= most else f"would need {needed / 2**20:.0f} MiB of scratch for each worker"

    return supports


ALGORITHMS: Table[Algorithm] = Table(
    "algorithm",
    [
        Entry("naive", "convbench.algorithms.naive:NAIVE", "the textbook loops", by_default=False),
        Entry("direct", "convbench.algorithms.direct:DIRECT", "sums over taps, a block of filters at a time"),
        Entry("unrolled", "convbench.algorithms.unrolled:UNROLLED", "im2col band by band, then a matrix product"),
        Entry("winograd", "convbench.algorithms.winograd:WINOGRAD", "tiles transformed, for fewer products"),
        Entry("fft", "convbench.algorithms.fft:FFT", "Fourier transforms of tiles, for large kernels"),
    ],
)
