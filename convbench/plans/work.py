"""The work of an implementation, with its epilogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.errors import UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.algorithms import Implementation
    from convbench.epilogue import Epilogue
    from convbench.problem import Problem


def prepared(implementation: Implementation, problem: Problem, weights: NDArray[Any], epilogue: Epilogue) -> Any:
    """The work of an implementation; an epilogue that it does not fuse is a phase after its own.

    Raises:
        UnavailableError: There are no such phases on its backend.
    """
    work = implementation.prepare(problem, weights, epilogue)
    if implementation.fuses_epilogue or epilogue.is_empty:
        return work
    if implementation.backend != "numba":
        raise UnavailableError(f"this form has no bias or activation on the {implementation.backend} backend")
    from convbench.kernels.ending import with_epilogue

    return with_epilogue(work, problem, epilogue)


def needed_bytes(work: Any, workers: int) -> int:
    """Scratch of so many workers, and what they share."""
    elements: int = workers * work.scratch_size + getattr(work, "workspace_size", 0)
    return elements * int(work.dtype.itemsize)
