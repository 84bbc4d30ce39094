"""`Conv2d` and the plans that it and `conv2d` keep: what is computed, made once, dropped, and shared by whom."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import PROBLEMS, data, script, with_fake_gpu

import convbench
from convbench import Conv2d, machine
from convbench.errors import ConvbenchError, RequestError, UnavailableError
from convbench.layer import given_weights, operation, plans
from convbench.measure.reference import convolve
from convbench.plans import Plan
from convbench.problem import Problem

PROBLEM = Problem(height=30, width=41, channels=2, out_channels=10, kernel_height=5, kernel_width=5)
X, W = data(PROBLEM)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """Each test begins and ends without plans of `conv2d`."""
    given_weights._given.clear()
    yield
    given_weights._given.clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Every plan that is made from now on."""
    found: list[Plan] = []
    make = operation.Plan

    def watched(*arguments: Any, **options: Any) -> Plan:
        found.append(make(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(operation, "Plan", watched)
    return found


def image(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def fixed(array: np.ndarray) -> np.ndarray:
    """A copy that is read-only and owns its memory."""
    array = array.copy()
    array.setflags(write=False)
    return array


# -- what is computed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name == "one column")) for name in PROBLEMS]
)
def test_a_layer_computes_every_problem(name):
    problem = Problem.parse(PROBLEMS[name])
    x, weights = data(problem)
    how = {"stride": problem.stride, "padding": problem.padding, "dilation": problem.dilation, "groups": problem.groups}
    expected = convolve(problem, x, weights)
    for y in (Conv2d(weights, **how)(x), convbench.conv2d(x, fixed(weights), **how)):
        assert (y.dtype, y.shape) == (problem.dtype, problem.output_shape)
        assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.long
def test_one_layer_takes_images_of_any_size_and_number():
    layer = Conv2d(W, np.arange(10), padding=1, activation="relu")
    for shape in [(2, 30, 41), (1, 2, 30, 41), (3, 2, 30, 41), (2, 3, 3), (2, 64, 7), (4, 2, 9, 9)]:
        x = image(*shape)
        expected = convbench.conv2d(x, W, np.arange(10), padding=1, activation="relu")
        found = layer(x)
        assert_close(found, expected)  # they may choose another form, since one packs weights in every call
        np.testing.assert_array_equal(layer(x), found)
        out = np.empty_like(expected)
        assert layer(x, out) is out
        np.testing.assert_array_equal(out, found)
    one_channel = Conv2d(np.ones((3, 2, 2)))
    assert one_channel(np.ones((5, 6))).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("x", "w", "result"),
    [("float32", "float32", "float32"), ("uint8", "int16", "float32"), ("float32", "float64", "float64")],
)
def test_the_result_is_float64_where_an_argument_is(x, w, result):
    layer = Conv2d(np.ones((1, 2, 2), w))
    assert layer(np.ones((4, 4), x)).dtype == result
    assert layer(np.ones((4, 4))).dtype == "float64"
    assert layer.choice((4, 4)).problem.dtype == result


def test_images_of_any_kind_are_taken():
    layer, expected = Conv2d(W), convbench.conv2d(X, W)
    frozen = X.copy()
    frozen.setflags(write=False)
    kinds = [frozen, np.asfortranarray(X), X.astype(X.dtype.newbyteorder()), X.view(type("Own", (np.ndarray,), {}))]
    for x in kinds:
        np.testing.assert_array_equal(layer(x), expected)
    assert layer(X.tolist()).dtype == "float64"


def test_weights_and_bias_are_copied():
    weights, bias = W.copy(), np.arange(10.0)
    layer = Conv2d(weights, bias)
    expected = layer(X)
    weights[...], bias[...] = 0, 0
    np.testing.assert_array_equal(layer(X), expected)
    assert_close(layer(image(2, 14, 16)), convbench.conv2d(image(2, 14, 16), W, np.arange(10)))
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[...] = 0


@pytest.mark.parametrize("algorithm", [None, "naive", "direct"])
def test_an_output_may_lie_over_weights_that_were_packed(algorithm):
    room = np.empty(PROBLEM.out_channels * 26 * 37, np.float32)
    weights = room[: W.size].reshape(W.shape)
    weights[...] = W
    layer, expected = Conv2d(weights, algorithm=algorithm), convbench.conv2d(X, W, algorithm=algorithm)
    for _ in range(2):
        np.testing.assert_array_equal(layer(X, room.reshape(expected.shape[-3:])), expected[0])


WRONG = {
    "w": np.ones((2, 2)),
    "bias": np.ones(3),
    "stride": 0,
    "padding": "full",
    "dilation": 1.5,
    "groups": 3,
    "cores": 0,
    "memory_limit": -1,
    "algorithm": "indirect",
    "activation": "tanh",
    "arithmetic": "half",
    "plans": 0,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_clear_error_when_the_layer_is_made(name):
    with pytest.raises(ConvbenchError, match=name if name != "arithmetic" else "half") as error:
        Conv2d(**{"w": W, name: WRONG[name]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones(4), "x has 1 dimensions"),
        (np.ones((3, 9, 9)), "x has 3 channels; w needs 2"),
        (np.ones((9, 9)), "x has 1 channels; w needs 2"),
        (np.ones((2, 9, 9), complex), "complex128"),
        (np.ones((2, 3, 3)), "does not fit"),
        (np.ones((0, 2, 9, 9)), "batch=0"),
        (None, "object"),
    ],
)
def test_a_wrong_image_is_one_clear_error_and_leaves_nothing(x, words):
    layer = Conv2d(W)
    for _ in range(2):
        with pytest.raises(ConvbenchError) as error:
            layer(x)
        assert words in str(error.value)
    assert len(layer._plans) == 0


# -- what is chosen, and why --------------------------------------------------------------------------------------


def test_a_layer_tells_its_choice_for_an_image_or_a_shape(made):
    layer = Conv2d(W, algorithm="direct", cores=1)
    for x in (X, X.shape, list(X.shape), X[0].tolist()):
        assert str(layer.choice(x).candidate) == "direct on serial with 1 core"
        assert "direct" in layer.explain(x)
    assert not made
    layer(X)
    assert layer.choice(X) is layer.choice(X.shape)
    for wrong in ((2, 3, 4, 5, 6), (0, 2, 9, 9), "shape", (2, 3, 3)):
        with pytest.raises(ConvbenchError):
            layer.choice(wrong)


def test_cores_are_never_more_than_the_process_may_use(monkeypatch, made):
    layer = Conv2d(W, cores=machine.most_cores())
    x, fewer = fixed(X), fixed(W)
    for compute in (lambda: layer(x), lambda: convbench.conv2d(x, fewer, cores=machine.most_cores())):
        made.clear()
        compute()
        assert made[-1].candidate.cores <= machine.usable_cores()
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "affinity", lambda: 2)
    layer = Conv2d(W)
    expected = layer(X)
    assert made[-1].candidate.cores == 2
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    monkeypatch.setattr(machine, "affinity", lambda: 1)
    for _ in range(3):
        np.testing.assert_allclose(layer(X), expected, atol=1e-4)
    assert made[-1].candidate.cores == 1
    count = len(made)
    monkeypatch.setattr(machine, "affinity", lambda: 2)
    layer(X)
    assert len(made) == count, "both are kept"


