"""Every way through a form's code on purpose, on small problems, with every array between pages without access."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import random_problems
from conftest import data
from guarded import fill

from convbench.algorithms import ALGORITHMS
from convbench.algorithms.direct import host as direct
from convbench.algorithms.fft import cut as fft
from convbench.algorithms.unrolled import host as unrolled
from convbench.algorithms.winograd import cut as winograd
from convbench.algorithms.winograd import filter_cut
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.kernels.band import Layout, runs
from convbench.kernels.blocking import segments
from convbench.kernels.output import streamed
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
    return direct.blocking(wanted).band


def chunks(wanted: Problem) -> int:
    cut = direct.blocking(wanted)
    return -(-cut.blocks // cut.unit_blocks)


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
        "direct",
        problem(64, (7, 7), 130, (3, 3), padding=1, batch=2),
        lambda p: chunks(p) > 1,
    ),
    "several segments of a row": ("direct", problem(3, (1, 5000), 9, (1, 3)), lambda p: segments(p, band(p)) > 1),
    "segments of two rows with a stride": (
        "direct",
        problem(2, (4, 9000), 9, (2, 5), stride=(2, 3), padding=(0, 2)),
        lambda p: segments(p, band(p)) > 1 and p.output_height == 2,
    ),
    "vectors below each other": (
        "direct",
        problem(1, (30, 53), 8, (3, 3)),
        lambda p: direct.blocking(p).edge < p.output_width,
    ),
    "fewer rows than a block has vectors": (
        "direct",
        problem(2, (1, 50), 8, (1, 3)),
        lambda p: band(p).rows == 1 < direct.blocking(p).vectors,
    ),
    "a run for each tap": ("direct", problem(2, (40, 40), 4, (2, 2), dilation=31), lambda p: len(band(p).x.starts) > 1),
    "a single output": ("direct", problem(9, (8, 8), 4, (8, 8), stride=8), lambda p: band(p).x.step == 1),
    "chunks, unrolled": (
        "unrolled",
        problem(256, (7, 7), 130, (3, 3), padding=1, batch=2),
        lambda p: chunks_of_unrolled(p) > 1,
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
        problem(5, (9, 7), 37, (3, 3), padding=1, batch=5),
        lambda p: filter_cut.cut_up(p).is_phased and filter_cut.cut_up(p).tile_rows > filter_cut.cut_up(p).image_rows,
    ),
    "blocks of taps of many channels, winograd": (
        "winograd",
        problem(20, (14, 15), 34, (5, 7), padding=(2, 3), batch=2, groups=2),
        lambda p: filter_cut.cut_up(p).x.blocks > 1,
    ),
    "past the caches, winograd": ("winograd", problem(1, (400, 500), 50, (3, 3)), streamed),
    "blocks of taps": ("winograd", problem(2, (30, 30), 9, (11, 11)), lambda p: winograd.cut_up(p).y.blocks > 1),
    "several tiles in a unit": ("fft", problem(1, (300, 400), 2, (5, 5)), lambda p: fft.cut_up(p).tiles > 1),
    "chunks, fft": ("fft", problem(4, (30, 30), 20, (9, 9)), lambda p: fft.cut_up(p).unit_filters < p.out_channels),
    "segments, fft": ("fft", problem(40, (100, 100), 3, (9, 9)), lambda p: fft.cut_up(p).grid.segments > 1),
    "blocks of taps, fft": ("fft", problem(1, (150, 150), 3, (55, 55)), lambda p: fft.cut_up(p).y.blocks > 1),
    "past the caches, fft": ("fft", problem(1, (400, 500), 50, (3, 3)), streamed),
}


LONG = ("blocks of taps", "blocks of taps, fft", "chunks, fft", "past the caches, fft", "several segments of a row")


@pytest.mark.parametrize(
    ("form", "wanted", "is_taken"),
    [pytest.param(*way, id=name, marks=[pytest.mark.long] * (name in LONG)) for name, way in WAYS.items()],
)
def test_a_way_is_taken_and_right(form, wanted, is_taken):
    assert is_taken(wanted), "another way is taken"
    x, weights = data(wanted)
    work = ALGORITHMS[form].find("numba").prepare(wanted, weights, NO_EPILOGUE)
    out = fill(work, x, wanted.output_shape, in_front=False, cut=lambda n: [(n // 2, n), (0, n // 2)])
    expected = convolve(wanted, x, weights)
    error = np.abs(out - expected).max()
    assert error <= work.errors.estimate * np.abs(expected).max()
    assert error <= work.errors.bound * np.abs(x).max() * np.abs(weights).sum((1, 2, 3)).max()


CRASHED = {  # what unrolled read behind its scratch for
    "one tap far apart": problem(1, (4, 200), 1, (1, 1), stride=(1, 200)),
    "three taps far apart": problem(1, (2000, 2001), 1, (3, 3), stride=40, padding=1),
    "patches of a vision transformer": problem(3, (224, 224), 8, (32, 32), stride=32),
}


@pytest.mark.parametrize("wanted", CRASHED.values(), ids=CRASHED.keys())
@pytest.mark.parametrize("form", ["direct", "unrolled"])
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
    for form in (direct, unrolled):
        assert form.blocking(wide).grid.units >= 32


@pytest.mark.parametrize(("channels", "size", "kernel"), [(256, 31, 31), (1, 328, 328), (28_922, 5, 3)])
def test_winograd_refuses_what_it_has_no_exact_tile_for(channels, size, kernel):
    wanted = problem(channels, (size, size), 2, (kernel, kernel))
    assert "exact enough" in str(ALGORITHMS["winograd"].unsupported_reason(wanted, "numba"))


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
    problem(3, (60, 60), 64, (11, 11)),
    problem(64, (30, 30), 64, (3, 3), groups=64),
    problem(40, (20, 20), 30, (5, 5), groups=2),
)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        pytest.param(form, wanted, marks=[pytest.mark.long] * (form == "fft" and wanted is not PACKED[-1]))
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
