"""Plans under any caller: several threads, forks, interrupts at any moment, after they were closed."""

from __future__ import annotations

import copy
import gc
import itertools
import multiprocessing
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from callers import HOST, PROBLEM, bound, inputs_and_outputs, needs_fork
from conftest import data, script

import convbench
from convbench.errors import ConvbenchError, RequestError, UnavailableError
from convbench.executors.host import readable
from convbench.plans import Plan, plan
from convbench.problem import Problem

FORMS = ("direct", "unrolled", "winograd", "fft")


# -- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", HOST)
@pytest.mark.parametrize("algorithm", FORMS)
def test_four_threads_may_call_one_plan(algorithm, executor):
    with bound(executor, algorithm) as one:
        pairs = inputs_and_outputs(one, 4)

        def wrong(number: int) -> int:
            x, expected = pairs[number]
            return sum(not np.array_equal(one(x), expected) for _ in range(50))

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(wrong, range(4))) == [0] * 4


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_calls_on_one_core_run_side_by_side(executor):
    """A call that waits inside another's: with one call at a time, neither would end."""
    both = threading.Barrier(2, timeout=60)
    with plan(PROBLEM, data(PROBLEM)[1], executor=executor) as one:
        [compute] = one._runner._tiles

        def meet(*arguments: object) -> None:
            both.wait()
            compute(*arguments)

        one._runner._tiles = [meet]
        x, _ = data(PROBLEM)
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(one, [x, x])
        np.testing.assert_array_equal(first, second)


def test_different_plans_may_be_made_and_called_by_different_threads():
    def work(number: int) -> bool:
        x, weights = data(PROBLEM, number)
        with bound(HOST[number % 3], FORMS[number % 4], weights) as one:
            first = one(x).copy()
            return all(np.array_equal(one(x), first) for _ in range(5))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(24)))


# -- closed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", HOST)
def test_a_closed_plan_refuses_and_others_go_on(executor):
    x, _ = data(PROBLEM)
    with bound(executor) as other, bound(executor) as one:
        expected = other(x)
        one.close()
        one.close()
        for use in (lambda: one(x), one.threads, one.stage_ticks):
            with pytest.raises(RequestError, match="the plan is closed"):
                use()
        np.testing.assert_array_equal(other(x), expected)


def test_closing_while_others_call_is_right_or_an_error():
    x, _ = data(PROBLEM)
    for executor in HOST:
        with bound(executor) as other:
            expected = other(x)
            one = bound(executor)
            outcomes: list[bool] = []

            def call(one: Plan = one, expected: np.ndarray = expected, outcomes: list[bool] = outcomes) -> None:
                try:
                    while True:
                        outcomes.append(np.array_equal(one(x), expected))
                except RequestError:
                    return

            caller = threading.Thread(target=call)
            caller.start()
            while len(outcomes) < 20:
                assert caller.is_alive()
            one.close()
            caller.join(timeout=60)
            assert not caller.is_alive()
            assert all(outcomes)
            np.testing.assert_array_equal(other(x), expected)


def test_plans_that_nobody_closed_leave_nothing_in_the_workers():
    x, _ = data(PROBLEM)

    def open_files() -> int:
        gc.collect()
        with bound("processes") as one:
            one(x)
            one(x)
            return psutil.Process(one.pids[0]).num_fds()

    before = open_files()
    for _ in range(10):
        bound("processes")(x)
    assert open_files() <= before + 2


@pytest.mark.parametrize("executor", HOST)
def test_a_plan_cannot_be_copied_or_sent_elsewhere(executor):
    with bound(executor) as one:
        for use in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(RequestError, match="cannot be copied or pickled"):
                use(one)


# -- fork ---------------------------------------------------------------------------------------------------------