@pytest.mark.parametrize("limit", [0, 10_000, 100_000, 10**6, 10**9])
def test_a_memory_limit_holds_for_all_plans_of_a_layer(limit, made):
    layer = Conv2d(W, memory_limit=limit, cores=1)
    for shape in [(2, 30, 41), (2, 14, 16), (2, 40, 40), (3, 2, 20, 20)]:
        for x, copied in ((image(*shape), 0), (np.asfortranarray(image(*shape)), 4 * np.prod(shape))):
            expected = convbench.conv2d(x, W)
            made.clear()
            try:
                found = layer(x)
            except RequestError as error:
                assert "is too little" in str(error)  # noqa: PT017
                assert not made
            else:
                assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()  # of another form, perhaps
                assert all(plan.candidate.memory(plan.problem) + copied <= limit for plan in made)
            assert layer._plans.bytes <= limit


# -- made once, and dropped ---------------------------------------------------------------------------------------


def test_a_plan_is_made_once_for_each_shape(made):
    layer = Conv2d(W)
    for _ in range(3):
        layer(X)
        layer(image(2, 14, 16))
    assert len(made) == 2


def test_the_plan_that_was_used_the_longest_ago_goes_first(made):
    layer = Conv2d(W, plans=2)
    first, second, third = image(2, 14, 16), image(2, 14, 17), image(2, 14, 18)
    for x in (first, second, first, third, first):
        layer(x)
    assert [plan.problem.width for plan in made] == [16, 17, 18]
    layer(second)
    assert [plan.problem.width for plan in made] == [16, 17, 18, 17]
    assert len(layer._plans) == 2


