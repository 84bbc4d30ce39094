"""The work of an implementation, including the epilogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.errors import UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.algorithms import Implementation
    from convbench.epilogue import Epilogue
    from convbench.problem import Problem


def prepared(implementation: Implementation, problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Any:
    """The work of an implementation, with the epilogue fused or as an additional last phase.

    Raises:
        UnavailableError: The epilogue is not fused, and the backend has no such phase.
    """
    work = implementation.prepare(problem, weights, epilogue)
    if implementation.fuses_epilogue or epilogue.is_empty:
        return work
    if implementation.backend != "numba":
        raise UnavailableError(f"this form has no bias or activation on the {implementation.backend} backend")
    from convbench.kernels.ending import with_epilogue

    return with_epilogue(work, problem, epilogue)


def needed_bytes(work: Any, workers: int) -> int:
    """Bytes of the scratch of `workers` workers and of the shared workspace."""
    elements: int = workers * work.scratch_size + getattr(work, "workspace_size", 0)
    return elements * int(work.dtype.itemsize)
