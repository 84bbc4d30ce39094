"""The check that every measured output goes through: what it lets pass and what it does not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conftest import PROBLEMS, data

from convbench.measure import reference as measured
from convbench.measure.reference import Reference, convolve, memory
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.rounding import of_sums

PROBLEM = Problem.parse("g2mb2ic4ih60iw70oc12kh3kw3ph1pw1")


@pytest.fixture(scope="module")
def checked() -> tuple[Reference, np.ndarray]:
    """A reference and the right output."""
    x, weights = data(PROBLEM)
    return Reference(PROBLEM, x, weights, seed=5), convolve(PROBLEM, x, weights).astype(np.float32)


def test_the_right_output_passes(checked, problem):
    reference, out = checked
    check = reference.check(out)
    assert check["passed"]
    assert check["max_relative_error"] < check["tolerance"] == 1e-5
    x, weights = data(problem)
    assert Reference(problem, x, weights, 0).check(convolve(problem, x, weights).astype(problem.dtype))["passed"]


def test_one_wrong_element_anywhere_fails(checked):
    reference, right = checked
    random = np.random.default_rng(0)
    for _ in range(50):
        out = right.copy()
        place = tuple(random.integers(0, out.shape))
        out[place] += 1e-3 * np.abs(right).max()
        assert not reference.check(out)["passed"], place


def test_errors_are_relative_to_the_largest_output_wherever_it_is():
    """Not to the largest of the points that are compared one by one, of which depthwise layers have far larger ones."""
    problem = Problem.parse("g2mb1ic2ih400iw400oc2kh1kw1")
    x, weights = (
        np.random.default_rng(0).uniform(-1, 1, (1, 2, 400, 400)).astype(np.float32),
        np.ones((2, 1, 1, 1), "f4"),
    )
    x[0, 1, 201, 203] = 1000
    for error, passes in ((0.009, True), (0.011, False)):
        out = x.copy()
        out[0, 0, 77, 78] += error
        assert Reference(problem, x, weights, seed=0).check(out)["passed"] == passes
    out = x.copy()
    out[0, 1, 201, 203] *= 1.001
    assert not Reference(problem, x, weights, seed=0).check(out)["passed"]


def cut(array: np.ndarray, bits: int) -> np.ndarray:
    """An array of float32 with so many bits of its significand cut off."""
    return (array.view(np.uint32) & np.uint32(2**32 - 2**bits)).view(np.float32)


def test_inputs_in_tf32_pass_where_that_is_allowed_and_nothing_worse_does(checked):
    reference, right = checked
    x, weights = data(PROBLEM)
    in_tf32 = convolve(PROBLEM, cut(x, 13), cut(weights, 13)).astype(np.float32)
    check = reference.check(in_tf32, TF32)
    assert check["passed"]
    assert check["max_relative_error"] < check["tolerance"] == 2e-3
    assert not reference.check(in_tf32)["passed"]
    in_bfloat16 = convolve(PROBLEM, cut(x, 16), cut(weights, 16)).astype(np.float32)
    assert not reference.check(in_bfloat16, TF32)["passed"]
    swapped = right[:, [1, 0, *range(2, 12)]]
    assert not reference.check(swapped, TF32)["passed"]
    without_a_tap = weights.copy()
    without_a_tap[..., 1, 1] = 0
    assert not reference.check(convolve(PROBLEM, x, without_a_tap).astype(np.float32), TF32)["passed"]


def test_swapped_kernels_fail(checked):
    reference, right = checked
    out = right.copy()
    out[:, [3, 4]] = out[:, [4, 3]]
    assert not reference.check(out)["passed"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_element_that_was_never_written_fails(checked, bad):
    reference, right = checked
    random = np.random.default_rng(1)
    for _ in range(20):
        out = right.copy()
        out[tuple(random.integers(0, out.shape))] = bad
        check = reference.check(out)
        assert not check["passed"]
        assert check["max_relative_error"] is None


def test_an_output_of_zeros_can_be_right():
    problem = Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3)
    x, weights = data(problem)
    out = np.zeros(problem.output_shape, np.float32)
    assert Reference(problem, x, weights * 0, 0).check(out)["passed"]
    assert not Reference(problem, x, weights, 0).check(out)["passed"]


STRIPS = ("everything", "more padding than image", "uneven padding", "stride and padding", "one row", "float64")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", STRIPS)
def test_a_reference_in_strips_is_that_of_the_whole(monkeypatch, name, rows):
    problem = Problem.parse(PROBLEMS[name])
    x, weights = data(problem)
    whole = convolve(problem, x, weights)
    monkeypatch.setattr(measured, "_STRIP", rows * problem.channels * problem.stride[0] * problem.width)
    seen, read = [], measured._padded_rows

    def watched(problem: Problem, image: np.ndarray, begin: int, count: int) -> np.ndarray:
        seen.append((begin, count))
        return read(problem, image, begin, count)

    monkeypatch.setattr(measured, "_padded_rows", watched)
    np.testing.assert_allclose(convolve(problem, x, weights), whole, rtol=0, atol=1e-12)
    begins = range(0, problem.output_height, rows)
    assert seen == [(begin, min(rows, problem.output_height - begin)) for begin in begins] * problem.batch
    assert Reference(problem, x, weights, 0).check(whole.astype(problem.dtype))["passed"]


@pytest.mark.parametrize("strip", [2**14, 2**22], ids=["in strips", "at once"])
@pytest.mark.parametrize("descriptor", ["mb1ic8ih200iw300oc4kh3kw3ph1pw1", "--dt=f64 g2mb2ic4ih200iw300oc6kh1kw3"])
def test_a_reference_takes_the_memory_that_was_counted_and_little_where_it_works_in_strips(
    monkeypatch, strip, descriptor
):
    problem = Problem.parse(descriptor)
    x, weights = data(problem)
    out = convolve(problem, x, weights).astype(problem.dtype)
    monkeypatch.setattr(measured, "_STRIP", strip)
    monkeypatch.setattr(measured, "_POINTS", 16)
    Reference(problem, x, weights, 0)  # what is imported for it is there now
    tracemalloc.start()
    try:
        assert Reference(problem, x, weights, 0).check(out)["passed"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_points = 2**17
    assert memory(problem) / 2 < peak <= memory(problem) + of_points
    in_strips = strip < 2**22
    assert (memory(problem) < 1.5 * x.nbytes) == in_strips


def test_the_tolerance_grows_with_the_taps_where_sums_of_so_many_are_off_by_more(monkeypatch):
    few, more, many = (Problem.parse(f"mb1ic{channels}ih4iw4oc2kh3kw3") for channels in (1, 10, 1600))
    tolerances = []
    monkeypatch.setitem(EXACT.tolerance, "float32", of_sums(few).estimate * 1.5)
    for problem in (few, more):
        x, weights = data(problem)
        check = Reference(problem, x, weights, 0).check(convolve(problem, x, weights).astype(np.float32))
        assert check["passed"]
        tolerances.append(check["tolerance"])
    assert tolerances == [EXACT.tolerance["float32"], of_sums(more).estimate]
    monkeypatch.undo()
    assert of_sums(more).estimate < EXACT.tolerance["float32"] < of_sums(many).estimate
