"""A candidate for computing a problem: algorithm, executor, number of cores and precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from convbench.algorithms import ALGORITHMS, Footprint, Implementation
from convbench.executors import EXECUTORS
from convbench.executors.cluster import ON_THIS_MACHINE, Cluster
from convbench.peers import LIBRARY, PEERS
from convbench.precision import EXACT, PRECISIONS, Precision
from convbench.problem import Problem

WORKERS_ON: Final = {"cpu": "threads", "gpu": "gpu"}
"""The executors that workers on a cluster compute on, by processor."""

ON_ONE_CORE: Final = "serial"
"""The one for workers of one thread."""

HOST: Final = "numba"
"""The backend whose forms' work is counted in vectors of the host."""


@dataclass(frozen=True)
class Candidate:
    """A combination of algorithm, executor, number of cores and precision.

    Attributes:
        algorithm: Name of one of our algorithms, or of a peer.
        executor: Name of the executor; `LIBRARY` for a peer that computes on its own threads.
        cores: Number of cores; of workers, for an executor that distributes parts.
        precision: Precision that products may be computed in, from `PRECISIONS`; exact where it is not supported.
        cluster: What is asked of the workers of an executor that distributes parts.
    """

    algorithm: str
    executor: str
    cores: int
    precision: str = "exact"
    cluster: Cluster = ON_THIS_MACHINE

    @property
    def threads(self) -> int:
        """Number of threads that compute: a worker on a cluster may have several."""
        return self.cores * self.cluster.threads

    @property
    def of_worker(self) -> Candidate:
        """How each worker computes its part."""
        threads, executor = self.cluster.threads, WORKERS_ON[self.cluster.processor]
        if EXECUTORS[executor].scales and threads == 1:
            executor = ON_ONE_CORE
        return replace(self, executor=executor, cores=threads, cluster=ON_THIS_MACHINE)

    @property
    def backend(self) -> str:
        """The backend that its work is compiled for."""
        return EXECUTORS[self._local].backend

    @property
    def _local(self) -> str:
        """The executor that computes, on each worker where there are several."""
        return self.of_worker.executor if EXECUTORS[self.executor].distributes else self.executor

    def unsupported_reason(self, problem: Problem) -> str | None:
        """Why the candidate cannot compute `problem` on this machine; None if it can."""
        reason = None if self.executor == LIBRARY else EXECUTORS[self.executor].available()
        if self.algorithm in PEERS:
            peer = PEERS[self.algorithm]
            return reason or peer.available() or peer.supports(problem)
        return reason or ALGORITHMS[self.algorithm].unsupported_reason(problem, self.backend)

    def precision_for(self, problem: Problem) -> str:
        """Name of the precision of products: `precision` where executor, dtype and form support it, otherwise "exact".

        A peer that is allowed to round may still compute exactly, at its discretion.
        """
        if self.executor == LIBRARY or not self._has(PRECISIONS[self.precision], problem):
            return EXACT.name
        return self.precision

    def _has(self, precision: Precision, problem: Problem) -> bool:
        executor = EXECUTORS[self._local]
        if precision.unsupported_reason(problem.dtype) or executor.unsupported_precision(precision):
            return False
        if self.algorithm in PEERS:
            return True
        form = ALGORITHMS[self.algorithm]
        return form.unsupported_reason(problem, executor.backend, precision.name) is None

    def implementation(self, problem: Problem) -> Implementation:
        """The implementation for a problem that one of our algorithms supports."""
        found = ALGORITHMS[self.algorithm].find(self.backend, self.precision_for(problem))
        assert found is not None  # noqa: S101  # `unsupported_reason` has checked this
        return found

    def memory(self, problem: Problem) -> int:
        """Bytes that one of our algorithms needs in addition to input, unpacked weights and output."""
        return self._footprint(problem).total(self.threads)

    def _footprint(self, problem: Problem) -> Footprint:
        backend, precision = self.backend, self.precision_for(problem)
        return ALGORITHMS[self.algorithm].footprint(problem, backend, precision)

    def work(self, problem: Problem) -> dict[str, float]:
        """What a call of one of our algorithms does, counted: what its own limit is computed from.

        Returns:
            The counts of `Cost`, of all workers together, and "other operations"; "busiest share", what the worker that
            has most has of it; "lanes", the elements of a vector; and "packed weight bytes". Empty where the form's
            work is not counted, as on GPUs.
        """
        implementation = self.implementation(problem)
        if implementation.cost is None or implementation.backend != HOST:
            return {}
        from convbench.kernels.vector import instruction_set

        cost = implementation.cost(problem)
        return {
            **cost.counts,
            "other operations": cost.other_operations,
            "busiest share": min(1.0, cost.busiest(self.threads)),
            "lanes": instruction_set().lanes(problem.dtype),
            "packed weight bytes": self._footprint(problem).weights_bytes,
        }

    def __str__(self) -> str:
        return f"{self.algorithm} on {self.executor} with {self.cores} core{'s' if self.cores > 1 else ''}"
