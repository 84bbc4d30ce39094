"""What only a real GPU shows: every form, arrays of other libraries, streams, and memory; for `make gpu-check`."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PROBLEMS, data

import convbench
from convbench.algorithms import ALGORITHMS
from convbench.arrays import as_array
from convbench.executors import EXECUTORS
from convbench.measure.reference import convolve
from convbench.precision import PRECISIONS
from convbench.problem import Problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(EXECUTORS["gpu"].available() is not None, reason=str(EXECUTORS["gpu"].available())),
]

FURTHER = {
    "sums in parts": "mb4ic512ih7oc512kh3ph1",
    "channels that fill no step": "mb2ic40ih9oc70kh3ph1",
    "images of one pixel": "mb70ic64ih3oc130kh3",
    "strided products": "mb2ic64ih15oc200kh1sh2",
}
ALL = PROBLEMS | FURTHER
FORMS = [
    (name, one.precision) for name in ALGORITHMS for one in ALGORITHMS[name].implementations if one.backend == "gpu"
]


@pytest.mark.parametrize(("algorithm", "precision"), FORMS)
def test_a_form_is_right_on_every_problem(algorithm, precision):
    import cupy

    for name, descriptor in ALL.items():
        problem = Problem.parse(descriptor)
        if ALGORITHMS[algorithm].unsupported_reason(problem, "gpu", precision) is not None:
            continue
        x, weights = data(problem)
        expected = convolve(problem, x, weights)
        with convbench.plan(problem, weights, algorithm=algorithm, executor="gpu", arithmetic=precision) as plan:
            out = cupy.asnumpy(plan(cupy.asarray(x)))
        error = np.abs(out - expected).max() / np.abs(expected).max()
        assert error <= PRECISIONS[precision].tolerance[problem.dtype], (name, error)


def test_tensor_cores_round_and_nothing_else_does():
    import cupy

    for descriptor in ("mb2ic33ih9iw10oc50kh3kw3ph1pw1", "mb2ic64ih9iw10oc150kh3kw3ph1pw1", "mb8ic512ih7oc512kh3ph1"):
        problem = Problem.parse(descriptor)
        x, weights = (np.round(array * 64).astype(np.float32) for array in data(problem))  # TF32 holds these exactly
        with convbench.plan(problem, weights, algorithm="unrolled", executor="gpu", arithmetic="tf32") as plan:
            assert np.array_equal(cupy.asnumpy(plan(cupy.asarray(x))), convolve(problem, x, weights))


@pytest.fixture
def layer():
    problem = Problem.parse("mb2ic64ih28oc64kh3ph1")
    x, weights = data(problem)
    return x, weights, convolve(problem, x, weights)


def close(out, expected):
    import cupy

    return np.abs(cupy.asnumpy(out) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_arrays_of_a_library_are_taken_where_they_lie(library, layer):
    import cupy

    x, weights, expected = layer
    if library == "torch":
        torch = pytest.importorskip("torch")
        there = torch.from_numpy(x).cuda()
        address = there.data_ptr()
    else:
        there = cupy.asarray(x)
        address = there.data.ptr
    assert as_array("x", there, cupy).data.ptr == address
    pool = cupy.get_default_memory_pool()
    convbench.conv2d(there, weights, padding=1)
    out = convbench.conv2d(there, weights, padding=1)
    assert close(out, expected)
    del out
    before = pool.used_bytes()
    out = convbench.conv2d(there, weights, padding=1)
    assert pool.used_bytes() - before < out.nbytes + x.nbytes, "no copy of x was made beside the output"


@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_what_a_stream_still_computes_is_waited_for(library, layer):
    """The input is zeros until the stream, which is kept busy first, has filled it."""
    import cupy

    x, weights, expected = layer
    busy = cupy.RawKernel(
        'extern "C" __global__ void busy() { for (long long i = clock64(); clock64() - i < 100000000; ); }', "busy"
    )
    with convbench.Conv2d(weights, padding=1) as conv:
        conv(cupy.asarray(x))  # compiled
        if library == "torch":
            torch = pytest.importorskip("torch")
            there, source = torch.zeros(x.shape, device="cuda"), torch.from_numpy(x).cuda()
            torch.cuda.synchronize()
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                torch.cuda._sleep(100_000_000)  # cycles
                there.copy_(source, non_blocking=True)
                out = conv(there)
        else:
            there, source = cupy.zeros(x.shape, x.dtype), cupy.asarray(x)
            cupy.cuda.Device().synchronize()
            with cupy.cuda.Stream(non_blocking=True):
                busy((1,), (1,), ())
                there[...] = source
                out = conv(there)
                cupy.cuda.get_current_stream().synchronize()
        assert close(out, expected)


def test_a_temporary_of_torch_lives_until_it_was_read(layer):
    """PyTorch gives its memory to the next tensor of the stream, which knows nothing of what CuPy has queued."""
    import cupy

    torch = pytest.importorskip("torch")
    x, weights, expected = layer
    with convbench.Conv2d(weights, padding=1) as conv:
        conv(cupy.asarray(x))  # compiled
        source = torch.from_numpy(x).cuda()
        torch.cuda.synchronize()
        EXECUTORS["gpu"].hold_up(0.02)
        with torch.cuda.stream(torch.cuda.Stream()):
            out = conv(source * 1)
            for _ in range(4):
                torch.full_like(source, float("nan"))
        assert close(out, expected)


def test_memory_does_not_grow_and_too_large_a_problem_is_one_line():
    import cupy

    random = np.random.default_rng(0)
    shapes = [tuple(int(n) for n in random.integers((1, 1, 9, 9, 1), (4, 40, 60, 60, 90))) for _ in range(20)]

    def all_of_them() -> int:
        for batch, channels, height, width, filters in shapes:
            x = cupy.zeros((batch, channels, height, width), "float32")
            convbench.conv2d(x, np.ones((filters, channels, 3, 3), "float32"), padding=1)
        cupy.cuda.Device().synchronize()
        return int(cupy.get_default_memory_pool().used_bytes())

    all_of_them()
    before = all_of_them()
    for _ in range(5):
        assert all_of_them() <= before
    weights = np.ones((4096, 1, 1, 1), "float32")
    with pytest.raises(convbench.ConvbenchError) as raised:
        convbench.conv2d(cupy.zeros((1, 1, 8000, 8000), "float32"), weights)  # an output of 1 TB
    assert "\n" not in str(raised.value)
    assert "memory" in str(raised.value)
    cupy.get_default_memory_pool().free_all_blocks()
    out = convbench.conv2d(cupy.ones((1, 1, 9, 9), "float32"), np.ones((2, 1, 3, 3), "float32"))
    assert (cupy.asnumpy(out) == 9).all()
