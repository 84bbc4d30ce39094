"""Plans: candidates bound to a problem and its weights; the only module that joins algorithms and executors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.arguments import one_of, truth, whole_number
from convbench.arrays import as_array, on_host
from convbench.epilogue import ACTIVATIONS, Epilogue
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS, PROCESSORS
from convbench.executors.cluster import ON_THIS_MACHINE, Cluster
from convbench.peers import LIBRARY, PEERS
from convbench.plans.candidate import Candidate
from convbench.plans.distributed import DistributedPlan
from convbench.plans.forms import Plan
from convbench.plans.peers import PeerPlan
from convbench.precision import EXACT, PRECISIONS, TF32
from convbench.problem import Problem

__all__ = [
    "Candidate",
    "DistributedPlan",
    "PeerPlan",
    "Plan",
    "allowed_precision",
    "as_epilogue",
    "as_problem",
    "bind",
    "checked_cores",
    "memory",
    "plan",
]


def bind(problem: Problem, weights: ArrayLike, candidate: Candidate) -> Plan | PeerPlan | DistributedPlan:
    """Bind a candidate for a sweep: one of our algorithms as a `Plan` or a `DistributedPlan`, a peer as a `PeerPlan`.

    The weights must not change as long as the plan is used: a form that reads them unpacked makes no copy.
    """
    if candidate.algorithm in PEERS:
        return PeerPlan(problem, weights, candidate)
    if EXECUTORS[candidate.executor].distributes:
        return DistributedPlan(problem, weights, candidate)
    return Plan(problem, weights, candidate, borrow=True)


def memory(executor: str) -> str:
    """The kind of memory in which an executor allocates its arrays."""
    return "private" if executor == LIBRARY else EXECUTORS[executor].memory


def plan(  # over 40 lines: the documentation of its arguments
    problem: Problem | str,
    weights: ArrayLike,
    *,
    algorithm: str = "direct",
    executor: str = "threads",
    cores: int = 1,
    allow_tf32: bool = False,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    arithmetic: str = "exact",
    threads_per_worker: int = 1,
    workers_on: str = "cpu",
    scheduler: str = "",
    scheduler_file: str = "",
) -> Plan | DistributedPlan:
    """Bind a candidate to a problem and its weights.

    Args:
        problem: The problem, or its descriptor as a string, see `Problem.parse`.
        weights: Shape `problem.weights_shape`, or (filters, rows, columns) for one channel per group. Copied.
        algorithm: One of `convbench.algorithms.ALGORITHMS`.
        executor: One of `convbench.executors.EXECUTORS`.
        cores: Number of cores; 1 for executors that do not scale.
        allow_tf32: Equivalent to `arithmetic="tf32"`: a GPU may round the factors of float32 products to TF32.
        bias: Shape (out_channels,), added to each output channel without a further pass over the output.
        activation: "relu" makes negative outputs zero, in the same pass; None for no activation.
        arithmetic: Precision that products may be computed in, one of `convbench.precision.PRECISIONS`. Products are
            exact where executor, dtype or form does not support it; the plan's `precision` is the one in use.
        threads_per_worker: Threads that each worker of `dask` or `mpi` computes on; `cores` is the number of workers.
        workers_on: "cpu", or "gpu" where each worker has a GPU of its machine.
        scheduler: Address of Dask's scheduler; default: the one that Dask's configuration names, or else a cluster that
            is started on this machine.
        scheduler_file: Path of the file that tells that address.

    Returns:
        The plan, to be called as `plan(x, out=out)` and closed when done.

    Raises:
        RequestError: A name, a shape or the number of cores is invalid.
        UnavailableError: The candidate cannot compute the problem on this machine, or memory is insufficient.
    """
    problem = as_problem(problem)
    cores = whole_number("cores", cores, least=1) if EXECUTORS[executor].distributes else checked_cores(cores)
    if cores > 1 and not EXECUTORS[executor].scales:
        raise RequestError(f"cores={cores} is not allowed; give 1, which is all {executor} uses")
    precision = allowed_precision(arithmetic, allow_tf32=allow_tf32)
    threads, processor = (
        whole_number("threads_per_worker", threads_per_worker, least=1),
        one_of("workers_on", workers_on, PROCESSORS),
    )
    cluster = ON_THIS_MACHINE
    if EXECUTORS[executor].distributes:
        cluster = Cluster(threads, processor, scheduler, scheduler_file)
    candidate = Candidate(ALGORITHMS.check(algorithm), executor, cores, precision, cluster)
    epilogue = as_epilogue(problem, bias, activation)
    try:
        if EXECUTORS[executor].distributes:
            return DistributedPlan(problem, weights, candidate, epilogue=epilogue)
        return Plan(problem, weights, candidate, epilogue=epilogue)
    except MemoryError:
        raise UnavailableError(f"there is no memory for {candidate} to compute {problem}; use another form") from None


def allowed_precision(arithmetic: str, *, allow_tf32: bool) -> str:
    """The name of the precision that `arithmetic` and `allow_tf32` together allow.

    Raises:
        RequestError: The precision is unknown, or the two arguments contradict each other.
    """
    name = PRECISIONS.check(arithmetic)
    if not truth("allow_tf32", allow_tf32):
        return name
    if name not in (EXACT.name, TF32.name):
        raise RequestError(f"arithmetic={name} and allow_tf32=True contradict one another; give one of them")
    return TF32.name


def checked_cores(cores: int) -> int:
    """Validate a number of cores.

    Raises:
        RequestError: It is not a whole number of at least 1, or exceeds `machine.most_cores`.
    """
    return whole_number("cores", cores, least=1, most=machine.most_cores())


def as_problem(problem: Problem | str) -> Problem:
    """A problem as it is, or from its descriptor."""
    if isinstance(problem, str):
        return Problem.parse(problem)
    if not isinstance(problem, Problem):
        raise RequestError(f"problem={shown(problem)} is none; give a Problem, or a descriptor such as 'ic3ih32oc8kh3'")
    return problem


def as_epilogue(problem: Problem, bias: ArrayLike | None, activation: str | None) -> Epilogue:
    """The epilogue of a problem; the bias is copied.

    Raises:
        RequestError: The shape of the bias is not (out_channels,), or the activation is unknown.
    """
    relu = activation is not None and one_of("activation", activation, ACTIVATIONS) == "relu"
    if bias is None:
        return Epilogue(None, relu)
    shift = np.array(as_array("bias", on_host("bias", bias)), problem.dtype)
    if shift.shape != (problem.out_channels,):
        raise RequestError(
            f"bias has shape {shift.shape}; ({problem.out_channels},) is needed, one for each output channel"
        )
    return Epilogue(shift, relu)
