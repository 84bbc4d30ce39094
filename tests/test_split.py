"""Problems cut into parts: put together, the parts' convolutions are the whole's, and nothing is computed twice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_problem import problems

from convbench.errors import RequestError
from convbench.measure.reference import convolve
from convbench.problem import Problem
from convbench.problem.split import AXES

MOST_PRODUCTS = 2**22
LAYER = Problem.parse("mb3ic4ih14oc6oh14kh3ph1")


def whole_numbers(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Input and weights whose sums are exact in every order."""
    random = np.random.default_rng(0)
    shapes = (problem.input_shape, problem.weights_shape)
    return tuple(random.integers(-4, 5, shape).astype(problem.dtype) for shape in shapes)


@given(problems(), st.integers(1, 12), st.sampled_from([None, *AXES]))
def test_the_parts_put_together_are_the_whole(problem, parts, axis):
    problem = dataclasses.replace(problem, direction="forward")
    assume(problem.multiply_adds <= MOST_PRODUCTS)
    x, weights = whole_numbers(problem)
    out, computed = np.full(problem.output_shape, np.nan), np.zeros(problem.output_shape, int)
    found = problem.split(parts, axis)
    assert 1 <= len(found) <= parts
    for part in found:
        its_x, its_weights = x[part.input], weights[part.weights]
        assert its_x.shape == part.problem.input_shape
        assert its_weights.shape == part.problem.weights_shape
        assert out[part.output].shape == part.problem.output_shape
        shipped = its_x.nbytes + its_weights.nbytes + out.astype(problem.dtype)[part.output].nbytes
        assert part.problem.bytes == shipped
        out[part.output] = convolve(part.problem, its_x, its_weights)
        computed[part.output] += 1
    assert (computed == 1).all()
    assert np.array_equal(out, convolve(problem, x, weights))
    assert sum(part.problem.multiply_adds for part in found) == problem.multiply_adds


@given(problems(), st.integers(1, 12), st.sampled_from(AXES))
def test_parts_differ_by_one_unit_at_most(problem, parts, axis):
    problem = dataclasses.replace(problem, direction="forward")
    found = problem.split(parts, axis)
    work = [part.problem.multiply_adds for part in found]
    unit = (
        problem.multiply_adds
        // {
            "images": problem.batch,
            "rows": problem.output_height,
            "filters": problem.groups if problem.groups >= parts else problem.out_channels,
        }[axis]
    )
    assert max(work) - min(work) in (0, unit)


@pytest.mark.parametrize(
    ("descriptor", "parts", "axis", "sizes"),
    [
        ("mb8ic4ih14oc6oh14kh3ph1", 3, None, [(3, 14, 6), (3, 14, 6), (2, 14, 6)]),  # images, as there are enough
        ("mb3ic4ih14oc6oh14kh3ph1", 4, None, [(3, 4, 6), (3, 4, 6), (3, 3, 6), (3, 3, 6)]),  # rows
        ("mb1ic4ih3oc16kh3", 4, None, [(1, 1, 4)] * 4),  # filters: there is one row of outputs
        ("mb2ic4ih3oc3kh3", 8, None, [(2, 1, 1)] * 3),  # as many as there can be
        ("g4mb1ic8ih5oc12kh3", 3, "filters", [(1, 3, 6), (1, 3, 3), (1, 3, 3)]),  # whole groups
        ("g2mb1ic4ih5oc6kh3", 5, "filters", [(1, 3, 2), (1, 3, 1)] * 2),  # two of each group's filters
        ("g64mb1ic64ih5oc64kh3", 200, "filters", [(1, 3, 1)] * 64),  # depthwise
        ("mb3ic4ih14oc6oh14kh3ph1", 9, "images", [(1, 14, 6)] * 3),
    ],
)
def test_what_is_cut(descriptor, parts, axis, sizes):
    """Sizes are (batch, output rows, filters)."""
    found = Problem.parse(descriptor).split(parts, axis)
    assert [(p.problem.batch, p.problem.output_height, p.problem.out_channels) for p in found] == sizes


def test_neighbouring_rows_share_what_the_kernel_spans():
    upper, lower = LAYER.split(2, "rows")
    assert (upper.input[2], lower.input[2]) == (slice(0, 8), slice(6, 14))
    assert (upper.problem.padding, lower.problem.padding) == (((1, 0), (1, 1)), ((0, 1), (1, 1)))


def test_rows_that_lie_in_the_padding_stay_with_rows_that_do_not():
    problem = Problem(height=2, width=3, out_channels=1, kernel_height=1, kernel_width=1, padding=((4, 4), (0, 0)))
    assert problem.output_height == 10
    assert [part.output[2] for part in problem.split(9, "rows")] == [slice(0, 5), slice(5, 10)]


def test_padding_on_one_side_alone_is_that_of_the_outer_part():
    problem = dataclasses.replace(LAYER, padding=((2, 0), (0, 0)))
    assert [part.problem.padding[0] for part in problem.split(3, "rows")] == [(2, 0), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("change", "words", "arguments"),
    [
        ({"direction": "backward_data"}, "direction='backward_data' cannot be split", (2,)),
        ({}, "parts=0 is not allowed", (0,)),
        ({}, "parts=1.5 is not allowed", (1.5,)),
        ({}, "axis='columns' is not known; choose from images, rows, filters", (2, "columns")),
    ],
)
def test_what_cannot_be_split_is_one_clear_error(change, words, arguments):
    with pytest.raises(RequestError) as error:
        dataclasses.replace(LAYER, **change).split(*arguments)
    assert words in str(error.value)
