"""Maps of one column, such as those of 1-D problems, as maps of one row: the same memory."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from convbench.problem.problem import Problem

PROBLEMS: Final = 256


def as_row(problem: Problem) -> Problem:
    """The problem itself, or the one whose only row is the problem's only column."""
    is_column = problem.width == problem.kernel_width == problem.output_width == 1 and problem.padding[1][0] == 0
    if not is_column or problem.height == 1 or problem.direction != "forward":
        return problem
    return _turned(problem)


@lru_cache(maxsize=PROBLEMS)
def _turned(problem: Problem) -> Problem:
    (stride, _), (dilation, _), (around, _) = problem.stride, problem.dilation, problem.padding
    return replace(
        problem,
        height=1,
        width=problem.height,
        kernel_height=1,
        kernel_width=problem.kernel_height,
        stride=(1, stride),
        padding=((0, 0), around),
        dilation=(1, dilation),
    )
