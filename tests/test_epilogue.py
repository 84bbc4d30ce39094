"""What a layer ends with: a bias and ReLU, in every form, on every executor of the host."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import data

from convbench import RequestError, plan
from convbench.algorithms import ALGORITHMS
from convbench.measure.reference import convolve
from convbench.precision import EXACT
from convbench.problem import Problem

ON_THE_HOST = ("serial", "threads", "processes")
PROBLEMS = {
    "filters that do not fill a block": "mb2ic3ih14iw13oc10kh3kw3ph1",
    "groups": "g3mb1ic6ih17iw40oc15kh3kw3ph1",
    "more channels, of a kernel that is no square": "mb2ic3ih20iw45oc21kh3kw5ph1",
    "one row of the kernel": "mb1ic2ih9iw50oc4kh1kw5",
    "large kernel": "mb1ic1ih40iw60oc9kh11kw11",
    "float64": "--dt=f64 mb1ic2ih20iw30oc5kh3kw3",
    "stride": "mb1ic2ih30iw30oc5kh3kw3sh2sw2",
}

AMONG_THE_QUICK = ("filters that do not fill a block", "groups")  # most tiles take seconds to compile


def cases():
    for algorithm, name in itertools.product(ALGORITHMS, PROBLEMS):
        problem = Problem.parse(PROBLEMS[name])
        if ALGORITHMS[algorithm].unsupported_reason(problem, "numba") is None:
            more = name not in AMONG_THE_QUICK
            yield pytest.param(algorithm, problem, id=f"{algorithm}, {name}", marks=[pytest.mark.long] * more)


def ended(out: np.ndarray, bias: np.ndarray | None, activation: str | None) -> np.ndarray:
    """A convolution's output with what comes after it, written out."""
    shifted = out if bias is None else out + bias[:, None, None]
    return shifted if activation is None else np.where(shifted < 0, 0, shifted)


@pytest.mark.parametrize(("algorithm", "problem"), list(cases()))
def test_bias_and_relu_are_applied_to_every_output(algorithm, problem):
    x, weights = data(problem)
    bias = np.random.default_rng(1).standard_normal(problem.out_channels).astype(problem.dtype) * 3
    plain = convolve(problem, x, weights)
    for shift, activation in ((bias, None), (None, "relu"), (bias, "relu")):
        expected = ended(plain, shift, activation)
        for executor in ON_THE_HOST:
            with plan(
                problem, weights, algorithm=algorithm, executor=executor, bias=shift, activation=activation
            ) as one:
                error = np.abs(one(x) - expected).max() / np.abs(plain).max()
                assert error <= 2 * EXACT.tolerance[problem.dtype], (executor, activation)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_an_epilogue_outputs_are_bit_by_bit_those_with_a_bias_of_zero(algorithm):
    problem = Problem.parse(PROBLEMS["filters that do not fill a block"])
    x, weights = data(problem)
    with (
        plan(problem, weights, algorithm=algorithm) as plain,
        plan(problem, weights, algorithm=algorithm, bias=np.zeros(problem.out_channels)) as shifted,
    ):
        np.testing.assert_array_equal(plain(x), shifted(x))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_stays_nan_under_relu(algorithm):
    problem = Problem.parse("mb1ic1ih20iw40oc9kh3kw3")
    x, weights = data(problem)
    x[..., 10, 20] = np.nan
    with plan(problem, weights, algorithm=algorithm, activation="relu") as one:
        out = one(x)
    assert np.isnan(out[..., 8:11, 18:21]).all()
    assert not (out < 0).any()


def test_a_negative_zero_and_infinities_end_as_they_should():
    problem = Problem.parse("mb1ic1ih4iw40oc1kh1kw1")
    x = np.full(problem.input_shape, 1.0, "float32")
    x[..., 0], x[..., 1], x[..., 2] = np.inf, -np.inf, -0.0
    with plan(problem, np.ones(problem.weights_shape), algorithm="direct", activation="relu") as one:
        out = one(x)
    assert np.isposinf(out[..., 0]).all()
    assert (out[..., 1:3] == 0).all()
    assert (out[..., 3:] == 1).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bias": np.zeros(3)}, "bias has shape (3,); (9,) is needed"),
        ({"bias": np.zeros((9, 1))}, "bias has shape (9, 1)"),
        ({"activation": "tanh"}, "activation='tanh' is not known; choose from relu"),
        ({"activation": True}, "activation=True is not known"),
    ],
)
def test_a_wrong_epilogue_is_one_clear_error(given, words):
    problem = Problem.parse("mb1ic1ih20iw40oc9kh3kw3")
    with pytest.raises(RequestError) as caught:
        plan(problem, data(problem)[1], **given)
    assert words in str(caught.value)


def test_the_bias_is_copied():
    problem = Problem.parse("mb1ic1ih20iw40oc9kh3kw3")
    x, weights = data(problem)
    bias = np.ones(9, "float32")
    with plan(problem, weights, bias=bias) as one:
        before = one(x).copy()
        bias[:] = 5
        np.testing.assert_array_equal(one(x), before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize(
    "descriptor",
    [PROBLEMS["groups"], pytest.param("g2mb1ic8ih20iw45oc14kh3kw5ph1", marks=pytest.mark.long)],
    ids=["groups", "groups of more channels"],
)
def test_errors_keep_to_the_bound_whatever_the_size_of_the_bias(algorithm, size, descriptor):
    """The hardest case: all addends of one sign, and biases that digits of the products vanish beside."""
    problem = Problem.parse(descriptor)
    x, weights = map(np.abs, data(problem))
    weights[3] = 0
    bias = np.full(problem.out_channels, size, "float32")
    with plan(problem, weights, algorithm=algorithm, bias=bias) as one:
        error = np.abs(one(x) - ended(convolve(problem, x, weights), bias, None)).max()
        largest = np.abs(x).max() * weights.sum((1, 2, 3)).max() + size
        assert error <= one.error_bound * largest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ["naive", "direct"])
def test_a_bias_may_be_of_any_kind_of_array(algorithm, dtype):
    problem = Problem(height=20, width=40, out_channels=9, kernel_height=3, kernel_width=3, dtype=dtype)
    x, weights = data(problem)
    bias = np.arange(9.0)
    read_only = bias.astype("float32")
    read_only.flags.writeable = False
    outs = []
    for given in (bias, read_only, bias.tolist(), bias.astype(">f8"), np.arange(9), np.repeat(bias, 2)[::2]):
        with plan(problem, weights, algorithm=algorithm, bias=given) as one:
            outs.append(one(x).copy())
    assert all(np.array_equal(out, outs[0]) for out in outs)
