"""A bounded number of plans for one set of weights, by the image's shape and dtype.

Nothing here is locked but the making of plans: a look-up is one of a dictionary, and a plan that is dropped is freed
when the last call that uses it returns, since that call holds a reference. So an exception at any moment, a signal
handler's call or a fork leaves everything usable.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from convbench import machine
from convbench.arrays import on_gpu
from convbench.cuda.streams import queue_of
from convbench.layer.operation import Operation, as_image, copied_bytes, first_plan, is_wide, no_memory, place
from convbench.problem import ITEM_SIZE
from convbench.runtime.loading import load

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from convbench.plans import Candidate, Plan
    from convbench.select import Choice

MOST_BYTES: Final = 2**28
"""Packed weights and scratch that the plans of one set of weights may hold together, unless one alone needs more."""


class _Process:
    """State of this process that a forked child must not inherit."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make a new lock: its holder does not exist in a child. Re-entrant: a signal handler may need a plan, too."""
        self.one_plan_at_a_time = threading.RLock()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.reset)

_now: Final = itertools.count()  # counts calls: the order in which plans were used


@dataclass(eq=False, slots=True)
class Kept:
    """A plan that is kept.

    Attributes:
        plan: The plan.
        choice: Why it is this one.
        is_always_right: Whether any array of its shape and dtype may be computed by it without a further look.
        used: When it was used last, by `_now`.
    """

    plan: Plan
    choice: Choice
    is_always_right: bool
    used: int = field(default_factory=_now.__next__)

    @property
    def bytes(self) -> int:
        """Memory that it holds while nobody calls it."""
        return self.plan.held_bytes


