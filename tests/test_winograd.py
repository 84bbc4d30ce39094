"""Winograd on the host with filters in the lanes: its vector code, its packing, and what its phases share."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numba
import numpy as np
import pytest

from convbench.algorithms.winograd import tile_lanes
from convbench.algorithms.winograd.cut import cut_up as tiles_cut
from convbench.algorithms.winograd.filter_cut import cut_up
from convbench.algorithms.winograd.host import has_filters_in_lanes
from convbench.algorithms.winograd.nested import Axis, axes, transformed_weights
from convbench.algorithms.winograd.outputs import fetched
from convbench.algorithms.winograd.packing import pack_weights
from convbench.algorithms.winograd.terms import counts, products, terms
from convbench.epilogue import Epilogue
from convbench.kernels.channel_lanes import planes_to_lanes
from convbench.kernels.copying import put, stream_rows
from convbench.kernels.filter_sums import filter_sums
from convbench.kernels.tile_sums import column_sums
from convbench.kernels.tile_transforms import tile_from_points, tile_to_points
from convbench.kernels.toom_cook import toom_cook
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import AVX512, LINE, fence, instruction_set
from convbench.measure.reference import convolve
from convbench.plans import Candidate, Plan
from convbench.problem import Problem

RANDOM = np.random.default_rng(0)
LANES = instruction_set().lanes("float32")


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype("float32")


def test_planes_are_transposed_with_zeros_beside_them_and_the_last_plane_again():
    @numba.njit
    def compute(source, planes, first, width, target):
        planes_to_lanes(LANES, source, 5, 50, planes, first, width, target, LANES, 2 * LANES)

    source = numbers(5 + LANES * 50)
    for planes, first, width in ((LANES, 0, 50), (LANES, -3, LANES), (3, 4, LANES + 5), (1, -2, 0)):
        target = np.full((2 * LANES + 2) * LANES, np.nan, "float32")
        compute(source, planes, first, width, target)
        rows = [source[5 + min(plane, planes - 1) * 50 :][:width] for plane in range(LANES)]
        padded = np.pad(rows, ((0, 0), (9, 90)))[:, 9 + first :][:, : 2 * LANES]
        assert np.array_equal(target[LANES:-LANES].reshape(2 * LANES, LANES), padded.T)
        assert np.isnan(target[:LANES]).all()
        assert np.isnan(target[-LANES:]).all()


def test_rows_are_streamed_to_where_they_follow_one_another():
    @numba.njit
    def streamed(source, step, rows, columns, target, begin):
        stream_rows(LANES, source, LANES, step, rows, columns, target, begin)
        fence()

    @numba.njit
    def copied(source, target, begin, count):
        put(LANES, source, 3, target, begin, count)

    source = numbers(500)
    for begin in range(LANES + 1):
        for rows, columns in ((1, LANES), (3, LANES + 3), (5, 2 * LANES), (2, 3 * LANES - 1)):
            step, target = columns + 5, np.zeros(500, "float32")
            streamed(source, step, rows, columns, target, begin)
            expected = np.zeros(500, "float32")
            whole = np.concatenate([source[LANES + row * step :][:columns] for row in range(rows)])
            expected[begin : begin + rows * columns] = whole
            assert np.array_equal(target, expected)
        for count in (0, 1, LANES - 1, LANES, 2 * LANES, 2 * LANES + 1):
            target, expected = np.zeros((2, 100), "float32")
            copied(source, target, begin, count)
            expected[begin : begin + count] = source[3 : 3 + count]
            assert np.array_equal(target, expected)


def test_sums_of_a_register_block_are_left_as_they_lie():
    vectors, tiles, terms = 2, 3, 9

    @numba.njit
    def compute(x, offsets, weights, out):
        filter_sums(vectors, tiles, LANES, x, 2, 7, offsets, weights, 4, 8 * vectors * LANES, out, 6)

    x, weights = numbers(200), numbers(4 + terms * vectors * LANES)
    offsets, out = RANDOM.integers(0, 100, terms), np.zeros(6 + tiles * vectors * LANES, "float32")
    compute(x, offsets, weights, out)
    read = np.array([x[2 + 7 * tile + offsets] for tile in range(tiles)], float)
    expected = read @ weights[4:].reshape(terms, -1).astype(float)
    np.testing.assert_allclose(out[6:].reshape(tiles, -1), expected, atol=1e-5)


@pytest.mark.parametrize("lines", [0, 1, 5])
@pytest.mark.parametrize("computed", [2, 3])
@pytest.mark.parametrize(("terms", "last_terms", "last_term"), [(9, 6, 2), (4, 4, 0), (1, 1, 0)])
def test_sums_of_a_column_of_points_are_those_of_its_terms(terms, last_terms, last_term, computed, lines):
    filters, vectors, points = 3, 2, 4
    width = vectors * LANES

    @numba.njit
    def compute(x, offsets, weights, out, begin, later):
        for number in range(2):  # twice, and by two calls
            column_sums(
                filters, computed, vectors, LANES, terms, last_terms, points, x, begin, 50, 100, offsets, last_term,
                weights, 4, 10 * filters, out, number * points * filters * width, lines, later, 0, out, 0,
            )  # fmt: skip
        column_sums(
            filters, computed, vectors, LANES, terms, last_terms, points, x, begin + 1, 50, 0, offsets, last_term,
            weights, 4, 10 * filters, out, 2 * points * filters * width, 0, later, 0, out, 0,
        )  # fmt: skip

    x, weights = numbers(400), numbers(4 + points * 10 * filters)
    offsets, out = RANDOM.integers(0, 100, 9), np.zeros(3 * points * filters * width, "float32")
    later = RANDOM.integers(-(2**40), 2**40, points * lines)  # what is asked for need not exist
    compute(x, offsets, weights, out, 5, later)
    assert (", i32 1, i32 3, i32 1)" in next(iter(compute.inspect_llvm().values()))) == (lines > 0)
    found = out.reshape(3, points, filters, width)
    for point in range(points):
        begin, end = (last_term, last_term + last_terms) if point == points - 1 else (0, terms)
        taps = weights[4 + point * 10 * filters :][: 9 * filters].reshape(9, filters)[begin:end].astype(float)
        for number, first in enumerate((5, 5, 6)):
            read = np.array([x[first + 50 * point + offset :][:width] for offset in offsets[begin:end]], float)
            np.testing.assert_allclose(found[number, point, :computed], (taps.T @ read)[:computed], atol=1e-5)
            assert not found[number, point, computed:].any()


@pytest.mark.parametrize("sizes", [(4, 3, 2, 5), (5, 3, 3, 4)])  # without and with a point of factor 1 on both axes
def test_tiles_are_transformed_in_both_directions(sizes):
    y_outputs, y_taps, x_outputs, x_taps = sizes
    y, x = toom_cook(y_outputs, y_taps), toom_cook(x_outputs, x_taps)
    height, width = len(y.input), len(x.input)

    @numba.njit
    def compute(tile, points, biases, outputs, relu):
        tile_to_points(y_outputs, y_taps, x_outputs, x_taps, LANES, tile, 3, 9 * LANES, points, 2, LANES)
        tile_from_points(
            y_outputs, y_taps, x_outputs, x_taps, LANES, points, 2, 1, 1, biases, 1, relu, outputs, 4, 60, 10
        )  # fmt: skip

    tile, biases = numbers(3 + height * 9 * LANES), numbers(1 + LANES)
    read = tile[3:].reshape(height, 9, LANES)[:, :width].astype(float)
    to_y, to_x = np.array(y.input, float), np.array(x.input, float)
    expected = np.einsum("py,yxl,qx->pql", to_y, read, to_x)
    from_y, from_x = np.array(y.output, float), np.array(x.output, float)
    sums = np.einsum("yp,pql,xq->lyx", from_y, expected, from_x) + biases[1:, None, None]
    for relu in (0, 1):
        points, outputs = np.zeros(2 + height * width * LANES, "float32"), np.full(4 + 60 * LANES, np.nan, "float32")
        compute(tile, points, biases, outputs, relu)
        np.testing.assert_allclose(points[2:].reshape(expected.shape), expected, atol=1e-4)
        found = outputs[4:].reshape(LANES, 6, 10)[:, :y_outputs, :x_outputs]
        np.testing.assert_allclose(found, np.maximum(sums, 0) if relu else sums, atol=1e-3 * np.abs(sums).max())
        assert np.isnan(outputs).sum() == outputs.size - LANES * y_outputs * x_outputs


@pytest.mark.parametrize(
    ("kernel", "y", "x", "filters", "dtype"),
    [
        ((3, 3), Axis(4, 3, 1), Axis(4, 3, 1), 2 * LANES, "float32"),
        pytest.param((5, 2), Axis(4, 3, 2), Axis(3, 2, 1), 12, "float32", marks=pytest.mark.long),
        ((5, 2), Axis(4, 3, 2), Axis(3, 2, 1), 12, "float64"),
    ],
)
def test_compiled_packing_is_numpys(kernel, y, x, filters, dtype):
    problem = Problem(
        height=20, width=20, channels=20, out_channels=74, groups=2, kernel_height=kernel[0], kernel_width=kernel[1],
        dtype=dtype,
    )  # fmt: skip
    blocks = -(-problem.group_filters // filters)
    weights = RANDOM.standard_normal(problem.weights_shape).astype(dtype)
    expected = transformed_weights(problem, weights, y, x, filters, blocks)
    packed = np.full(expected.size + 3, np.nan, dtype)
    pack_weights(problem, weights, (y, x), filters, blocks, packed)
    assert np.isnan(packed[-3:]).all()
    found, used = packed[:-3].reshape(expected.shape), problem.group_filters - (blocks - 1) * filters
    assert np.isfinite(found).all()
    found[:, -1, ..., used:] = 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=(1e-6 if dtype == "float32" else 1e-14))
    by_columns = np.empty_like(packed)
    pack_weights(problem, weights, (y, x), filters, blocks, by_columns, by_columns=True)
    again = by_columns[:-3].reshape(*expected.shape[:2], x.points, y.points, *expected.shape[4:]).swapaxes(2, 3)
    assert np.array_equal(again[:, :-1], found[:, :-1])
    assert np.array_equal(again[:, -1, ..., :used], found[:, -1, ..., :used])


@pytest.mark.parametrize("filters", [1, 2, 7, 10, 23, 64, 128])
@pytest.mark.parametrize("is_long", [False, True])
def test_blocks_share_the_filters_that_are_missing_where_products_are_straight_lines(filters, is_long):
    channels = 2 if not is_long else 40
    problem = Problem(height=40, width=90, channels=channels, out_channels=filters, kernel_height=5, kernel_width=5)
    cut = tiles_cut(problem)
    cut = dataclasses.replace(cut, line_terms=() if is_long else (4, 4, 4, 4))
    sizes = np.diff([0, *cut.ends])
    assert cut.ends[-1] == filters
    assert len(sizes) == cut.blocks
    missing = cut.blocks * cut.filters - filters
    if not is_long and missing <= cut.blocks:
        assert set(sizes) <= {cut.filters, cut.filters - 1}
        assert cut.computed_filters == filters
    else:
        assert set(sizes[:-1]) <= {cut.filters}
        assert cut.computed_filters == cut.blocks * cut.filters - (not is_long)


@pytest.mark.parametrize(
    "descriptor",
    [
        *("ic1ih40iw52oc10kh11kw11", "g2mb2ic4ih17iw40oc22kh3kw3ph1pw0", "g3ic3ih14iw10oc3kh3kw3ph0pw1"),
        *(
            pytest.param(each, marks=pytest.mark.long)  # with tiles of their own
            for each in ("ic1ih31iw70oc10kh7kw7", "g2mb2ic4ih31iw70oc22kh5kw5ph2pw2", "g3ic3ih20iw40oc3kh5kw5")
        ),
    ],
)
def test_blocks_with_a_filter_less_have_their_own_weights_and_biases(descriptor):
    problem = Problem.parse(descriptor)
    x, weights, bias = numbers(*problem.input_shape), numbers(*problem.weights_shape), numbers(problem.out_channels)
    expected = convolve(problem, x, weights) + bias[:, None, None]
    with Plan(problem, weights, Candidate("winograd", "threads", 2), epilogue=Epilogue(bias)) as plan:
        error = np.abs(plan(x, plan.empty_output()) - expected).max() / np.abs(expected).max()
        assert error <= plan.error_estimate


ROWS = {  # what is not the same in them, from problems that have it
    "a row that ends where two pixels too many are written": ("ic2ih30iw292oc4kh5kw5", "float32"),
    "two segments, likewise": ("ic2ih12iw4036oc5kh5kw5", "float32"),  # in the same tile
    "two segments in another": ("ic2ih12iw7492oc4kh5kw5", "float32"),
    "rows of tiles in a block": ("mb2ic2ih100iw95oc7kh3kw3", "float32"),
    "the block of the reference workload, and rows cut off": ("g2ic2ih52iw400oc14kh11kw11", "float32"),
    "as many tiles in a row as in a block": ("mb2ic1ih40iw94oc9kh5kw5ph2", "float32"),
    "one pixel too many, and segments": ("ic2ih20iw1500oc5kh3kw3", "float64"),
    "blocks of wide vectors across the ends of two rows": ("mb1ic1ih403iw196oc13kh5kw5", "float32"),
    "the same in four rows": ("mb4ic1ih150iw196oc8kh5kw5", "float32"),
    "a last block of few filters": ("mb2ic2ih100iw250oc17kh3kw3ph1pw1", "float32"),
    "blocks of one filter": ("g3mb2ic3ih33iw500oc3kh5kw5ph2pw2", "float32"),
    "blocks of two filters": ("ic1ih33iw500oc2kh1kw7", "float64"),
}


@pytest.mark.parametrize(
    "case", [*list(ROWS)[:2], *(pytest.param(case, marks=pytest.mark.long) for case in list(ROWS)[2:])]
)
def test_units_write_their_own_pixels_alone_in_any_order(case):
    descriptor, dtype = ROWS[case]
    problem = dataclasses.replace(Problem.parse(descriptor), dtype=dtype)
    x, weights, bias = (
        RANDOM.standard_normal(shape).astype(dtype)
        for shape in (problem.input_shape, problem.weights_shape, problem.out_channels)
    )
    expected = np.maximum(convolve(problem, x, weights) + bias[:, None, None], 0)
    work = tile_lanes.prepare(problem, weights, Epilogue(bias, relu=True))
    (phase,), size = work.phases, math.prod(problem.output_shape)
    tile, clock = phase.tile.load(dtype), np.zeros(len(phase.stages), np.int64)
    for units in (range(phase.units), range(phase.units - 1, -1, -1)):
        around, scratch = np.full(size + 2000, np.nan, dtype), np.full(work.scratch_size + 100, np.nan, dtype)
        out = around[1003 : 1003 + size].reshape(problem.output_shape)
        for unit in units:
            scratch[:-100] = 0
            tile(x, work.weights, out, phase.parameters, np.empty(0, dtype), scratch[:-100], clock, unit, unit + 1)
        error = np.abs(out - expected).max() / np.abs(expected).max()
        assert error <= work.errors.estimate
        assert np.isnan(around[:1003]).all()
        assert np.isnan(around[1003 + size :]).all()
        assert np.isnan(scratch[-100:]).all()


@pytest.mark.parametrize(
    "descriptor", ["ic1ih31iw400oc10kh7kw7", "ic2ih31iw250oc64kh3kw3ph1pw1", "ic1ih40iw120oc5kh1kw9"]
)
def test_products_ask_for_each_line_that_will_be_written(descriptor):
    problem = Problem.parse(descriptor)
    cut, line = tiles_cut(problem), LINE // 4
    rows, points = cut.filters * cut.y.outputs, cut.y.points * cut.x.points
    lines = math.ceil(rows * math.ceil(cut.width * cut.x.outputs / line) / points)
    at_once = tuning().terms_at_once and cut.tile_columns >= cut.width
    assert cut.fetched_lines == (lines if at_once else 0)
    asked = fetched(problem, dataclasses.replace(cut, fetched_lines=lines))
    assert asked.size == lines * points
    plane = problem.output_height * problem.output_width
    for begin in range(line):  # where in a line the output begins
        found = {int(begin + tile * cut.x.outputs + place) // line for tile in (0, cut.width) for place in asked}
        for number, row in itertools.product(range(cut.filters), range(cut.y.outputs)):
            first = begin + number * plane + row * problem.output_width
            end = first + 2 * cut.width * cut.x.outputs  # whose line is the next products', unless it is the row's end
            assert set(range(first // line, (end - 1) // line)) <= found


@pytest.mark.skipif(instruction_set() is not AVX512, reason="others write all outputs at once, or none")
def test_large_outputs_are_written_at_once_where_products_have_many_terms():
    sizes = {"kh3kw3": "ih480iw640oc64", "kh7kw7": "ih600iw600oc64", "kh11kw11": "ih720iw1280oc128"}
    large = {kernel: tiles_cut(Problem.parse(f"mb1ic1{size}{kernel}")) for kernel, size in sizes.items()}
    assert [cut.fetched_lines > 0 for cut in large.values()] == [False, True, True]
    assert tiles_cut(Problem.parse("mb1ic1ih256iw256oc64kh3kw3ph1pw1")).fetched_lines > 0


@pytest.mark.long
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_workers_share_the_transformed_input(executor):
    problem = Problem.parse("g2mb3ic40ih9iw11oc76oh9kh3kw3ph1pw1")
    assert has_filters_in_lanes(problem)
    assert cut_up(problem).is_phased
    x, weights = numbers(*problem.input_shape), numbers(*problem.weights_shape)
    with Plan(problem, weights, Candidate("winograd", executor, 2)) as plan:
        assert plan.variant["phases"] == 2
        out = plan.empty_output()
        for image in (x, -x):
            expected = convolve(problem, image, weights)
            error = np.abs(plan(image, out) - expected).max() / np.abs(expected).max()
            assert error <= plan.error_estimate


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (11, 4), (4, 11), (8, 11), (11, 8), (5, 3), (7, 2), (1, 5)])
def test_products_are_left_out_where_all_weights_are_zero_and_nowhere_else(height, width, channels):
    problem = Problem(height=60, width=60, channels=channels, out_channels=2, kernel_height=height, kernel_width=width)
    weights = np.random.default_rng(0).uniform(1, 2, problem.weights_shape).astype(np.float32)
    for y, x in itertools.product(axes(height, 4), axes(width, 4)):
        found = terms(problem, y, x)
        assert sorted(found.order) == list(range(y.blocks * x.blocks))
        assert products(problem, y, x) == sum(found.ends) - sum(found.begins)
        each = np.subtract(found.ends, found.begins).reshape(y.points, x.points) * channels
        assert counts(problem, y, x) == (each[0, 0], each[-1, 0], each[0, -1], each[-1, -1])
        assert (each[:-1, :-1] == each[0, 0]).all()
        assert (each[-1, :-1] == each[-1, 0]).all()
        assert (each[:-1, -1] == each[0, -1]).all()
        assert not np.array(found.begins).reshape(y.points, x.points)[:-1].any()  # what `column_sums` takes for granted
        points = transformed_weights(problem, weights, y, x, 2, 1)  # (1, 1, y, x, channels, blocks, blocks, filters)
        is_there = (points != 0).any(axis=(0, 1, 4, 7)).reshape(y.points * x.points, -1)
        for point, (begin, end) in enumerate(zip(found.begins, found.ends, strict=True)):
            counted = [begin <= found.order[block] < end for block in range(y.blocks * x.blocks)]
            assert counted == (is_there[point].tolist() if channels == 1 else [True] * len(counted))
