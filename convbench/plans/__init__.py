"""The one place where an algorithm meets an executor: a candidate bound to a problem and its weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convbench import machine
from convbench.algorithms import ALGORITHMS
from convbench.arguments import one_of, truth, whole_number
from convbench.arrays import as_array, on_host
from convbench.epilogue import ACTIVATIONS, Epilogue
from convbench.errors import RequestError, UnavailableError, shown
from convbench.executors import EXECUTORS
from convbench.peers import LIBRARY, PEERS
from convbench.plans.candidate import Candidate
from convbench.plans.forms import Plan
from convbench.plans.peers import PeerPlan
from convbench.precision import EXACT, PRECISIONS, TF32
from convbench.problem import Problem

__all__ = [
    "Candidate",
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


def bind(problem: Problem, weights: ArrayLike, candidate: Candidate) -> Plan | PeerPlan:
    """What a sweep measures: a candidate of ours as a `Plan`, a peer as a `PeerPlan`."""
    return (PeerPlan if candidate.algorithm in PEERS else Plan)(problem, weights, candidate)


def memory(executor: str) -> str:
    """The kind of memory that an executor's arrays lie in best."""
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
) -> Plan:
    """Bind a candidate to a problem and its weights.

    Args:
        problem: What to compute; a string is read as a descriptor, see `Problem.parse`.
        weights: Shape `problem.weights_shape`; (K, rows, columns) will do for one channel a group. Copied.
        algorithm: One of `convbench.algorithms.ALGORITHMS`.
        executor: One of `convbench.executors.EXECUTORS`.
        cores: How many cores to use; executors that cannot be given a number take 1.
        allow_tf32: Short for `arithmetic="tf32"`: a GPU may round the factors of float32's products to TF32.
        bias: (out_channels,), added to each output channel; it costs no pass over the output.
        activation: "relu" makes negative outputs zero, in the same go; None leaves them.
        arithmetic: What products may be computed in: one of `convbench.precision.PRECISIONS`. Where executor, dtype or
            form does not have it, they are exact; the plan's `precision` says which it is.

    Returns:
        The plan, to be called as `plan(x, out=out)` and closed when done.

    Raises:
        RequestError: A name, a shape or the number of cores is wrong.
        UnavailableError: The candidate cannot compute the problem on this machine, or there is no memory for it.
    """
    problem = as_problem(problem)
    cores = checked_cores(cores)
    if cores > 1 and not EXECUTORS[executor].scales:
        raise RequestError(f"cores={cores} is not allowed; give 1, which is all {executor} uses")
    precision = allowed_precision(arithmetic, allow_tf32=allow_tf32)
    candidate = Candidate(ALGORITHMS.check(algorithm), executor, cores, precision)
    try:
        return Plan(problem, weights, candidate, epilogue=as_epilogue(problem, bias, activation))
    except MemoryError:
        raise UnavailableError(f"there is no memory for {candidate} to compute {problem}; use another form") from None


def allowed_precision(arithmetic: str, *, allow_tf32: bool) -> str:
    """The name of the precision that a caller allows, in either of two ways.

    Raises:
        RequestError: It is not known, or the two ways contradict one another.
    """
    name = PRECISIONS.check(arithmetic)
    if not truth("allow_tf32", allow_tf32):
        return name
    if name not in (EXACT.name, TF32.name):
        raise RequestError(f"arithmetic={name} and allow_tf32=True contradict one another; give one of them")
    return TF32.name


def checked_cores(cores: int) -> int:
    """A number of cores that makes sense.

    Raises:
        RequestError: It is no whole number from 1 up, or more than any use would be on this machine.
    """
    return whole_number("cores", cores, least=1, most=machine.most_cores())


def as_problem(problem: Problem | str) -> Problem:
    """A problem, or what its descriptor describes."""
    if isinstance(problem, str):
        return Problem.parse(problem)
    if not isinstance(problem, Problem):
        raise RequestError(f"problem={shown(problem)} is none; give a Problem, or a descriptor such as 'ic3ih32oc8kh3'")
    return problem


def as_epilogue(problem: Problem, bias: ArrayLike | None, activation: str | None) -> Epilogue:
    """What a problem ends with; the bias is copied.

    Raises:
        RequestError: The bias has another shape than (out_channels,), or the activation is not known.
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