def in_a_child(step) -> object:
    """What a forked child computes."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as children:
        return children.apply_async(step).get(timeout=120)


def _conv2d_in_child() -> np.ndarray:
    x, weights = data(PROBLEM)
    return convbench.conv2d(x, weights, cores=2)


@needs_fork
def test_conv2d_works_in_a_forked_child():
    np.testing.assert_allclose(in_a_child(_conv2d_in_child), _conv2d_in_child(), rtol=1e-5, atol=1e-5)


_inherited: list[Plan] = []


def _call_inherited() -> tuple[np.ndarray, tuple[int, ...]]:
    x, _ = data(PROBLEM)
    out = _inherited[0](x)
    with ThreadPoolExecutor(3) as threads:
        for again in threads.map(_inherited[0], [x] * 9):
            np.testing.assert_array_equal(again, out)
    return out.copy(), _inherited[0].pids


@needs_fork
@pytest.mark.parametrize("executor", HOST)
def test_a_plan_made_before_a_fork_works_in_child_and_parent(executor):
    x, _ = data(PROBLEM)
    with bound(executor) as one:
        expected, pids = one(x).copy(), one.pids
        _inherited[:] = [one]
        try:
            out, child_pids = in_a_child(_call_inherited)
        finally:
            _inherited.clear()
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(one(x), expected)
        assert one.pids == pids, "the parent's workers are still there"
        assert not set(child_pids) & set(pids), "a child starts workers of its own"
    assert not [pid for pid in child_pids if psutil.pid_exists(pid) and _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(timeout=30)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired) as error:
        return isinstance(error, psutil.TimeoutExpired)
    return False


@needs_fork
@pytest.mark.parametrize("forks", [1, pytest.param(8, marks=pytest.mark.long)])
def test_a_fork_in_the_middle_of_a_call_leaves_no_lock_behind(forks):
    """The child is forked by one thread while another computes, and calls the same plans."""
    program = """
        import os, sys, threading
        import numpy as np
        from convbench import Problem, plan
        problem = Problem(height=150, width=200, channels=2, out_channels=10, kernel_height=5, kernel_width=5)
        random = np.random.default_rng(0)
        x, w = (random.standard_normal(s).astype("f4") for s in (problem.input_shape, problem.weights_shape))
        plans = [plan(problem, w, algorithm="direct", executor=e, cores=2) for e in ("threads", "processes")]
        expected = [one(x).copy() for one in plans]
        stop = False
        def busy(one):
            while not stop:
                one(x)
        threads = [threading.Thread(target=busy, args=(one,)) for one in plans]
        for thread in threads:
            thread.start()
        failed = 0
        for _ in range(int(sys.argv[1])):
            child = os.fork()
            if child == 0:
                right = all(np.allclose(one(x), e, atol=1e-4) for one, e in zip(plans, expected))
                os._exit(0 if right else 1)
            failed += os.waitpid(child, 0)[1] != 0
        stop = True
        for thread in threads:
            thread.join()
        print(failed, all(np.array_equal(one(x), e) for one, e in zip(plans, expected)))
    """
    done = script(program, forks)
    assert (done.stdout, done.returncode) == ("0 True\n", 0), done.stderr


# -- arrays -------------------------------------------------------------------------------------------------------


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.view()
    x.flags.writeable = False
    return x


def _unaligned(x: np.ndarray) -> np.ndarray:
    room = np.zeros(x.nbytes + 1, np.uint8)
    found = room[1:].view(x.dtype).reshape(x.shape)
    found[...] = x
    assert not found.flags.aligned
    return found


ARRAYS = {
    "read-only": _read_only,
    "from bytes": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "unaligned": _unaligned,
    "unaligned and read-only": lambda x: _read_only(_unaligned(x)),
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "in Fortran's order": np.asfortranarray,
    "every other number": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "with a stride of zero": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "a nested list": lambda x: x.tolist(),
    "of another dtype": lambda x: (100 * x).astype(np.int16),
    "a matrix's class": lambda x: x.view(type("Own", (np.ndarray,), {})),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("executor", HOST)
def test_arrays_of_any_layout_are_taken(executor, kind):
    x, weights = data(PROBLEM)
    given, given_weights = ARRAYS[kind](x), ARRAYS[kind](weights)
    plain, plain_weights = (np.array(array, np.float32) for array in (given, given_weights))
    with bound(executor, weights=plain_weights) as reference:
        expected = reference(plain).copy()
    with bound(executor, weights=given_weights) as one:
        np.testing.assert_array_equal(one(given), expected)
        np.testing.assert_array_equal(one(given), expected)
    x, weights = ARRAYS[kind](x), ARRAYS[kind](weights)
    found = convbench.conv2d(x, weights, bias=ARRAYS[kind](np.arange(10, dtype=np.float32)), algorithm="direct")
    assert found.shape == PROBLEM.output_shape


def test_read_only_memory_is_read_where_it_lies(tmp_path):
    """A file that is mapped for reading alone: a write to it would end the process."""
    x, _ = data(PROBLEM)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    if not mapped.flags.aligned:
        pytest.fail("NumPy aligns what it saves")
    with bound("serial") as one:
        seen = one._input(mapped)
        assert seen.ctypes.data == mapped.ctypes.data
        np.testing.assert_array_equal(one(mapped), one(x))


AS_THEY_LIE = {
    "plain": lambda x: x,
    "read-only": _read_only,
    "from bytes": ARRAYS["from bytes"],
    "every other image of two": lambda x: np.concatenate([x, x])[::2],
    "every other image of two, read-only": lambda x: _read_only(np.concatenate([x, x]))[::2],
}


@pytest.mark.parametrize("kind", AS_THEY_LIE)
def test_an_array_that_forms_can_read_is_read_where_it_lies(kind):
    given = AS_THEY_LIE[kind](data(PROBLEM)[0])
    seen, expected = readable(given, "float32"), given.copy()
    assert seen.ctypes.data == given.ctypes.data
    assert seen.flags.c_contiguous
    assert seen.flags.writeable, "compiled code takes no other type"
    assert (seen is given) == given.flags.writeable
    np.testing.assert_array_equal(seen, expected)
    memory = weakref.ref(given)
    del given
    assert memory() is not None, "it stays as long as it is looked at"
    np.testing.assert_array_equal(seen, expected)
    del seen
    assert memory() is None


@pytest.mark.parametrize(
    "kind",
    [
        *("unaligned", "unaligned and read-only", "of the other byte order", "in Fortran's order"),
        *("every other number", "backwards", "with a stride of zero", "of another dtype"),
    ],
)
def test_an_array_that_forms_cannot_read_is_copied_into_one_that_they_can(kind):
    given = ARRAYS[kind](data(PROBLEM)[0])
    seen = readable(given, "float32")
    assert not np.may_share_memory(seen, given)
    assert seen.dtype == np.float32
    assert seen.dtype.isnative
    assert (seen.flags.c_contiguous, seen.flags.aligned, seen.flags.writeable) == (True, True, True)
    np.testing.assert_array_equal(seen, given)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones(PROBLEM.input_shape, complex), "complex128"),
        (np.full(PROBLEM.input_shape, "1"), "<U1"),
        (np.full(PROBLEM.input_shape, None), "object"),
        (np.ma.masked_less(np.ones(PROBLEM.input_shape), 2), "masked"),
        ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
        (np.ones((0, 2, 24, 40)), "(0, 2, 24, 40)"),
        (np.ones((1, 1, 2, 24, 40)), "(1, 1, 2, 24, 40)"),
        (None, "object"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_one_clear_error(x, words):
    _, weights = data(PROBLEM)
    with bound("serial") as one, pytest.raises(RequestError) as error:
        one(x)
    assert words in str(error.value)
    with pytest.raises(ConvbenchError):
        convbench.conv2d(x, weights)
    with pytest.raises(ConvbenchError):
        convbench.conv2d(data(PROBLEM)[0], x)


def test_a_tensor_with_gradients_is_one_clear_error():
    class Tensor:
        """Refuses like PyTorch's."""

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")

    with pytest.raises(RequestError, match=r"x cannot be read as an array \(.*detach"):
        convbench.conv2d(Tensor(), np.ones((1, 2, 2)))


