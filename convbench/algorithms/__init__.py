"""Forms of the convolution, a file or a folder for each; none of them deals with parallelism."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from convbench.epilogue import NO_EPILOGUE
from convbench.integers import ceil_div
from convbench.registry import Entry, Table
from convbench.runtime.loading import load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.epilogue import Epilogue
    from convbench.problem import Problem

SCRATCH_BYTES: Final = 2**26  # scratch of a worker that is always allowed; a larger one is allowed up to ...
SCRATCH_SHARE: Final = 4  # ... this multiple of the total size of input, weights and output

Supports = Callable[["Problem"], str | None]
"""Returns the reason why a problem is unsupported, or None if it is supported."""

Prepare = Callable[["Problem", "NDArray[Any]", "Epilogue"], Any]
"""Packs weights of `problem.weights_shape` and `problem.dtype`; returns `Work` on the host, `GpuWork` on a GPU."""


@dataclass(frozen=True)
class Footprint:
    """The memory that a form needs in addition to input, unpacked weights and output.

    Attributes:
        scratch_bytes: Scratch of each worker.
        weights_bytes: Packed weights, shared by all workers; 0 where weights are used unpacked.
        packing_bytes: Temporary memory of the packing, in addition to the packed weights; freed before scratch is
            allocated.
        workspace_bytes: Data that phases pass to later phases, shared by all workers.
    """

    scratch_bytes: int
    weights_bytes: int
    packing_bytes: int = 0
    workspace_bytes: int = 0

    def total(self, workers: int) -> int:
        """Peak memory in bytes with a given number of workers."""
        return self.weights_bytes + max(workers * self.scratch_bytes + self.workspace_bytes, self.packing_bytes)


@dataclass(frozen=True)
class Cost:
    """The work of one call, counted; the seconds of a count are what a machine is measured for, see `convbench.select`.

    Attributes:
        counts: How much of each kind of work all units together have, by name; none of what is not named.
        units: Number of units that the work is split into.
        shares: The share of each unit in the work, in the order of units; empty where all are alike.
        other_operations: Vector operations beside the "multiply-adds" of `counts`, such as those of transforms: what
            the form's own limit is computed from, see `convbench.analysis.own_limit`.
    """

    counts: Mapping[str, float]
    units: int
    shares: Sequence[float] = ()
    other_operations: float = 0.0

    def busiest(self, workers: int) -> float:
        """The share of the work that the busiest worker has.

        Each computes its own part of the units one by one and then takes over what is left of the others' parts, as in
        `executors.driver.claim`, which also has several claimed together.
        """
        if not self.shares:
            return ceil_div(self.units, workers) / self.units
        ends = [len(self.shares) * (part + 1) // workers for part in range(workers)]
        nexts, loads = [0, *ends[:-1]], [(0.0, worker) for worker in range(workers)]
        for _ in self.shares:
            load, worker = loads[0]
            part = next(
                part % workers for part in itertools.count(worker) if nexts[part % workers] < ends[part % workers]
            )
            heapq.heapreplace(loads, (load + self.shares[nexts[part]], worker))
            nexts[part] += 1
        return max(loads)[0]


def any_problem(_: Problem) -> None:
    """Supports every problem."""


def located(module: str, name: str) -> Callable[..., Any]:
    """A function by its location, imported when it is first called: programs on the host load no forms of a GPU."""

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(load(module), name)(*arguments, **options)

    return call


@dataclass(frozen=True)
class Implementation:
    """One form of the convolution on one backend, in one precision.

    Attributes:
        backend: The backend of the executors that run it, "numba" or "gpu".
        prepare: Packs weights and returns the work.
        precision: Precision of products, from `PRECISIONS`.
        supports: Reason why it does not support a problem that the form supports in general.
        footprint: The memory that a problem needs, computed without packing its weights; None if that is not possible.
        cost: The work of a call, computed from the problem alone; None for the multiply-adds and bytes of the problem.
        fuses_epilogue: Whether the work of `prepare` includes the epilogue; if not, the host runs it as an additional
            last phase, and a GPU does not support one.
    """

    backend: str
    prepare: Prepare
    precision: str = "exact"
    supports: Supports = any_problem
    footprint: Callable[[Problem], Footprint] | None = None
    cost: Callable[[Problem], Cost] | None = None
    fuses_epilogue: bool = False


@dataclass(frozen=True)
class Algorithm:
    """One form of the convolution.

    Attributes:
        supports: Reason why the form does not support a problem on any backend.
        implementations: At most one implementation for each backend and precision.
    """

    supports: Supports
    implementations: tuple[Implementation, ...]

    def find(self, backend: str, precision: str = "exact") -> Implementation | None:
        """The implementation for a backend and a precision; None if there is none."""
        return next((one for one in self.implementations if (one.backend, one.precision) == (backend, precision)), None)

    def unsupported_reason(self, problem: Problem, backend: str, precision: str = "exact") -> str | None:
        """Why a problem is unsupported on a backend in a precision; None if it is supported."""
        found = self.find(backend, precision)
        if found is None:
            return f"has no {backend} form" + ("" if precision == "exact" else f" in {precision}")
        return self.supports(problem) or found.supports(problem)

    def cost(self, problem: Problem, backend: str = "numba", precision: str = "exact") -> Cost:
        """The work of a call; that of the textbook loops for an unsupported problem, or without a `cost` function."""
        found = self.find(backend, precision)
        if found is not None and found.cost is not None and not (self.supports(problem) or found.supports(problem)):
            return found.cost(problem)
        return Cost(
            {"multiply-adds": problem.multiply_adds, "bytes": problem.bytes},
            problem.batch * problem.out_channels * problem.output_height,
        )

    def footprint(self, problem: Problem, backend: str = "numba", precision: str = "exact") -> Footprint:
        """The memory that a supported problem needs; found by packing zeros where there is no `footprint` function."""
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
    """Why a form that computes only the forward direction does not support a problem; None if it does."""
    return None if problem.direction == "forward" else f"has no {problem.direction} form"


def within_reason(footprint: Callable[[Problem], Footprint]) -> Supports:
    """A limit on scratch, for implementations whose scratch can be far larger than the problem's arrays."""

    def supports(problem: Problem) -> str | None:
        needed, most = footprint(problem).scratch_bytes, max(SCRATCH_BYTES, SCRATCH_SHARE * problem.bytes)
        return None if needed <= most else f"would need {needed / 2**20:.0f} MiB of scratch for each worker"

    return supports


as_row: Final[Callable[[Problem], Problem]] = located("convbench.problem.rows", "as_row")


def columns_as_rows(form: Implementation) -> Implementation:
    """An implementation on the host, with maps of one column computed as maps of one row.

    Vectors hold neighbouring pixels of a row, so that rows of one pixel would leave them empty.
    """

    def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Any:
        row = as_row(problem)
        if row is problem:
            return form.prepare(problem, weights, epilogue)
        from convbench.kernels.within import turned

        work = form.prepare(row, weights.reshape(row.weights_shape), epilogue)
        return replace(work, phases=tuple(map(turned, work.phases)))

    return replace(
        form,
        prepare=prepare,
        supports=lambda problem: form.supports(as_row(problem)),
        footprint=form.footprint and (lambda problem: form.footprint(as_row(problem))),  # type: ignore[misc]
        cost=form.cost and (lambda problem: form.cost(as_row(problem))),  # type: ignore[misc]
    )


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