class Plans:
    """Plans for one set of weights and one operation.

    Attributes:
        operation: The operation.
    """

    def __init__(
        self, operation: Operation, most: int, *, borrow: bool, has_made: Callable[[], object] = lambda: None
    ) -> None:
        """Keep nothing yet.

        Args:
            operation: The operation.
            most: The largest number of plans.
            borrow: Whether a plan may keep a reference to the weights that it is made of.
            has_made: Called after a plan was made.
        """
        self.operation = operation
        self._most, self._borrow, self._has_made = most, borrow, has_made
        limit = operation.memory_limit
        self._most_bytes = MOST_BYTES if limit is None else min(limit, MOST_BYTES)
        self._kept: dict[Hashable, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Memory that the plans hold while nobody calls them."""
        return sum(kept.bytes for kept in list(self._kept.values()))

    @property
    def is_captured(self) -> bool:
        """Whether a graph on a GPU needs one of the plans."""
        return any(kept.plan.is_captured for kept in list(self._kept.values()))

    @property
    def used(self) -> int:
        """When a plan was used last, by a count of calls; -1 for never."""
        return max((kept.used for kept in list(self._kept.values())), default=-1)

    def call(self, x: ArrayLike, out: NDArray[Any] | None, weights: NDArray[Any]) -> NDArray[Any]:
        """Convolve an image with the weights, which are always the same."""
        if type(x) is np.ndarray:
            kept = self._kept.get((x.shape, x.dtype))
            if kept is not None and (kept.is_always_right or self._is_right(kept, x)):
                kept.used = next(_now)
                return kept.plan.of_array(x, out)
        image = as_image(x)
        with place(image):
            kept = self._found(image, weights)
            kept.used = next(_now)
            return kept.plan(image, out)

    def choice(self, shape: tuple[int, ...], dtype: np.dtype[Any], weights: NDArray[Any], *, on_gpu: bool) -> Choice:
        """The choice for an image on the host or on the current GPU that is read without a copy."""
        kept = self._kept.get((shape, dtype, *_gpu_and_stream()) if on_gpu else (shape, dtype))
        if kept is not None:
            return kept.choice
        problem = self.operation.problem(shape, weights, wide=is_wide(np.empty(0, dtype)))
        copied = 0 if dtype == problem.dtype else math.prod(shape) * ITEM_SIZE[problem.dtype]
        spent = copied_bytes(weights, problem.dtype) + copied
        return self.operation.choose(problem, on_gpu=on_gpu, packed=True, spent=spent)

    def clear(self) -> None:
        """Drop all plans."""
        self._kept.clear()

    def _is_right(self, kept: Kept, x: NDArray[Any]) -> bool:
        """Whether a plan has no more cores than the process may use by now, and no copy of `x` breaks the limit."""
        return kept.plan.candidate.cores <= machine.affinity() and (
            self.operation.memory_limit is None or (x.flags.c_contiguous and x.flags.aligned)
        )

    def _found(self, image: NDArray[Any], weights: NDArray[Any]) -> Kept:
        key: tuple[Hashable, ...] = (image.shape, image.dtype)
        is_on_gpu = on_gpu(image)
        if is_on_gpu:
            key += _gpu_and_stream()
        if self.operation.memory_limit is not None and not (image.flags.c_contiguous and _is_aligned(image)):
            key += ("copied",)
        kept = self._kept.get(key)
        if kept is not None and not is_on_gpu and kept.plan.candidate.cores > (cores := machine.affinity()):
            key += (cores,)
            kept = self._kept.get(key)
        return kept if kept is not None else self._made(key, image, weights)

    def _made(self, key: Hashable, image: NDArray[Any], weights: NDArray[Any]) -> Kept:
        with _process.one_plan_at_a_time:
            kept = self._kept.get(key)  # made meanwhile by another thread
            if kept is None:
                new = self._make(image, weights)
                kept = self._kept.setdefault(key, new)  # unless a signal handler has made one meanwhile
                self._drop_oldest(self._most, self._most_bytes, newest=kept)
        self._has_made()
        return kept

    def _make(self, image: NDArray[Any], weights: NDArray[Any]) -> Kept:
        what, is_on_gpu = self.operation, on_gpu(image)
        problem = what.problem(image.shape, weights, wide=is_wide(image))
        spent = copied_bytes(weights, problem.dtype) + copied_bytes(image, problem.dtype)
        choice = what.choose(problem, on_gpu=is_on_gpu, packed=True, spent=spent)

        def make_room(candidate: Candidate) -> None:
            if what.memory_limit is not None:
                self._drop_oldest(self._most - 1, what.memory_limit - spent - candidate.memory(problem))

        make = partial(first_plan, problem, weights, choice, what.epilogue(problem), self._borrow, make_room)
        plan = make()
        if plan is None:
            self._drop_oldest(0, 0)
            plan = make()
        if plan is None:
            raise no_memory(problem)
        alone = is_on_gpu or plan.candidate.cores == 1
        return Kept(plan, choice, is_always_right=alone and what.memory_limit is None)

    def _drop_oldest(self, most: int, most_bytes: int, newest: Kept | None = None) -> None:
        """Drop the plans that were used the longest ago, until the others are few and small enough.

        What a graph on a GPU has captured stays: nobody knows when it is launched for the last time.
        """
        while (found := self._kept.copy().items()) and (len(found) > most or self.bytes > most_bytes):
            others = [(kept.used, key) for key, kept in found if kept is not newest and not kept.plan.is_captured]
            if not others:
                return
            self._kept.pop(min(others, key=lambda one: one[0])[1], None)


def _gpu_and_stream() -> tuple[Hashable, ...]:
    """The current GPU and stream; a thread's own default stream has the pointer of all threads'.

    A plan on a GPU is called on one stream alone, so that its memory is not given to another stream before its kernels
    have run.
    """
    cuda = load("cupy").cuda
    return (cuda.runtime.getDevice(), *queue_of(cuda.get_current_stream()))


def _is_aligned(array: NDArray[Any]) -> bool:
    return bool(getattr(array.flags, "aligned", True))  # CuPy has no such flag
