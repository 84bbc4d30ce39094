"""Random problems through every form on the host, none of which may touch anything but its arrays."""

from __future__ import annotations

import numpy as np
import pytest
import random_problems
from guarded import Guarded, fill
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench.algorithms import ALGORITHMS
from convbench.epilogue import NO_EPILOGUE
from convbench.errors import RequestError
from convbench.problem import Problem

LEAST_OF_THE_ESTIMATE = 0.1  # of the errors that are expected, some come near ...
MANY = 100  # ... where there are so many problems: of a few, on another processor, none need

SIDES = st.tuples(st.integers(0, 9), st.integers(0, 9))
SIZES = {
    "height": st.integers(1, 60),
    "width": st.integers(1, 60),
    "channels": st.integers(1, 12),
    "out_channels": st.integers(1, 24),
    "groups": st.sampled_from([1, 1, 1, 2, 3]),
    "batch": st.integers(1, 3),
    "kernel_height": st.integers(1, 13),
    "kernel_width": st.integers(1, 13),
    "stride": st.tuples(st.integers(1, 70), st.integers(1, 70)) | st.just(1),
    "dilation": st.tuples(st.integers(1, 70), st.integers(1, 70)) | st.just(1),
    "padding": st.tuples(SIDES, SIDES),
    "dtype": st.sampled_from(["float32", "float64"]),
}


def is_right(arguments: dict, number: int) -> None:
    """By the direct forms, whose code is the same for most problems; the other test has them all."""
    for name in ("channels", "out_channels"):
        arguments[name] *= arguments["groups"]
    try:
        problem = Problem(**arguments)
    except RequestError:
        assume(False)
    found = random_problems.check(problem, number, forms=("naive", "direct", "unrolled"))
    assert max(found["ratios"].values()) <= 1, found


@given(arguments=st.fixed_dictionaries(SIZES), number=st.integers(0, 2**31))
@settings(max_examples=2)
def test_small_problems_are_right_and_nothing_else_is_touched(arguments, number):
    is_right(arguments, number)


@pytest.mark.long
@given(arguments=st.fixed_dictionaries(SIZES), number=st.integers(0, 2**31))
@settings(max_examples=100)
def test_many_small_problems_are_right_and_nothing_else_is_touched(arguments, number):
    is_right(arguments, number)


@pytest.mark.parametrize(
    ("seed", "count"), [pytest.param(1, 2, marks=pytest.mark.long), pytest.param(2, MANY, marks=pytest.mark.long)]
)
def test_wild_problems_are_right_and_nothing_else_is_touched(seed, count):
    """In processes of their own; `python tests/random_problems.py --seed N` takes as many others as wanted."""
    found = random_problems.run(count, seed)
    assert (found["crashed"], found["beyond"]) == ([], [])
    for form in random_problems.FORMS:
        assert found["forms"][form] >= count / 10
        if count >= MANY:
            assert found["worst"][f"{form}, expected"] > LEAST_OF_THE_ESTIMATE, "the estimate would say nothing"


def test_the_guard_sees_what_is_written_beside_an_array():
    guarded = Guarded((5,), "float32", in_front=True)
    assert guarded.intact
    beside = np.lib.stride_tricks.as_strided(guarded.array, (6,), (4,))
    beside[5] = 0
    assert not guarded.intact


def test_a_tile_that_writes_beside_its_arrays_is_caught(small):
    """A unit too many writes behind the output: on a page without access, or on what is left of one."""
    work = ALGORITHMS["naive"].find("numba").prepare(small, np.zeros(small.weights_shape, "float32"), NO_EPILOGUE)
    x = np.zeros(small.input_shape, "float32")
    with pytest.raises(AssertionError, match="keep to its arrays"):
        fill(work, x, small.output_shape, in_front=True, cut=lambda units: [(0, units + 1)])
