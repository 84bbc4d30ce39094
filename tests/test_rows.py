"""Maps of one column as rows, and dilated kernels in parts: what is computed otherwise, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data, python

import convbench
from convbench.algorithms import ALGORITHMS
from convbench.algorithms.direct.cost import rows_inside
from convbench.algorithms.winograd.dilated import components
from convbench.measure.reference import convolve
from convbench.problem import Problem
from convbench.problem.rows import as_row


@pytest.mark.parametrize(
    "descriptor",
    [
        "mb1ic2ih1iw20oc4kh1kw3",
        "mb1ic2ih20iw20oc4kh3kw1",
        "mb1ic2ih20iw1oc4oh18ow1kh3kw1sh1sw9ph0pw1",  # whose outputs read the padding beside the column
        "mb1ic2ih20iw1oc4oh18ow3kh3kw1ph0pw1",
    ],
)
def test_what_is_no_column_is_left_as_it_is(descriptor):
    assert as_row(one := Problem.parse(descriptor)) is one
    assert as_row(again := Problem.parse(descriptor)) is again, "also where an equal problem came before"


def test_a_column_is_a_row_in_every_respect():
    column = Problem.parse("g2mb3ic4ih40iw1oc6kh5kw1sh3sw1ph4pw0dh2dw0")
    row = as_row(column)
    assert str(row) == str(Problem.parse("g2mb3ic4ih1iw40oc6kh1kw5sh1sw3ph0pw4dh0dw2"))
    assert row.multiply_adds == column.multiply_adds
    x, weights = data(column)
    as_columns = convolve(column, x, weights)
    as_rows = convolve(row, x.reshape(row.input_shape), weights.reshape(row.weights_shape))
    assert np.array_equal(as_columns.ravel(), as_rows.ravel())


def test_components_of_a_dilation_beyond_the_outputs_are_those_that_occur():
    found = components(Problem.parse("mb2ic3ih9iw9oc4kh3kw1ph12pw0dh11dw5"))
    assert found.steps == (12, 1), "a kernel of one tap has no dilation"
    assert found.parts == (9, 1)
    assert found.problem.output_shape == (18, 4, 1, 9)


def test_a_gpu_has_no_dilated_winograd():
    dilated = Problem.parse("mb1ic2ih20iw30oc8kh3kw3dh1dw3")
    assert ALGORITHMS["winograd"].unsupported_reason(dilated, "gpu") == "needs dilation 1"
    assert ALGORITHMS["winograd"].unsupported_reason(dilated, "numba") is None


def test_what_would_be_larger_than_im2col_is_refused_or_computed_otherwise():
    """A dilation or a padding that reads little, far apart."""
    beyond = Problem.parse("mb1ic16ih200iw200oc16kh11kw11ph2500pw2500dh499dw499")
    assert "beyond the outputs" in ALGORITHMS["winograd"].unsupported_reason(beyond, "numba")
    large = Problem.parse("mb1ic64ih100iw100oc64kh7kw7ph297pw297dh98dw98")
    assert "MiB for the components" in ALGORITHMS["winograd"].unsupported_reason(large, "numba")
    for descriptor in (
        "mb1ic64ih20iw20oc64kh3kw3sh997sw997ph5000pw5000",
        "mb1ic64ih2100iw2100oc64kh3kw3ph1000pw1000dh999dw999",
    ):
        problem = Problem.parse(descriptor)
        assert ALGORITHMS["direct"].footprint(problem).total(1) <= problem.bytes


@pytest.mark.long
def test_machine_code_of_a_tile_with_another_inside_is_found_again(tmp_path):
    code = """
import numpy as np, convbench
for descriptor in ("mb1ic3ih40iw1oc8kh5kw1ph2pw0", "mb1ic4ih15iw15oc8kh3kw3ph2pw2dh1dw1", "mb1ic1ih40iw52oc6kh11kw11"):
    problem = convbench.Problem.parse(descriptor)
    convbench.plan(problem, np.ones(problem.weights_shape, "float32"), algorithm="winograd", executor="serial")
"""
    kept = []
    for _ in range(2):
        done = python("-c", code, NUMBA_CACHE_DIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        kept.append(sorted(file.name for file in tmp_path.rglob("*.nbc")))
    assert kept[0] == kept[1]
    assert any(name.startswith("within") for name in kept[0])
    assert max(map(len, kept[0])) < 120, "some file systems have names of 143 bytes at most"


@pytest.mark.parametrize(
    ("algorithm", "executor", "descriptor"),
    [
        ("winograd", "threads", "mb1ic2ih24iw20oc8kh3kw3ph2pw2dh1dw1"),
        *(
            pytest.param("winograd", executor, "mb1ic8ih25iw20oc8kh3kw3ph3pw2dh2dw1", marks=pytest.mark.long)
            for executor in ("serial", "threads")  # in two phases, each compiled inside of another tile
        ),
    ],
)
def test_a_plan_of_parts_is_called_from_two_threads_and_keeps_nothing_of_the_call_before(
    algorithm, executor, descriptor
):
    from concurrent.futures import ThreadPoolExecutor

    problem = Problem.parse(descriptor)
    x, weights = data(problem)
    inputs = [x, x[::-1, ::-1, ::-1, ::-1].copy(), np.full_like(x, np.nan), x]
    with (
        convbench.plan(problem, weights, algorithm=algorithm, executor=executor) as plan,
        ThreadPoolExecutor(2) as pool,
    ):
        for _ in range(10):
            found = list(pool.map(plan, inputs))
            for one, given in zip(found, inputs, strict=True):
                if not np.isnan(given).any():
                    expected = convolve(problem, given, weights)
                    assert np.abs(one - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "descriptor",
    [
        "mb1ic2ih7iw7oc4kh3kw3ph1pw1sh2sw2",
        "mb1ic2ih9iw7oc4kh5kw3ph9pw1dh4dw0",
        "mb1ic2ih2iw3oc4kh3kw3ph3pw3sh5sw5",
        "mb1ic2ih9iw7oc4kh3kw3",
        "mb1ic1ih10iw11oc4oh12ow10kh3kw3ph1pw0",
    ],
)
def test_kernel_rows_inside_of_an_image_are_counted(descriptor):
    problem = Problem.parse(descriptor)
    firsts = np.arange(problem.output_height) * problem.stride[0] - problem.padding[0][0]
    rows = np.add.outer(firsts, np.arange(problem.kernel_height) * problem.dilation[0])
    assert rows_inside(problem) == pytest.approx(np.mean((rows >= 0) & (rows < problem.height)))