def test_plans_are_bounded_by_the_memory_that_they_hold(monkeypatch, made):
    Conv2d(W)(image(2, 14, 16))
    size = made[0].packed_bytes + made[0].scratch_bytes
    monkeypatch.setattr(plans, "MOST_BYTES", int(2.5 * size))
    layer = Conv2d(W)
    for width in range(16, 21):
        layer(image(2, 14, width))
        assert layer._plans.bytes <= plans.MOST_BYTES
    assert 1 < len(layer._plans) < 5
    monkeypatch.setattr(plans, "MOST_BYTES", size // 2)
    layer = Conv2d(W)
    for width in (16, 17):
        layer(image(2, 14, width))
        assert len(layer._plans) == 1, "the newest stays"


def test_a_plan_that_is_dropped_during_a_call_completes_it(monkeypatch):
    layer, begun, go_on = Conv2d(W, plans=1, cores=1), threading.Event(), threading.Event()
    expected = layer(X)
    [kept] = layer._plans._kept.values()
    compute = kept.plan._runner.__class__.__call__
    dropped = weakref.ref(kept.plan)

    def slowly(runner: Any, x: np.ndarray, out: np.ndarray) -> None:
        if runner is kept_runner():
            begun.set()
            assert go_on.wait(60)
        compute(runner, x, out)

    kept_runner = weakref.ref(kept.plan._runner)
    monkeypatch.setattr(type(kept.plan._runner), "__call__", slowly)
    del kept
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(layer, X)
        assert begun.wait(60)
        layer(image(2, 14, 16))
        assert [kept.plan.problem.width for kept in layer._plans._kept.values()] == [16]
        assert dropped() is not None
        go_on.set()
        np.testing.assert_array_equal(found.result(), expected)
    del found
    gc.collect()
    assert dropped() is None


def test_threads_that_ask_for_a_new_shape_at_once_get_one_plan(made):
    layer, weights, both = Conv2d(W), fixed(W), threading.Barrier(8)
    for compute in (layer, lambda x: convbench.conv2d(x, weights)):
        made.clear()

        def ask(_: int, compute: Callable[[np.ndarray], np.ndarray] = compute) -> np.ndarray:
            both.wait()
            return compute(X)

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, range(8)))
        assert len(made) == 1
        assert all(np.array_equal(y, found[0]) for y in found)


def test_a_layer_that_nobody_holds_leaves_no_plan(made):
    layer = Conv2d(W)
    layer(X)
    plan = weakref.ref(made.pop())
    assert plan() is not None
    del layer
    assert plan() is None, "without the garbage collector"


@pytest.mark.parametrize("close", [lambda layer: layer.close(), lambda layer: layer.__exit__(None, None, None)])
def test_a_closed_layer_says_so(close, made):
    layer = Conv2d(W)
    layer(X)
    plan = weakref.ref(made.pop())
    close(layer)
    layer.close()
    assert plan() is None
    for use in (lambda: layer(X), lambda: layer.explain(X), lambda: layer.choice((2, 9, 9))):
        with pytest.raises(RequestError, match="the layer is closed"):
            use()
    with copy.copy(layer) as again:
        np.testing.assert_array_equal(again(X), convbench.conv2d(X, W))