# -- conv2d -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"bias": np.ones(3)},
        {"bias": np.ones(10, complex)},
        {"bias": "one"},
        {"memory_limit": -1},
        {"memory_limit": 1.5},
        {"cores": 1.5},
        {"cores": True},
        {"cores": 10**9},
        {"stride": 2.5},
        {"padding": 1.5},
        {"groups": 1.0},
        {"algorithm": "indirect"},
        {"algorithm": 3},
    ],
    ids=str,
)
def test_nothing_is_written_where_an_argument_is_wrong(wrong):
    x, weights = data(PROBLEM)
    out = np.full(PROBLEM.output_shape, 7, np.float32)
    with pytest.raises(ConvbenchError):
        convbench.conv2d(x, weights, **{"out": out, **wrong})
    assert (out == 7).all()


def test_a_bias_may_lie_in_the_output():
    x, weights = data(PROBLEM)
    out = np.zeros(PROBLEM.output_shape, np.float32)
    out.ravel()[:10] = np.arange(10)
    expected = convbench.conv2d(x, weights, np.arange(10))
    np.testing.assert_array_equal(convbench.conv2d(x, weights, out.ravel()[:10], out=out), expected)


@pytest.mark.parametrize("algorithm", [None, "naive", "direct", "winograd"])
def test_an_output_may_lie_over_the_weights(algorithm):
    """They are packed, or copied, before anything is written."""
    x, weights = (array.astype(np.float32) for array in data(PROBLEM))
    expected = convbench.conv2d(x, weights, algorithm=algorithm)
    room = np.empty(max(expected.size, weights.size), np.float32)
    out, lying = room[: expected.size].reshape(expected.shape), room[: weights.size].reshape(weights.shape)
    lying[...] = weights
    np.testing.assert_array_equal(convbench.conv2d(x, lying, out=out, algorithm=algorithm), expected)


