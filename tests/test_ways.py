"""Every way through a form's code on purpose, on small problems, with every array between pages without access."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import random_problems
from conftest import data
from guarded import fill

from convbench.algorithms import ALGORITHMS
from convbench.algorithms.direct import columns, filters, filters_cut, host, pixels, product
from convbench.algorithms.fft import cut as fft
from convbench.algorithms.unrolled import cut as unrolled
from convbench.algorithms.winograd import cut as winograd
from convbench.algorithms.winograd import filter_cut
from convbench.algorithms.winograd.terms import counts
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.kernels import blocking, filter_lanes
from convbench.kernels.band import Layout, layout, runs
from convbench.kernels.blocking import best_band, segments
from convbench.kernels.output import streamed
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import AVX512, instruction_set
from convbench.measure.reference import convolve
from convbench.plans import Candidate, Plan
from convbench.plans.work import prepared
from convbench.problem import ITEM_SIZE, Problem


def problem(channels: int, image: tuple[int, int], kernels: int, kernel: tuple[int, int], **more: Any) -> Problem:
    return Problem(
        channels=channels,
        height=image[0],
        width=image[1],
        out_channels=kernels,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        **more,
    )


def band(wanted: Problem) -> Layout:
    return pixels.blocking(wanted).band


def chunks(wanted: Problem) -> int:
    cut = pixels.blocking(wanted)
    return -(-cut.blocks // cut.unit_blocks)


def terms_of_points(wanted: Problem) -> tuple[int, ...]:
    cut = winograd.cut_up(wanted)
    return counts(wanted, cut.y, cut.x)


def source(wanted: Problem) -> int:
    return filters.blocking(wanted).source


def streams_of_filters(wanted: Problem, least: int = filter_lanes.MIN_STREAMED) -> bool:
    cut = filters.blocking(wanted)
    return wanted.taps >= least and filter_lanes.streams(cut.vectors, cut.pixels) > 1


def rest(wanted: Problem) -> int:
    return filters.blocking(wanted).width % filters.blocking(wanted).pixels


def several_pieces(wanted: Problem) -> bool:
    cut = product.blocking(wanted)
    return 1 < cut.pieces < cut.columns // (cut.vectors * cut.lanes)


def in_one_piece(wanted: Problem) -> bool:
    cut = product.blocking(wanted)
    return cut.cycles < math.inf and cut.grid(wanted).segments == 1


def chunks_of_unrolled(wanted: Problem) -> int:
    return unrolled.blocking(wanted).grid.filter_blocks


def batches_of_panels(wanted: Problem) -> float:
    cut = unrolled.blocking(wanted)
    return cut.band.rows * cut.band.columns / (cut.panels * cut.width)


def chunks_of_winograd(wanted: Problem) -> int:
    cut = winograd.cut_up(wanted)
    return -(-cut.blocks // cut.unit_blocks)


WAYS: dict[str, tuple[str, Problem, Callable[[Problem], Any]]] = {
    "several chunks of kernels": (
        "pixels",
        problem(64, (7, 7), 130, (3, 3), padding=1, batch=2),
        lambda p: chunks(p) > 1,
    ),
    "several segments of a row": ("pixels", problem(3, (1, 5000), 9, (1, 3)), lambda p: segments(p, band(p)) > 1),
    "segments of two rows with a stride": (
        "pixels",
        problem(2, (4, 9000), 9, (2, 5), stride=(2, 3), padding=(0, 2)),
        lambda p: segments(p, band(p)) > 1 and p.output_height == 2,
    ),
    "vectors below each other": (
        "pixels",
        problem(1, (30, 53), 8, (3, 3)),
        lambda p: pixels.blocking(p).edge < p.output_width,
    ),
    "fewer rows than a block has vectors": (
        "pixels",
        problem(2, (1, 50), 8, (1, 3)),
        lambda p: band(p).rows == 1 < pixels.blocking(p).vectors,
    ),
    "a run for each tap": ("pixels", problem(2, (40, 40), 4, (2, 2), dilation=31), lambda p: len(band(p).x.starts) > 1),
    "a single output": ("pixels", problem(9, (8, 8), 4, (8, 8), stride=8), lambda p: band(p).x.step == 1),
    "the input as it lies": ("filters", problem(5, (9, 20), 40, (3, 2)), lambda p: source(p) == filters.INPUT),
    "padded planes": ("filters", problem(5, (9, 19), 40, (3, 3), padding=1), lambda p: source(p) == filters.PLANES),
    "padded planes of groups and images": (
        "filters",
        problem(6, (9, 11), 40, (3, 3), padding=(2, 1), groups=2, batch=3, dtype="float64"),
        lambda p: source(p) == filters.PLANES,
    ),
    "padded bands": (
        "filters",
        problem(16, (129, 1030), 17, (3, 3), padding=1, stride=(2, 1), dilation=(1, 2)),
        lambda p: source(p) == filters.BAND and filters.blocking(p).height % filters.blocking(p).rows,
    ),
    "bands of images and groups": (
        "filters",
        problem(64, (40, 398), 34, (3, 3), padding=1, groups=2, batch=2),
        lambda p: source(p) == filters.BAND,
    ),
    "rows taken as one": (
        "filters",
        problem(40, (6, 8), 50, (1, 1), batch=2),
        lambda p: filters.blocking(p).height == 1,
    ),
    "parts of a row taken as one": (
        "filters",
        problem(16, (61, 71), 70, (1, 1)),
        lambda p: filters.blocking(p).grid(p).segments > 1,
    ),
    "chunks of filters": (
        "filters",
        problem(300, (7, 7), 130, (1, 1)),
        lambda p: filters.blocking(p).grid(p).filter_blocks > 1,
    ),
    "pixels apart": ("filters", problem(9, (15, 25), 33, (1, 1), stride=(2, 3)), lambda p: source(p) == filters.INPUT),
    "pixels four apart": (
        "filters",
        problem(3, (40, 64), 33, (4, 4), stride=4, padding=2, batch=2),
        lambda p: filters.blocking(p).step == 4,
    ),
    "pixels far apart": (
        "filters",
        problem(3, (40, 26), 33, (5, 5), stride=5, padding=2, groups=1, batch=2),
        lambda p: filters.blocking(p).step not in filters.STEPS and source(p) != filters.INPUT,
    ),
    "more pixels than lanes": (
        "filters",
        problem(9, (15, 28), 4, (2, 2), dtype="float64"),
        lambda p: filters.blocking(p).pixels > filters.blocking(p).lanes,
    ),
    "a map of one pixel": ("filters", problem(70, (1, 1), 70, (1, 1)), lambda p: filters.blocking(p).pixels == 1),
    "a product": ("product", problem(9, (7, 15), 15, (1, 1), batch=2, groups=3, dtype="float64"), in_one_piece),
    "a product in parts": (
        "product",
        problem(40, (53, 59), 50, (1, 1)),
        lambda p: product.blocking(p).grid(p).segments > 1 and p.output_height * p.output_width % 16,
    ),
    "a product of chunks of filters": (
        "product",
        problem(300, (7, 7), 130, (1, 1)),
        lambda p: product.blocking(p).grid(p).filter_blocks > 1,
    ),
    "chunks, unrolled": (
        "unrolled",
        problem(256, (7, 7), 130, (3, 3), padding=1, batch=2),
        lambda p: chunks_of_unrolled(p) > 1,
    ),
    "filters in the lanes, unrolled": (
        "unrolled",
        problem(30, (3, 11), 70, (3, 3), padding=1, batch=2),
        lambda p: unrolled.blocking(p).is_across and p.output_width % unrolled.blocking(p).width,
    ),
    "more pixels than lanes, unrolled": (
        "unrolled",
        problem(30, (3, 14 if tuning().part_taps else 29), 4 if tuning().part_taps else 70, (2, 2), dtype="float64"),
        lambda p: unrolled.blocking(p).is_across and unrolled.blocking(p).width > unrolled.blocking(p).lanes,
    ),
    "several batches of panels": ("unrolled", problem(1, (300, 400), 4, (5, 5)), lambda p: batches_of_panels(p) > 1),
    "segments, unrolled": (
        "unrolled",
        problem(3, (1, 5000), 9, (1, 3)),
        lambda p: segments(p, unrolled.blocking(p).band) > 1,
    ),
    "chunks, winograd": (
        "winograd",
        problem(2, (20, 20), 130, (3, 3), padding=1),
        lambda p: chunks_of_winograd(p) > 1,
    ),
    "segments, winograd": (
        "winograd",
        problem(2, (7, 5000), 8, (3, 3), padding=1),
        lambda p: winograd.cut_up(p).grid.segments > 1,
    ),
    "segments, winograd with filters in the lanes": (
        "winograd",
        problem(64, (30, 200), 20, (3, 3), padding=1),
        lambda p: filter_cut.cut_up(p).grid.segments > 1 and not filter_cut.cut_up(p).is_phased,
    ),
    "tiles of several images in a unit": (
        "winograd",
        problem(5, (10, 11), 37, (3, 3), padding=1, batch=3),
        lambda p: filter_cut.cut_up(p).is_phased and filter_cut.cut_up(p).tile_rows > filter_cut.cut_up(p).image_rows,
    ),
    "blocks of taps of many channels, winograd": (
        "winograd",
        problem(20, (14, 15), 34, (5, 7), padding=(2, 3), batch=2, groups=2),
        lambda p: filter_cut.cut_up(p).x.blocks > 1,
    ),
    "past the caches, winograd": ("winograd", problem(1, (500, 700), 48, (3, 3)), streamed),
    "blocks of taps": ("winograd", problem(2, (30, 30), 9, (11, 11)), lambda p: winograd.cut_up(p).y.blocks > 1),
    "products in loops": (
        "winograd",
        problem(2, (40, 60), 7, (27, 27)),
        lambda p: max(terms_of_points(p)) > tuning().line_terms,
    ),
    "several tiles in a unit": ("fft", problem(1, (200, 300), 2, (3, 3)), lambda p: fft.cut_up(p).tiles > 1),
    "chunks, fft": ("fft", problem(4, (30, 30), 20, (9, 9)), lambda p: fft.cut_up(p).unit_filters < p.out_channels),
    "several pieces of a row for the same filters": (
        "product",
        problem(12, (90, 91), 40, (1, 1), batch=2),
        several_pieces,
    ),
    "a pixel, its taps in several streams": ("filters", problem(263, (1, 1), 70, (1, 1), batch=2), streams_of_filters),
    "two pixels, their taps in several streams": ("filters", problem(301, (1, 2), 40, (1, 1)), streams_of_filters),
    "a window, its taps in several streams": ("filters", problem(87, (3, 4), 33, (3, 3), groups=3), streams_of_filters),
    "a few rows of taps in several streams": ("filters", problem(9, (30, 30), 33, (30, 29)), streams_of_filters),
    "a pixel beside padding, its taps in several streams": (
        "filters",
        problem(300, (1, 1), 40, (3, 3), padding=1),
        streams_of_filters,
    ),
    "pixels of which one reads padding alone, in several streams": (
        "filters",
        problem(400, (1, 2), 40, (2, 2), padding=1, stride=3),
        streams_of_filters,
    ),
    "a pixel of any step, its taps in several streams": (
        "filters",
        problem(60, (9, 3), 40, (9, 3), stride=(1, 3)),
        lambda p: streams_of_filters(p) and filters.blocking(p).step not in filters.STEPS,
    ),
    "too few taps for several streams": (
        "filters",
        problem(255, (1, 1), 17, (1, 1), dtype="float64"),
        lambda p: streams_of_filters(p, 1) and p.taps < filter_lanes.MIN_STREAMED,
    ),
    "a smaller block at the end of a row": (
        "filters",
        problem(40, (9, 39), 40, (3, 3), stride=2, batch=2),
        lambda p: rest(p) and source(p) == filters.INPUT,
    ),
    "a smaller block at the end of a row of several segments": (
        "filters",
        problem(600, (23, 55), 10, (1, 1), groups=2, batch=2),
        lambda p: rest(p) and filters.blocking(p).grid(p).segments > 1,
    ),
    "a smaller block at the end of a band's row": (
        "filters",
        problem(16, (129, 1042), 17, (3, 3), padding=1, stride=(2, 1)),
        lambda p: rest(p) and source(p) == filters.BAND,
    ),
    "weights that leave all caches": (
        "filters",
        problem(400, (8, 14), 1050, (2, 2), stride=2, dtype="float64"),
        lambda p: filters.blocking(p).rows > 1 and filters.blocking(p).unit_blocks < filters.blocking(p).blocks,
    ),
    "segments, fft": ("fft", problem(40, (30, 200), 3, (3, 3)), lambda p: fft.cut_up(p).grid.segments > 1),
    "blocks of taps, fft": ("fft", problem(1, (150, 150), 3, (55, 55)), lambda p: fft.cut_up(p).y.blocks > 1),
    "past the caches, fft": ("fft", problem(1, (400, 500), 50, (3, 3)), streamed),
}


if not tuning().part_taps:
    WAYS |= {
        "few pixels of a band in one loop": (
            "filters",
            problem(600, (32, 6), 4, (3, 3), padding=1, stride=2, groups=2, batch=5, dtype="float64"),
            lambda p: filters.blocking(p).depth == p.taps and source(p) == filters.BAND,
        ),
    }

if tuning().part_taps:  # where there are few registers
    WAYS |= {
        "pixels brought together": (
            "filters",
            problem(40, (17, 18), 1050, (1, 1), stride=2, batch=2, groups=2),
            lambda p: filters.blocking(p).thinned,
        ),
        "taps in parts": (
            "filters",
            problem(150, (21, 14), 40, (3, 3), padding=1, stride=(2, 1), batch=2),
            lambda p: filters.blocking(p).sums and filters.blocking(p).rows > 1,
        ),
        "units together": (
            "filters",
            problem(1000, (16, 17), 400, (3, 3), padding=1, stride=2, groups=2),
            lambda p: filters.blocking(p).together > 1 and filters.blocking(p).blocks % filters.blocking(p).unit_blocks,
        ),
        "planes for weights that bands would read again": (
            "filters",
            problem(600, (60, 30), 60, (3, 3), padding=1, stride=(1, 2)),
            lambda p: source(p) == filters.PLANES and math.prod(p.input_shape) * 4 > filters_cut.PLANES_BYTES,
        ),
        "a product whose outputs leave the caches": (
            "filters",
            problem(64, (56, 56), 256, (1, 1), batch=3),
            lambda p: host.way(p) is filters,
        ),
        "planes of few channels moved apart": (
            "filters",
            problem(40, (32, 32), 130, (1, 1)),
            lambda p: filters.blocking(p).source == filters_cut.PLANES,
        ),
        "planes moved apart": (
            "filters",
            problem(100, (16, 16), 70, (1, 1), batch=2),
            lambda p: filters.blocking(p).source == filters_cut.PLANES,
        ),
        "taps in parts of groups": (
            "filters",
            problem(430, (7, 9), 96, (1, 1), groups=2),
            lambda p: 0 < filters.blocking(p).depth < p.taps and p.taps % filters.blocking(p).depth,
        ),
    }

OF_DIRECT = {"pixels": pixels, "filters": filters, "product": product}
LONG = (
    "blocks of taps",
    "blocks of taps, fft",
    "chunks, fft",
    "past the caches, fft",
    "several segments of a row",
    "blocks of taps of many channels, winograd",
    "past the caches, winograd",
    "segments, winograd with filters in the lanes",
    "segments, winograd",
    "chunks, winograd",
    "segments, fft",
    "more pixels than lanes, unrolled",
    "chunks, unrolled",
    "segments, unrolled",
    "segments of two rows with a stride",
    "products in loops",
    "too few taps for several streams",
    "few pixels of a band in one loop",
    "weights that leave all caches",
)


@pytest.mark.parametrize(
    ("form", "wanted", "is_taken"),
    [pytest.param(*way, id=name, marks=[pytest.mark.long] * (name in LONG)) for name, way in WAYS.items()],
)
def test_a_way_is_taken_and_right(form, wanted, is_taken):
    assert is_taken(wanted), "another way is taken"
    x, weights = data(wanted)
    prepare = OF_DIRECT[form].prepare if form in OF_DIRECT else ALGORITHMS[form].find("numba").prepare
    work = prepare(wanted, weights, NO_EPILOGUE)
    footprint = ALGORITHMS["direct" if form in OF_DIRECT else form].footprint(wanted)
    if form not in OF_DIRECT or host.way(wanted) is OF_DIRECT[form]:
        assert footprint.scratch_bytes == work.scratch_size * work.dtype.itemsize
    out = fill(work, x, wanted.output_shape, in_front=False, cut=lambda n: [(n // 2, n), (0, n // 3), (n // 3, n // 2)])
    expected = convolve(wanted, x, weights)
    error = np.abs(out - expected).max()
    assert error <= work.errors.estimate * np.abs(expected).max()
    assert error <= work.errors.bound * np.abs(x).max() * np.abs(weights).sum((1, 2, 3)).max()


CRASHED = {  # what unrolled read behind its scratch for
    "one tap far apart": problem(1, (4, 200), 1, (1, 1), stride=(1, 200)),
    "three taps far apart": problem(1, (2000, 2001), 1, (3, 3), stride=40, padding=1),
    "patches of a vision transformer": problem(3, (224, 224), 8, (32, 32), stride=32),
}
CRASHED_SLOWLY = (("unrolled", "three taps far apart"),)  # whose tile no other test compiles


@pytest.mark.skipif(instruction_set() is not AVX512, reason="the estimates of other vectors differ")
def test_each_way_is_taken_where_it_suits():
    assert host.way(problem(1, (720, 1280), 128, (11, 11), padding=5)) is pixels
    assert host.way(problem(64, (56, 56), 256, (1, 1))) is product
    assert host.way(problem(3, (32, 32), 1, (3, 3))) is columns
    assert host.way(problem(3, (256, 256), 24, (3, 3), padding=1, stride=2)) is columns
    assert host.way(problem(64, (128, 128), 3, (3, 3), padding=1)) is columns
    assert host.way(problem(3, (512, 512), 16, (3, 3), padding=1)) is pixels  # whose rows fall into few sets of a cache
    assert host.way(problem(512, (7, 7), 512, (3, 3), padding=1)) is filters
    assert host.way(problem(2048, (7, 7), 512, (1, 1))) is filters


@pytest.mark.parametrize(
    "other",
    [
        problem(16, (40, 40), 96, (1, 1), stride=(1, 2)),
        problem(16, (3, 40), 96, (1, 1), stride=(2, 1), padding=((1, 1), (0, 0))),  # as many rows out as in
        problem(16, (40, 40), 96, (1, 3), padding=(0, 1)),
        problem(16, (3, 4), 96, (1, 1)),
    ],
    ids=str,
)
def test_what_is_no_product_is_not_taken_for_one(other):
    assert product.blocking(other).cycles == math.inf


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        pytest.param(form, wanted, id=f"{form}-{name}", marks=[pytest.mark.long] * ((form, name) in CRASHED_SLOWLY))
        for form in ("direct", "unrolled")
        for name, wanted in CRASHED.items()
    ],
)
def test_windows_far_apart_are_read_within_scratch(form, wanted):
    x, weights = data(wanted)
    work = ALGORITHMS[form].find("numba").prepare(wanted, weights, NO_EPILOGUE)
    out = fill(work, x, wanted.output_shape, in_front=False, cut=lambda units: [(0, units)])
    np.testing.assert_allclose(out, convolve(wanted, x, weights), atol=1e-3)


HUGE_STEPS = (
    problem(1, (4, 4), 1, (4, 4), stride=200),
    problem(1, (4, 4), 1, (4, 4), stride=100_000),
    problem(1024, (32, 32), 1, (32, 32), stride=32),
    problem(512, (33, 33), 1, (33, 33), stride=200),
    problem(100_000, (1, 1), 1, (1, 1)),
    problem(64, (1, 1_000_000), 64, (1, 3)),
    problem(1, (2**20, 1), 1, (2**19, 1)),
    problem(28_922, (5, 5), 1, (5, 5)),
    problem(3, (70, 70), 1, (2, 2), dilation=(60, 2), stride=9),
)


@pytest.mark.parametrize("wanted", HUGE_STEPS, ids=str)
def test_a_form_takes_scratch_for_what_it_reads_or_refuses(wanted):
    assert ALGORITHMS["direct"].footprint(wanted).scratch_bytes <= 4 * wanted.bytes + 2**20
    for form in ALGORITHMS:
        if ALGORITHMS[form].unsupported_reason(wanted, "numba") is None:
            assert ALGORITHMS[form].footprint(wanted).scratch_bytes <= max(4 * wanted.bytes, 2**26), form


def test_a_wide_row_is_work_for_many():
    wide = problem(64, (1, 1_000_000), 64, (1, 3))
    for form in (pixels, unrolled):
        assert form.blocking(wide).grid.units >= 32
    assert filters.blocking(wide).grid(wide).units >= 32
    few = problem(16, (4, 4002), 16, (3, 3))
    assert filters.blocking(few).grid(few).units >= 16


def test_a_cut_is_found_at_once_however_many_filters_there_are():
    begin = time.perf_counter()
    filters.blocking(problem(1, (100, 100), 10**9, (1, 1)))
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("step", [1, 3])
def test_the_largest_band_is_found_without_looking_at_all_smaller_ones(step, monkeypatch):
    """Columns of a million pixels took seconds to be cut: their bands have a hundred thousand rows."""
    tall, looked = problem(1, (2**24, 1), 4, (300, 1)), []

    def counted(*arguments: Any) -> Layout:
        looked.append(layout(*arguments))
        return looked[-1]

    monkeypatch.setattr(blocking, "layout", counted)
    found = best_band(tall, 1, 16, step=step, reach=32)
    assert len(looked) <= 32
    larger = layout(tall, found.rows + step, found.columns, 16, step, 32)
    item = ITEM_SIZE[tall.dtype]
    assert found.size * item <= tuning().band_bytes < larger.size * item


@pytest.mark.parametrize(("channels", "size", "kernel"), [(256, 31, 31), (1, 328, 328), (28_922, 5, 3)])
def test_winograd_refuses_what_it_has_no_exact_tile_for(channels, size, kernel):
    wanted = problem(channels, (size, size), 2, (kernel, kernel))
    assert "exact enough" in str(ALGORITHMS["winograd"].unsupported_reason(wanted, "numba"))


@pytest.mark.long
def test_fft_keeps_to_its_estimate_with_angles_of_many_turns():
    """The twiddles of a dilated kernel: exponentials of angles that were not reduced lost digits of float64."""
    wanted = problem(1, (246, 45), 3, (4, 4), dilation=10, dtype="float64")
    x, weights = data(wanted)
    work = ALGORITHMS["fft"].find("numba").prepare(wanted, weights, NO_EPILOGUE)
    out = fill(work, x, wanted.output_shape, in_front=False, cut=lambda units: [(0, units)])
    expected = random_problems.exact(wanted, x, weights)  # with more digits than float64
    assert np.abs(out - expected).max() <= work.errors.estimate * np.abs(expected).max()


@pytest.mark.parametrize(
    ("outputs", "taps", "stride", "dilation", "starts", "length"),
    [
        (10, 3, 1, 1, (0,), 12),  # neighbours share a run
        (10, 3, 2, 1, (0, 1), 11),  # even and odd lines
        (10, 2, 1, 30, (0, 30), 10),  # taps further apart than the outputs reach
        (1, 4, 4, 1, (0,), 4),  # a single output reads neighbours, whatever its stride
        (1, 2, 5, 9, (0, 9), 1),
        (3, 1, 70, 1, (0,), 3),
    ],
)
def test_runs_hold_what_is_read_and_little_else(outputs, taps, stride, dilation, starts, length):
    found = runs(outputs, taps, stride, dilation)
    assert (found.starts, found.length) == (starts, length)
    lines = np.concatenate([start + found.step * np.arange(found.length) for start in found.starts])
    for tap, place in enumerate(found.taps):
        read = lines[place : place + outputs]
        assert read.tolist() == [tap * dilation + output * stride for output in range(outputs)]


PACKED = (
    problem(256, (14, 14), 256, (3, 3), padding=1),
    problem(2, (40, 52), 60, (11, 11)),
    problem(64, (30, 30), 64, (3, 3), groups=64),
    problem(40, (20, 20), 30, (5, 5), groups=2),
)


PACKED_QUICKLY = {"direct": PACKED[:-1], "unrolled": PACKED[:1], "winograd": (), "fft": ()}
"""Of forms whose tiles take long to compile."""


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        pytest.param(form, wanted, marks=[] if wanted in PACKED_QUICKLY.get(form, PACKED) else pytest.mark.long)
        for form in ("naive", "direct", "unrolled", "winograd", "fft")
        for wanted in PACKED
    ],
)
@pytest.mark.parametrize("ends", [False, True], ids=["", "with a bias"])
def test_a_plan_takes_no_more_memory_than_was_said_before(form, wanted, ends):
    """Weights are packed in pieces: they never lie there twice, nor with more digits."""
    _, weights = data(wanted)
    epilogue = Epilogue(np.ones(wanted.out_channels, wanted.dtype), relu=True) if ends else NO_EPILOGUE
    candidate = Candidate(form, "serial", 1)
    Plan(wanted, weights, candidate, epilogue=epilogue).close()  # compiled now
    tracemalloc.start()
    try:
        Plan(wanted, weights, candidate, epilogue=epilogue, borrow=True).close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tables = 2**20  # of offsets, and what Python itself takes
    assert peak <= candidate.memory(wanted) + tables
    footprint = ALGORITHMS[form].footprint(wanted)
    work = prepared(ALGORITHMS[form].find("numba"), wanted, weights, epilogue)
    assert footprint.scratch_bytes == work.scratch_size * ITEM_SIZE[wanted.dtype]
    assert footprint.weights_bytes == (0 if np.may_share_memory(work.weights, weights) else work.weights.nbytes)