def test_where_memory_runs_out_other_plans_go_then_the_next_form_is_taken(monkeypatch):
    layer, make = Conv2d(W), operation.Plan
    expected = layer(X)
    scarce = image(2, 14, 16)
    plain = convbench.conv2d(scarce, W, algorithm="naive")

    def poor(problem: Problem, weights: np.ndarray, candidate: Any, *arguments: Any, **options: Any) -> Plan:
        if len(layer._plans) or candidate.algorithm != "naive":
            raise MemoryError
        return make(problem, weights, candidate, *arguments, **options)

    monkeypatch.setattr(operation, "Plan", poor)
    np.testing.assert_array_equal(layer(scarce), plain)
    assert [kept.plan.candidate.algorithm for kept in layer._plans._kept.values()] == ["naive"]

    def none(*_: Any, **__: Any) -> Plan:
        raise MemoryError

    monkeypatch.setattr(operation, "Plan", none)
    with pytest.raises(UnavailableError, match="there is no memory"):
        layer(X)
    monkeypatch.setattr(operation, "Plan", make)
    np.testing.assert_array_equal(layer(X), expected)


def test_a_layer_can_be_copied_and_pickled():
    layer = Conv2d(W, np.arange(10), stride=2, padding="same", cores=1, algorithm="direct", activation="relu", plans=3)
    expected = layer(X)
    for again in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301
        assert len(again._plans) == 0
        np.testing.assert_array_equal(again(X), expected)
        assert repr(again) == repr(layer)
    assert repr(layer) == (
        "<Conv2d: 10 filters of 2 x 5 x 5, stride=(2, 2), padding='same', cores=1, algorithm='direct', "
        "activation='relu', plans=3, with a bias>"
    )
    assert repr(Conv2d(np.ones((3, 2, 2)))) == "<Conv2d: 3 filters of 1 x 2 x 2>"


# -- the plans of conv2d ------------------------------------------------------------------------------------------


def test_weights_that_cannot_change_are_packed_once(made):
    weights = fixed(W)
    for _ in range(3):
        convbench.conv2d(X, weights)
    assert len(made) == 1
    for other in (W, fixed(W)[:], np.frombuffer(W.tobytes(), W.dtype).reshape(W.shape), W.tolist()):
        made.clear()
        for _ in range(2):
            np.testing.assert_allclose(convbench.conv2d(X, other), convbench.conv2d(X, weights), atol=1e-4)
        assert len(made) == 2, "others are packed at every call"
    assert len(given_weights._given) == 1


def test_each_argument_counts(made):
    weights = fixed(W)
    ways = [
        *({}, {"stride": 2}, {"stride": (2, 1)}, {"padding": 1}, {"padding": "same"}, {"dilation": 2}, {"cores": 1}),
        *({"algorithm": "direct"}, {"activation": "relu"}, {"memory_limit": 10**9}, {"bias": np.arange(10)}),
        *({"bias": np.arange(10)[::-1]}, {"bias": np.arange(10.0)}, {"arithmetic": "tf32"}, {"allow_tf32": True}),
    ]
    found = [convbench.conv2d(X, weights, **way) for way in ways]
    assert len(made) == len(ways)
    for way, y in zip(ways, found, strict=True):
        np.testing.assert_array_equal(convbench.conv2d(X, weights, **way), y)
        np.testing.assert_allclose(y, convbench.conv2d(X, W, **way), atol=1e-4)
    assert len([plan for plan in made if plan.candidate.precision == "exact"]) >= len(ways) - 2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"groups": 1}, {"groups": True}),
        ({"groups": 1}, {"groups": 1.0}),
        ({"stride": 1}, {"stride": 1.0}),
        ({"stride": (1, 1)}, {"stride": (1, True)}),
        ({"padding": ((1, 1), (1, 1))}, {"padding": ((1, 1), (1, 1.0))}),
        ({"cores": 1}, {"cores": True}),
        ({"allow_tf32": False}, {"allow_tf32": 0}),
    ],
)
def test_an_argument_that_is_wrong_is_so_after_a_right_one_that_equals_it(right, wrong):
    weights = fixed(W)
    convbench.conv2d(X, weights, **right)
    with pytest.raises(RequestError):
        convbench.conv2d(X, weights, **wrong)


