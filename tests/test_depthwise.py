"""Depthwise and grouped convolution: every way through its tiles against the reference, all arrays guarded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import random_problems
from conftest import data
from guarded import fill

from convbench.algorithms.direct import columns, host
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.kernels.vector import instruction_set
from convbench.measure.reference import convolve
from convbench.plans import Candidate, Plan
from convbench.problem import Problem


def problem(image: tuple[int, int], kernel: tuple[int, int], channels: int = 3, **more: Any) -> Problem:
    filters = more.pop("multiplier", 1) * channels
    return Problem(
        channels=channels,
        groups=channels,
        out_channels=filters,
        height=image[0],
        width=image[1],
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        **more,
    )


COLUMNS = {
    "3 x 3 on 14 columns": problem((14, 14), (3, 3), 5, padding=1),
    "3 x 3 on 7 columns, in narrow vectors": problem((7, 7), (3, 3), 70, padding=1),
    "one pixel": problem((1, 1), (3, 3), padding=1),
    "a narrower vector at the end": problem((20, 40), (3, 3), padding=1),
    "every vector but the last is whole": problem((9, 49), (3, 3), padding=((0, 1), (2, 0))),
    "5 x 5, weights not in registers": problem((11, 23), (5, 5), padding=2),
    "7 x 7 on less than 7 rows": problem((5, 6), (7, 7), padding=3),
    "more padding than kernel": problem((4, 5), (3, 3), padding=((9, 8), (7, 9))),
    "stride 2": problem((29, 31), (3, 3), padding=1, stride=2),
    "stride 2, an even kernel": problem((28, 50), (4, 4), padding=1, stride=2),
    "stride 2, one kernel column": problem((28, 50), (5, 1), padding=(2, 0), stride=2),
    "strides that differ": problem((30, 31), (5, 3), stride=(3, 2), padding=2),
    "stride 1 down and 2 across": problem((14, 31), (3, 3), stride=(1, 2), padding=1),
    "more lines between outputs than the kernel has": problem((30, 20), (3, 3), stride=(4, 1), padding=1),
    "dilation": problem((20, 21), (3, 3), dilation=(3, 2), padding=3),
    "dilation as large as the stride": problem((20, 21), (3, 3), dilation=(2, 1), stride=(2, 1), padding=2),
    "dilation in more rows than there are": problem((3, 21), (2, 3), dilation=(9, 4), padding=9),
    "two filters a channel": problem((13, 17), (3, 3), padding=1, multiplier=2),
    "four filters a channel, batch": problem((13, 17), (3, 3), padding=1, multiplier=4, batch=2),
    "11 x 1, as many sums as registers allow": problem((14, 14), (11, 1), padding=(5, 0)),
    "7 x 7 in bands, rows with zeros beside them": problem((130, 100), (7, 7), 2, padding=((1, 5), (6, 2))),
    "dilation in bands": problem((150, 64), (3, 3), 2, padding=(2, 3), dilation=(2, 3), stride=(2, 1)),
    "a step that ends in the image and needs none of it": problem(
        (1, 21), (4, 3), stride=(3, 1), padding=((8, 0), (1, 1))
    ),
    "padding wider than the image": problem((20, 14), (3, 3), padding=(1, 60), dilation=(1, 30)),
    "bands of large planes": problem((150, 130), (3, 3), 2, padding=1),
    "a single column, far apart": problem((40, 40), (3, 3), stride=(1, 40), padding=1),
    "float64": problem((15, 21), (3, 3), padding=1, dtype="float64"),
    "float64, stride 2": problem((15, 21), (5, 5), padding=2, stride=2, dtype="float64", multiplier=2),
}
GROUPS = {
    "four channels a group": ("g4mb2ic16ih14iw14oc16kh3kw3ph1pw1", 4),
    "more filters than channels": ("g2ic6ih15iw23oc32kh3kw3ph1pw1", 8),
    "a prime number of filters": ("g2ic4ih9iw9oc22kh3kw3ph1pw1", 1),
    "groups, stride 2": ("g3ic15ih15iw50oc18kh3kw3ph1pw1sh2sw2", 6),
    "groups, dilation": ("g2ic8ih20iw21oc8kh3kw3ph2pw2dh1dw1", 4),
    "groups, 1 x 1": ("g3mb2ic9ih5iw6oc36kh1kw1", 12),
    "a first layer": ("mb2ic3ih15iw23oc24kh3kw3ph1pw1", 8),
    "a first layer, stride 2": ("ic3ih29iw31oc24kh3kw3ph1pw1sh2sw2", 12),
    "large planes, of which lines are asked for ahead": ("g2ic6ih50iw70oc16kh3kw3ph1pw1", 8),
    "large planes, stride 2": ("mb2ic3ih61iw70oc10kh3kw3ph1pw1sh2sw2", 10),
    "large planes, float64": ("--dt=f64 g2ic6ih50iw40oc8kh3kw3ph1pw1", 4),
    "dense, 1 x 1": ("ic5ih20iw33oc7kh1kw1", 7),
    "dense, 5 x 5": ("--dt=f64 ic2ih12iw20oc6kh5kw5ph2pw2", 3),
    "groups, 5 x 5": ("--dt=f64 g2ic6ih12iw12oc8kh5kw5ph2pw2", 4),
}
BLOCKS = {
    "a kernel of one row": problem((1, 900), (1, 5), 2, padding=(0, 2)),
    "a large kernel": problem((40, 37), (17, 17), padding=8),
    "a kernel of many rows": problem((80, 20), (31, 3), 2, padding=(15, 1)),
    "stride 2 and dilation": problem((33, 35), (3, 3), stride=2, dilation=3, padding=2),
    "stride 2, a large kernel": problem((40, 41), (18, 17), stride=2, padding=5),
    "strides without a common line": problem((60, 20), (3, 3), stride=(7, 1), dilation=(5, 1)),
    "a single output": problem((12, 13), (12, 13)),
}
WAYS = COLUMNS | BLOCKS if instruction_set().has_masks else COLUMNS
LONG = (
    *("stride 2, one kernel column", "strides that differ", "stride 1 down and 2 across", "a kernel of many rows"),
    *("more lines between outputs than the kernel has", "stride 2, a large kernel", "float64, stride 2"),
    *("a kernel of one row", "5 x 5, weights not in registers", "a narrower vector at the end", "float64"),
    *("7 x 7 on less than 7 rows", "stride 2 and dilation", "strides without a common line", "a single output"),
    *("dilation in more rows than there are", "stride 2, an even kernel", "dilation in bands"),
    *("a step that ends in the image and needs none of it", "padding wider than the image"),
    *("11 x 1, as many sums as registers allow", "7 x 7 in bands, rows with zeros beside them"),
)
QUICK_GROUPS = (
    "a first layer",
    "large planes, of which lines are asked for ahead",
    "four channels a group",
)


def some(*names: str) -> list[str]:
    """Those of the ways that this processor has."""
    return [name for name in names if name in WAYS]


def prepared(wanted: Problem, weights: np.ndarray, epilogue: Epilogue = NO_EPILOGUE) -> Any:
    assert columns.suits(wanted)
    return columns.prepare(wanted, weights, epilogue)


@pytest.fixture(autouse=True)
def no_other_way(monkeypatch):
    """Whatever the estimates of the other ways are."""
    monkeypatch.setattr(host, "way", lambda _: columns)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in WAYS])
def test_every_way_is_right_and_touches_nothing_else(name):
    wanted = WAYS[name]
    assert (columns.blocking(wanted).cut.rows == 0) == (name in COLUMNS), "another way is taken"
    for number in (0, 1):  # arrays at the beginning of a page, and at the end of one
        found = random_problems.check(wanted, number, forms=("direct",))
        assert max(found["ratios"].values()) <= 1, found


@pytest.mark.skipif(instruction_set().name != "AVX-512", reason="other processors have room for fewer filters")
@pytest.mark.parametrize(
    ("descriptor", "filters"),
    [
        pytest.param(*each, id=name, marks=[pytest.mark.long] * (name not in QUICK_GROUPS))
        for name, each in GROUPS.items()
    ],
)
def test_groups_of_several_channels_are_right_with_filters_side_by_side(descriptor, filters):
    wanted = Problem.parse(descriptor)
    assert columns.suits(wanted)
    assert columns.blocking(wanted).cut.filters == filters
    for number in (0, 1):
        found = random_problems.check(wanted, number, forms=("direct",))
        assert max(found["ratios"].values()) <= 1, found


@pytest.mark.parametrize("name", some("3 x 3 on 14 columns", "bands of large planes", "stride 2", "a large kernel"))
def test_bias_and_relu_are_applied_to_every_pixel(name):
    wanted = WAYS[name]
    x, weights = data(wanted)
    bias = np.random.default_rng(1).standard_normal(wanted.out_channels).astype(wanted.dtype)
    expected = convolve(wanted, x, weights) + bias[:, None, None]
    for relu in (False, True):
        work = prepared(wanted, weights, Epilogue(bias, relu))
        out = fill(work, x, wanted.output_shape, in_front=False, cut=lambda n: [(n // 2, n), (0, n // 2)])
        np.testing.assert_allclose(out, np.maximum(expected, 0) if relu else expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", some("3 x 3 on 14 columns", "two filters a channel", "stride 2", "a large kernel"))
def test_not_a_number_stays_in_the_outputs_that_read_it(name):
    """Pixels beside a row, a plane and the image are in the same vectors, or multiplied by no weight of theirs."""
    wanted = WAYS[name]
    x, weights = data(wanted)
    before = fill(prepared(wanted, weights), x, wanted.output_shape, in_front=False, cut=lambda n: [(0, n)])
    x[0, 1, wanted.height // 2, wanted.width - 1] = np.nan
    after = fill(prepared(wanted, weights), x, wanted.output_shape, in_front=False, cut=lambda n: [(0, n)])
    hit = np.isnan(convolve(wanted, x, weights))
    assert hit.any()
    np.testing.assert_array_equal(np.isnan(after), hit)
    np.testing.assert_array_equal(after[~hit], before[~hit])


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_plans_compute_it_on_every_core(executor):
    wanted = WAYS["four filters a channel, batch"]
    x, weights = data(wanted)
    with Plan(wanted, weights, Candidate("direct", executor, 1 if executor == "serial" else 2)) as plan:
        np.testing.assert_allclose(plan(x), convolve(wanted, x, weights), rtol=1e-4, atol=1e-4)


def test_what_else_has_groups_of_a_channel_is_left_to_the_block_of_many_filters():
    for wanted in (
        problem((20, 20), (3, 3), stride=(1, 3)),
        problem((20, 20), (3, 3), multiplier=8),
        problem((10, 9000), (1, 3), dilation=(1, 4000)),
    ):
        assert not columns.suits(wanted)


@pytest.mark.parametrize("wanted", WAYS.values(), ids=WAYS)
def test_units_cover_the_output_and_the_memory_is_as_told(wanted):
    found, weights = columns.blocking(wanted), data(wanted)[1]
    assert found.grid.bands * found.band >= wanted.output_height > (found.grid.bands - 1) * found.band
    assert found.grid.segments * found.segment >= wanted.output_width > (found.grid.segments - 1) * found.segment
    planes, blocks = wanted.batch * wanted.out_channels // found.cut.filters, found.grid.filter_blocks
    assert blocks * found.planes >= planes > (blocks - 1) * found.planes
    work = prepared(wanted, weights)
    assert columns.footprint(wanted).total(1) == work.weights.nbytes + work.scratch_size * work.dtype.itemsize
    cost = columns.cost(wanted)
    assert cost.units == found.grid.units
    assert all(count >= 0 for count in cost.counts.values())
    assert found.cycles > 0
    assert not cost.shares or sum(cost.shares) == pytest.approx(1)


def test_many_planes_and_large_ones_make_units_for_many_workers():
    for wanted in (problem((56, 56), (3, 3), 144, padding=1), problem((400, 400), (3, 3), 1, padding=1)):
        assert columns.blocking(wanted).grid.units >= 32