@pytest.mark.parametrize("limit", [0, 10_000, 100_000, 10**6, 10**9])
def test_no_memory_is_taken_before_it_is_known_to_be_allowed(limit, monkeypatch):
    """Each plan that is made keeps to the limit, its packed weights and a copy of the input counted."""
    from convbench.layer import operation

    made = []
    make = operation.Plan

    def watched(problem: Problem, weights: np.ndarray, candidate: object, **options: bool) -> Plan:
        made.append(candidate.memory(problem))
        return make(problem, weights, candidate, **options)

    monkeypatch.setattr(operation, "Plan", watched)
    x, weights = data(PROBLEM)
    for given, copied in ((x, 0), (np.asfortranarray(x), x.nbytes)):
        made.clear()
        try:
            convbench.conv2d(given, weights, memory_limit=limit)
        except RequestError as error:
            assert "is too little" in str(error)  # noqa: PT017
            assert not made
        else:
            assert [need + copied <= limit for need in made] == [True]


def test_where_memory_runs_out_the_next_form_is_taken(monkeypatch):
    from convbench.layer import operation

    make = operation.Plan

    def poor(problem: Problem, weights: np.ndarray, candidate: object, **options: bool) -> Plan:
        if candidate.algorithm != "naive":
            raise MemoryError
        return make(problem, weights, candidate, **options)

    x, weights = data(PROBLEM)
    expected = convbench.conv2d(x, weights, algorithm="naive")
    monkeypatch.setattr(operation, "Plan", poor)
    np.testing.assert_array_equal(convbench.conv2d(x, weights), expected)
    with pytest.raises(UnavailableError, match="there is no memory"):
        convbench.conv2d(x, weights, algorithm="direct")


def test_a_chosen_form_keeps_nan_where_it_belongs():
    x, weights = data(PROBLEM)
    x[0, 0, 10, 10] = np.nan
    expected = np.zeros(PROBLEM.output_shape, bool)
    expected[:, :, 8:11, 8:11] = True
    for algorithm, executor in itertools.product(("naive", "direct", "unrolled"), (1, 2)):
        y = convbench.conv2d(x, weights, algorithm=algorithm, cores=executor)
        np.testing.assert_array_equal(np.isnan(y), expected)


def test_a_plan_takes_a_descriptor():
    x, weights = data(PROBLEM)
    with plan(str(PROBLEM), weights, executor="serial") as one:
        assert one.problem == PROBLEM
        assert one(x).shape == PROBLEM.output_shape
    for wrong in (None, 3, {"height": 3}, "ic3"):
        with pytest.raises(RequestError, match="problem"):
            plan(wrong, weights)