def test_an_argument_of_any_type_is_taken_as_without_plans():
    weights = fixed(W)
    expected = convbench.conv2d(X, W, stride=2, padding=1, algorithm="direct")
    for stride, padding in [([2, 2], [1, 1]), (np.array(2), 1), (np.int64(2), (np.int8(1), 1)), ((2, 2), [[1, 1], 1])]:
        found = convbench.conv2d(X, weights, stride=stride, padding=padding, algorithm="direct")
        np.testing.assert_array_equal(found, expected)
    endless: list[Any] = [1]
    endless.append(endless)
    with pytest.raises(RequestError, match="stride"):
        convbench.conv2d(X, weights, stride=endless)


def test_weights_that_were_made_writable_are_packed_again(made):
    weights = fixed(W)
    convbench.conv2d(X, weights)
    weights.setflags(write=True)
    weights[0, 0, 0, 0] += 1
    expected = convbench.conv2d(X, weights)
    assert not given_weights._given
    weights.setflags(write=False)
    np.testing.assert_array_equal(convbench.conv2d(X, weights), expected)
    assert len(made) == 3


@pytest.mark.long
def test_weights_that_changed_altogether_between_two_calls_are_packed_again():
    weights = fixed(image(16, 8, 3, 3))
    x = image(8, 12, 12)
    before = convbench.conv2d(x, weights)
    weights.setflags(write=True)
    weights *= 2
    weights.setflags(write=False)
    np.testing.assert_allclose(convbench.conv2d(x, weights), 2 * before, rtol=1e-4, atol=1e-4)
    own = image(2, 2, 3, 3)
    view = own[:]
    own.setflags(write=False)
    x = image(2, 9, 9)
    before = convbench.conv2d(x, own)
    view[1, 1, 2, 2] += 1  # of an array of few numbers, every one is looked at
    assert not np.array_equal(convbench.conv2d(x, own), before)


def test_weights_that_were_given_another_shape_in_place_are_packed_again():
    weights, x = fixed(image(4, 2, 3, 3)), image(8, 9, 9)
    whole, halves = weights.copy(), weights.reshape(8, 1, 3, 3)
    assert convbench.conv2d(x, weights, groups=4).shape == (4, 7, 7)
    weights.shape = (8, 1, 3, 3)
    np.testing.assert_allclose(
        convbench.conv2d(x, weights, groups=8), convbench.conv2d(x, halves.copy(), groups=8), atol=1e-4
    )
    with pytest.raises(RequestError, match="x has 8 channels; w needs 4"):
        convbench.conv2d(x, weights, groups=4)
    weights.shape = whole.shape
    assert convbench.conv2d(x, weights, groups=4).shape == (4, 7, 7)


def test_weights_that_are_freed_take_their_plans_with_them(made):
    weights = fixed(W)
    convbench.conv2d(X, weights)
    plan = weakref.ref(made.pop())
    del weights
    assert plan() is None
    assert not given_weights._given


def test_the_garbage_collector_may_free_weights_at_any_moment():
    """Weights that are part of a cycle go while the plans of all are looked through."""
    x, before = image(2, 9, 9), gc.get_threshold()
    kept = [fixed(image(3, 2, 3, 3, seed=seed)) for seed in range(100)]
    gc.collect()
    gc.disable()
    try:
        for weights in kept:
            convbench.conv2d(x, weights, algorithm="direct", cores=1)
        cycle: list[Any] = [fixed(W)]
        convbench.conv2d(X, cycle[0], algorithm="direct", cores=1)
        cycle.append(cycle)
        del cycle
        pairs = [(number, number) for number in range(5000)]  # so that no freed ones are left to be used again
        gc.set_threshold(gc.get_count()[0] + 50)
        gc.enable()
        given_weights._drop_oldest()
    finally:
        gc.set_threshold(*before)
        gc.enable()
    gc.collect()
    assert len(given_weights._given) == len(kept) < len(pairs)


