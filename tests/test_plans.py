"""Plans: one candidate bound to one problem, called again and again."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SHORT, data

from convbench.algorithms.direct import host as direct
from convbench.errors import RequestError, UnavailableError
from convbench.executors import EXECUTORS
from convbench.executors.threads import most_threads
from convbench.measure.reference import convolve
from convbench.plans import Candidate, plan
from convbench.problem import Problem


def test_leading_axes_of_length_one_may_be_left_out(small):
    x, weights = data(small)
    with plan(small, weights[:, 0], executor="serial") as bound:
        whole = bound(x)
        assert whole.shape == small.output_shape
        assert bound(x[0]).shape == bound(x[0, 0]).shape == small.output_shape[1:]
        np.testing.assert_array_equal(bound(x[0, 0]), whole[0])
        out = np.empty(small.output_shape[1:], small.dtype)
        assert bound(x[0, 0], out) is out
        np.testing.assert_array_equal(out, whole[0])


def test_the_plan_keeps_its_own_copy_of_the_weights(small):
    x, weights = data(small)
    with plan(small, weights, algorithm="naive", executor="serial") as bound:
        before = bound(x)
        weights[:] = 0
        np.testing.assert_array_equal(bound(x), before)


def test_getting_ready_is_timed_step_by_step(small):
    for executor, steps in (("serial", {"pack", "compile"}), ("processes", {"pack", "compile", "start"})):
        with plan(small, data(small)[1], executor=executor) as bound:
            assert set(bound.setup) == steps
            assert all(seconds >= 0 for seconds in bound.setup.values())


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_outputs_start_on_a_page_and_are_the_right_kind(executor, small):
    with plan(small, data(small)[1], executor=executor) as bound:
        for array, shape in ((bound.empty_input(), small.input_shape), (bound.empty_output(), small.output_shape)):
            assert array.shape == shape
            assert array.dtype == small.dtype
            assert array.ctypes.data % 4096 == 0
            assert array.flags.c_contiguous
            assert array.flags.writeable


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (np.empty((1, 2, 3, 4), np.float32), "(1, 2, 3, 4)"),
        (np.empty((1, 21, 18, 31), np.float64), "float64"),
        (np.empty((1, 21, 18, 62), np.float32)[..., ::2], "C-contiguous"),
        ([1, 2, 3], "list"),
    ],
)
def test_an_output_that_cannot_be_filled_is_refused(small, out, words):
    x, weights = data(small)
    with plan(small, weights, executor="serial") as bound, pytest.raises(RequestError) as error:
        bound(x, out)
    assert words in str(error.value)


def test_an_output_that_overlaps_the_input_is_refused():
    problem = Problem(height=8, width=8, out_channels=1, kernel_height=1, kernel_width=1)
    x, weights = data(problem)
    with plan(problem, weights, executor="serial") as bound, pytest.raises(RequestError, match="overlaps"):
        bound(x, x)


def test_wrong_shapes_and_names_are_named(small):
    x, weights = data(small)
    with plan(small, weights, executor="serial") as bound, pytest.raises(RequestError, match=r"\(1, 1, 19, 33\)"):
        bound(x[:, :, 1:])
    with pytest.raises(RequestError, match=r"\(20, 1, 3, 3\)"):
        plan(small, weights[1:])
    with pytest.raises(RequestError, match="choose from naive, direct, unrolled, winograd"):
        plan(small, weights, algorithm="indirect")
    with pytest.raises(RequestError, match="choose from serial, threads, processes, gpu"):
        plan(small, weights, executor="gpus")
    with pytest.raises(RequestError, match="cores=0"):
        plan(small, weights, cores=0)
    with pytest.raises(RequestError, match="all serial uses"):
        plan(small, weights, executor="serial", cores=2)
    beyond = most_threads() + 1
    with pytest.raises(RequestError, match=f"NUMBA_NUM_THREADS={beyond}"):
        plan(small, weights, executor="threads", cores=beyond)
    with pytest.raises(RequestError, match="from 1 to"):
        plan(small, weights, executor="processes", cores=10**6)


def test_short_work_is_computed_by_the_calling_thread_alone(small, monkeypatch):
    monkeypatch.setattr(direct, "SHORT", SHORT)
    long = ("mb1ic1ih40iw52oc16kh11kw11", "mb1ic4ih224oc1kh1sh16ph1")  # many multiply-adds, and few of a large input
    for problem, threads in ((small, 1), *((Problem.parse(one), 2) for one in long)):
        x, weights = data(problem)
        with plan(problem, weights, executor="threads", cores=2) as bound, plan(problem, weights) as alone:
            np.testing.assert_array_equal(bound(x), alone(x))
            assert bound.threads() == threads
    beyond = most_threads() + 1
    with pytest.raises(RequestError, match=f"NUMBA_NUM_THREADS={beyond}"):
        plan(small, data(small)[1], executor="threads", cores=beyond)


def test_a_gpu_that_is_not_there_is_a_reason_and_not_a_crash(small):
    reason = EXECUTORS["gpu"].available()
    unsupported_reason = Candidate("direct", "gpu", 1).unsupported_reason(small)
    assert unsupported_reason
    if reason is not None:
        assert unsupported_reason == reason
        with pytest.raises(UnavailableError, match="direct on gpu"):
            plan(small, data(small)[1], executor="gpu")


def test_two_plans_on_one_pool_do_not_disturb_each_other(small):
    x, weights = data(small)
    other = Problem(height=9, width=9, out_channels=3, kernel_height=2, kernel_width=2, dtype="float64")
    x2, weights2 = data(other)
    with (
        plan(small, weights, executor="processes", cores=2) as first,
        plan(other, weights2, algorithm="naive", executor="processes", cores=1) as second,
    ):
        for _ in range(3):
            np.testing.assert_allclose(first(x), convolve(small, x, weights), atol=1e-4)
            np.testing.assert_allclose(second(x2), convolve(other, x2, weights2), atol=1e-12)
