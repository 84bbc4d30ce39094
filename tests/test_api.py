"""convbench as a library."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PROBLEMS, data

import convbench
from convbench.errors import ConvbenchError
from convbench.measure.reference import convolve
from convbench.problem import Problem

OWN = ("a kernel as large as the image", "uneven padding", "stride and padding", "one column", "one column, padded")
"""Of the problems, those for which tiles are chosen that no other test compiles."""


def test_everything_that_is_promised_is_there():
    for name in convbench.__all__:
        assert getattr(convbench, name) is not None
        assert name in dir(convbench)
    with pytest.raises(AttributeError, match="it offers Choice, Conv2d, ConvbenchError"):
        convbench.conv3d  # noqa: B018


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name in OWN)) for name in PROBLEMS])
def test_conv2d_computes_every_problem(name):
    problem = Problem.parse(PROBLEMS[name])
    x, weights = data(problem)
    y = convbench.conv2d(
        x, weights, stride=problem.stride, padding=problem.padding, dilation=problem.dilation, groups=problem.groups
    )
    expected = convolve(problem, x, weights)
    assert y.dtype == problem.dtype
    assert y.shape == problem.output_shape
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(9, 9), (1, 9, 9), (1, 1, 9, 9)])
def test_the_output_has_a_batch_axis_if_the_input_has_one(shape):
    y = convbench.conv2d(np.ones(shape, np.float32), np.ones((2, 3, 3), np.float32), cores=1)
    assert y.shape == ((1,) if len(shape) == 4 else ()) + (2, 7, 7)
    assert (y == 9).all()


def test_a_bias_is_added_to_each_channel(small):
    x, weights = data(small)
    bias = np.arange(small.out_channels)
    plain, biased = convbench.conv2d(x, weights), convbench.conv2d(x, weights, bias)
    expected = plain + bias[:, None, None]
    np.testing.assert_allclose(biased, expected, rtol=0, atol=1e-6 * np.abs(expected).max())  # sums begin with the bias


def test_out_is_filled_and_returned(small):
    x, weights = data(small)
    out = np.empty(small.output_shape, small.dtype)
    assert convbench.conv2d(x, weights, out=out) is out
    np.testing.assert_array_equal(out, convbench.conv2d(x, weights))


@pytest.mark.parametrize(
    ("x", "w", "result"),
    [(np.float32, np.float32, np.float32), (np.uint8, np.int16, np.float32), (np.float32, np.float64, np.float64)],
)
def test_the_result_is_float64_where_an_argument_is(x, w, result):
    assert convbench.conv2d(np.ones((20, 33), x), np.ones((9, 3, 3), w)).dtype == result


def test_anything_that_converts_to_an_array_is_taken():
    class Dlpack:
        """Speaks DLPack and nothing else."""

        def __init__(self, array):
            self._array = array

        def __dlpack__(self, **options):
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self._array.__dlpack_device__()

    y = convbench.conv2d(Dlpack(np.ones((7, 8), np.float32)), [[[1.0, 1.0]]])
    assert (y == 2).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.ones(4)}, "x has 1 dimensions"),
        ({"w": np.ones((2, 2))}, "w has 2 dimensions"),
        ({"x": np.ones((4, 4), complex)}, "x holds complex128"),
        ({"w": np.ones((2, 3, 2, 2))}, "(2, 1, 2, 2)"),
        ({"bias": np.ones(3)}, "bias has shape (3,)"),
        ({"stride": 0}, "stride=0"),
        ({"padding": "full"}, "padding='full'"),
        ({"cores": 0}, "cores=0"),
        ({"memory_limit": -1}, "memory_limit=-1"),
        ({"out": np.ones(3)}, "out is float64 (3,)"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(change, words):
    arguments = {"x": np.ones((20, 33)), "w": np.ones((9, 3, 3)), **change}
    with pytest.raises(ConvbenchError) as error:
        convbench.conv2d(**arguments)
    assert words in str(error.value)
    assert isinstance(error.value, ValueError | RuntimeError)


def test_a_memory_limit_is_kept(small):
    x, weights = data(small)
    np.testing.assert_allclose(
        convbench.conv2d(x, weights, memory_limit=0), convbench.conv2d(x, weights), rtol=1e-4, atol=1e-4
    )


@pytest.mark.usefixtures("brief")
def test_a_sweep_from_python(tmp_path):
    problem = Problem(height=12, width=12, out_channels=4, kernel_height=3, kernel_width=3, name="small")
    results = convbench.sweep(
        [problem], algorithms=["direct"], executors=["serial", "threads"], cores=[1, 2], runs=2, output=tmp_path / "s"
    )
    assert len(results.records) == 6
    assert convbench.load(tmp_path / "s").records == results.records
    speedups = results.speedups()
    assert speedups[str(problem), "direct", "threads", 1].value == 1
    assert speedups[str(problem), "direct", "threads", 2].runs == 2
    frame = results.to_dataframe()
    assert len(frame) == sum(len(record.samples) for record in results.records)
    assert set(frame["executor"]) == {"serial", "threads"}


@pytest.mark.usefixtures("brief")
def test_a_sweep_without_a_directory_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    results = convbench.sweep(["mb1ic1ih9oc2kh3"], algorithms=["naive"], executors=["serial"], runs=1)
    assert [record.status for record in results.records] == ["ok"]
    assert not list(tmp_path.iterdir())