def test_an_array_where_another_was_is_not_taken_for_it():
    x, places = image(2, 9, 9), set()
    for seed in range(200):
        weights = fixed(image(3, 2, 3, 3, seed=seed))
        places.add(id(weights))
        y = convbench.conv2d(x, weights, algorithm="direct", cores=1)
        np.testing.assert_array_equal(y, convbench.conv2d(x, weights.copy(), algorithm="direct", cores=1))
    assert len(places) < 200, "some lay where others were"
    assert len(given_weights._given) <= 1


def test_plans_of_conv2d_are_bounded(monkeypatch, made):
    monkeypatch.setattr(given_weights, "MOST_PLANS", 4)
    every = [fixed(image(3, 2, 3, 3, seed=seed)) for seed in range(10)]
    x = image(2, 9, 9)
    for weights in [*every, *every]:
        convbench.conv2d(x, weights, cores=1)
        convbench.conv2d(x, every[0], cores=1)
        assert sum(len(kept) for given in given_weights._given.values() for kept in given.plans.values()) <= 4
    assert len([plan for plan in made if np.array_equal(plan.problem.width, 9)]) == 19, "the first stays all the time"
    monkeypatch.setattr(given_weights, "MOST_BYTES", 2 * (made[0].packed_bytes + made[0].scratch_bytes))
    convbench.conv2d(x, fixed(image(3, 2, 3, 3)), cores=1)
    assert sum(len(kept) for given in given_weights._given.values() for kept in given.plans.values()) <= 2


def test_requests_that_fail_leave_nothing_that_grows():
    weights = fixed(W)
    for limit in range(2 * given_weights.MOST_PLANS):
        with pytest.raises(RequestError, match="is too little"):
            convbench.conv2d(X, weights, memory_limit=limit, algorithm="winograd")
    assert len(given_weights._given[id(weights)].plans) <= given_weights.MOST_PLANS + 1


# -- on a GPU, and what is loaded ---------------------------------------------------------------------------------


def test_arrays_of_a_gpu_stay_there():
    done = with_fake_gpu(
        "-c",
        """
import cupy, numpy as np, convbench, copy
w = np.random.default_rng(0).standard_normal((10, 2, 5, 5)).astype("f4")
x = np.random.default_rng(1).standard_normal((2, 30, 41)).astype("f4")
there = cupy.asarray(x)
layer = convbench.Conv2d(w, np.arange(10), padding=1)
expected = layer(x)
print(layer.choice(there).executor, layer.choice(x.shape).executor)
calls = [lambda: layer(there)]
w.setflags(write=False)
calls.append(lambda: convbench.conv2d(there, w, np.arange(10), padding=1))
try:
    for call in calls:
        for _ in range(2):
            y = call()
            assert type(y) is cupy.ndarray
            np.testing.assert_allclose(cupy.asnumpy(y), expected, atol=1e-3)
    out = cupy.empty(expected.shape, "float32")
    assert layer(there, out) is out
    print(len(layer._plans))
except convbench.UnavailableError as error:
    print(error)
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpu "), done.stdout


def test_a_first_call_loads_no_more_than_it_needs():
    code = """
        import sys
        import numpy as np
        import convbench
        assert "numba" not in sys.modules
        convbench.conv2d(np.ones((2, 9, 9), "f4"), np.ones((4, 2, 3, 3), "f4"), cores=1)
        convbench.Conv2d(np.ones((4, 2, 3, 3), "f4"))(np.ones((2, 9, 9), "f4"))
        never = ("convbench.measure", "convbench.results", "convbench.report", "convbench.cli", "matplotlib",
                 "scipy.linalg", "pandas", "cupy", "convbench.cuda.launch", "convbench.algorithms.direct.gpu")
        print([name for name in never if name in sys.modules])
    """
    script(code)  # compiles what is not on disk yet, for which Numba loads all that it has
    done = script(
        f"""{code}
        import numba
        print(numba.njit(lambda a, b: a @ b)(np.eye(2), np.eye(2)).sum())
    """
    )
    assert done.stdout == "[]\n2.0\n", done.stderr
