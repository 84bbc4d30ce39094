"""What the forms share, against NumPy: matrices, transforms, shuffles, the micro-kernel, and stores past the caches.

Vector code is emitted for LLVM through `Vectors`. What is emitted one operation after the other is tested with a
stand-in that computes each at once; what has loops or addresses of its own is compiled.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest

from convbench.kernels.copying import copy_vectors, stream
from convbench.kernels.fourier import BACKWARD, FORWARD, fourier, order, root, roots, turn
from convbench.kernels.linear_map import (
    INPUT,
    OUTPUT,
    linear_map,
    operations,
    pixels_overwritten,
    transform,
    transform_rows,
)
from convbench.kernels.micro_kernel import best_block, micro_kernel
from convbench.kernels.toom_cook import LARGEST, toom_cook
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import Vectors, fence, instruction_set

TILES = [(m, r) for m in range(1, LARGEST + 1) for r in range(1, LARGEST + 1) if m + r - 1 <= LARGEST]


class Builder:
    """LLVM's arithmetic, done at once."""

    fadd = staticmethod(np.add)
    fsub = staticmethod(np.subtract)
    fmul = staticmethod(np.multiply)
    fneg = staticmethod(np.negative)


class Now(Vectors):
    """`Vectors` that computes what others emit, on arrays of as many numbers as there are lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.builder: Any = Builder()

    def constant(self, number: float) -> Any:
        return np.full(self.lanes, number)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return a * b + c

    def _shuffle(self, one: Any, other: Any, picks: list[int]) -> Any:
        return np.concatenate([one, other])[picks]


@pytest.mark.parametrize(("outputs", "taps"), TILES)
def test_toom_cook_computes_a_filter_exactly(outputs, taps):
    """With fractions there is no rounding: the outputs are equal, not close."""
    found = toom_cook(outputs, taps)
    random = np.random.default_rng(outputs * 10 + taps)
    x = [Fraction(int(number)) for number in random.integers(-9, 9, outputs + taps - 1)]
    w = [Fraction(int(number)) for number in random.integers(-9, 9, taps)]

    def times(matrix: Any, vector: list[Fraction]) -> list[Fraction]:
        return [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]

    products = [a * b for a, b in zip(times(found.weights, w), times(found.input, x), strict=True)]
    expected = [sum(w[tap] * x[place + tap] for tap in range(taps)) for place in range(outputs)]
    assert times(found.output, products) == expected


@pytest.mark.parametrize(("outputs", "taps"), TILES)
def test_amplification_and_growth_are_those_of_the_matrices(outputs, taps):
    found = toom_cook(outputs, taps)
    a, g, b = (np.array(matrix, float) for matrix in (found.output, found.weights, found.input))
    worst = max(np.sum(np.abs(a[i] * g[:, tap]) * np.abs(b).sum(1)) for i in range(outputs) for tap in range(taps))
    assert found.amplification == pytest.approx(worst)
    errors = [np.sqrt(np.sum(a[i] ** 2 * (g**2).sum(1) * (b**2).sum(1)) / taps) for i in range(outputs)]
    assert found.growth == pytest.approx(max(errors))


@pytest.mark.parametrize("which", ["input", "output", "weights"])
@pytest.mark.parametrize(("outputs", "taps"), TILES)
def test_a_linear_map_is_the_product_with_its_matrix(outputs, taps, which):
    matrix = getattr(toom_cook(outputs, taps), which)
    inputs = list(np.random.default_rng(0).standard_normal((len(matrix[0]), 3)))
    found = linear_map(Now(3), matrix, inputs)
    np.testing.assert_allclose(np.array(found), np.array(matrix, float) @ np.array(inputs), atol=1e-12)


def test_pairs_of_points_halve_the_work():
    matrix = toom_cook(5, 4).input
    plain = sum(len([number for number in row if number]) for row in matrix)
    assert operations(matrix) < 0.8 * plain


@pytest.mark.parametrize("picks_from_two", [False, True])
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_vectors_are_interleaved_and_transposed(monkeypatch, lanes, picks_from_two):
    emit, own = Now(lanes), dataclasses.replace(instruction_set(), picks_from_two=picks_from_two)
    monkeypatch.setattr("convbench.kernels.vector.instruction_set", lambda: own)
    for count in range(1, 9):
        vectors = list(np.arange(count * lanes).reshape(count, lanes))
        runs = np.concatenate(emit.interleave(vectors))
        assert runs.tolist() == np.array(vectors).T.ravel().tolist()
    square = np.arange(lanes * lanes).reshape(lanes, lanes)
    assert np.array(emit.transpose(list(square))).tolist() == square.T.tolist()


@pytest.mark.parametrize("sign", [FORWARD, BACKWARD])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64])
def test_a_fourier_transform_is_numpys(size, sign):
    random = np.random.default_rng(size)
    values = random.standard_normal((2, size, 1))
    found = dict(fourier(Now(1), lambda n: (values[0, n], values[1, n]), size, sign))
    assert list(found) == order(size)
    x = (values[0] + 1j * values[1])[:, 0]
    expected = np.fft.fft(x) if sign == FORWARD else np.fft.ifft(x) * size
    for k, (real, imaginary) in found.items():
        assert real[0] + 1j * imaginary[0] == pytest.approx(expected[k], abs=1e-13 * size)


@pytest.mark.parametrize("size", [2, 8, 12, 64, 96])
def test_roots_are_correct_to_the_last_bit_however_many_turns(size):
    k = np.array([-3 * size - 1, -1, 0, 1, size // 8, size // 4, size // 2, size, 10**9 * size + 1])
    pi = np.arccos(np.longdouble(-1))
    exact = np.array([np.exp(2j * pi * (int(number) % size) / size) for number in k])
    assert np.abs(roots(k, size) - exact).max() < 3e-16
    assert root(0, size) == 1
    assert root(size // 2, size) == -1
    value = (np.array([1.0]), np.array([2.0]))
    for number in (0, 1, size // 4 or 1, size // 2):
        real, imaginary = turn(Now(1), value, number, size)
        assert real[0] + 1j * imaginary[0] == pytest.approx((1 + 2j) * np.exp(2j * np.pi * number / size))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_micro_kernel_sums_taps_and_writes_what_it_is_told_to(dtype):
    """Whole blocks and parts of blocks, vectors side by side and below each other, with a step in everything."""
    lanes = instruction_set().lanes(dtype)
    filters, vectors = tuning().register_blocks[0]

    @numba.njit
    def compute(x, outer, inner, weights, out, x_step, filter_step, vector_step, used, lane_step, relu):
        micro_kernel(
            filters=filters, vectors=vectors, lanes=lanes, x=x, x_begin=3, x_step=x_step, prefetch=0,
            outer_offsets=outer, inner_offsets=inner, weights=weights, weights_begin=5, bias_begin=1,
            out=out, out_begin=7, filter_step=filter_step, vector_step=vector_step, filters_used=used[0],
            vectors_used=used[1], lanes_used=used[2], lane_step=lane_step, relu=relu,
        )  # fmt: skip

    random = np.random.default_rng(0)
    outer, inner = np.array([0, 50, 90]), np.array([0, 1, 4, 9])
    taps = len(outer) * len(inner)
    weights = random.standard_normal(5 + taps * filters).astype(dtype)
    x = random.standard_normal(3 + 100 + vectors * 200 + lanes).astype(dtype)
    for used, stacked in (
        ((filters, vectors, vectors * lanes), False),
        ((filters + 1, vectors + 1, vectors * lanes + 1), False),
        ((filters, vectors, lanes), True),
        ((filters - 1, vectors, vectors * lanes - 1), False),
        ((1, vectors, 1), False),
        ((filters, vectors - 1, lanes), True),
        ((filters, 1, 1), True),
    ):
        steps = (200, vectors * 300, 300) if stacked else (lanes, vectors * 300, lanes)
        expected = _expected_block(x, (outer, inner), weights, steps, used, 0 if stacked else lanes)
        for relu in (0, 1):
            out = np.full(7 + filters * steps[1], np.nan, dtype)
            compute(x, outer, inner, weights, out, *steps, used, 0 if stacked else lanes, relu)
            wanted = np.where(expected < 0, 0, expected) if relu else expected
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)


def _expected_block(x, offsets, weights, steps, used, lane_step):
    """What a register block of the processor's first size leaves in an array of NaN."""
    lanes, (filters, vectors) = instruction_set().lanes(x.dtype.name), tuning().register_blocks[0]
    x_step, filter_step, vector_step = steps
    taps = np.add.outer(*offsets).ravel()
    expected = np.full(7 + filters * filter_step, np.nan, x.dtype)
    for k in range(min(filters, used[0])):
        for v in range(min(vectors, used[1])):
            for lane in range(lanes):
                if lane >= used[2] - v * lane_step:
                    continue
                reads = x[3 + v * x_step + lane + taps].astype(float)
                total = weights[1 + k] + reads @ weights[5 + k :: filters][: taps.size].astype(float)
                expected[7 + k * filter_step + v * vector_step + lane] = total
    return expected


def test_the_best_block_is_one_of_the_processors():
    lanes = 16
    for kernels, rows, columns in ((128, 710, 1270), (1, 30, 30), (3, 7, 7), (64, 1, 5000)):
        block, vectors, edge = best_block(kernels, rows, columns, lanes, stack=True)
        assert (block, vectors) in tuning().register_blocks
        assert edge in (columns, columns // (vectors * lanes) * vectors * lanes)
        block, vectors, _ = best_block(kernels, rows, columns, lanes, fetch=True)
        assert (block, vectors) in (tuning().far_blocks or tuning().register_blocks)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("outputs", "taps"), [(4, 3), (3, 3), (5, 4), (6, 3)])
def test_transforms_read_and_write_where_they_are_told_to(dtype, outputs, taps):
    lanes, points = instruction_set().lanes(dtype), outputs + taps - 1
    step = (2 * outputs + 1) * lanes + 3

    @numba.njit
    def compute(x, steps, transformed, sums, row, relu):
        transform(INPUT, outputs, taps, lanes, x, 2, steps, transformed, 1, lanes + 3)
        transform(OUTPUT, outputs, taps, lanes, x, 5, lanes + 1, sums, 4, lanes)
        transform_rows(outputs, taps, 2, lanes, 2, x, 1, 7, 2 * lanes, x, 3, row, 6, step, relu=relu)

    random = np.random.default_rng(0)
    x = random.standard_normal(500).astype(dtype)
    steps = random.integers(0, 300, points)
    transformed, sums, row = (np.zeros(500, dtype) for _ in range(3))
    compute(x, steps, transformed, sums, row, 0)
    found = toom_cook(outputs, taps)
    to_input, to_output = (np.array(matrix, float) for matrix in (found.input, found.output))
    read = np.array([x[2 + step : 2 + step + lanes] for step in steps])
    for number, expected in enumerate(to_input @ read):
        np.testing.assert_allclose(transformed[1 + number * (lanes + 3) :][:lanes], expected, rtol=1e-4, atol=1e-4)
    read = np.array([x[5 + number * (lanes + 1) :][:lanes] for number in range(points)])
    np.testing.assert_allclose(sums[4 : 4 + outputs * lanes].reshape(outputs, lanes), to_output @ read, atol=1e-4)
    pixels = 2 * outputs * lanes
    beyond = pixels + pixels_overwritten(outputs, lanes)
    rows = [row[6 + number * step :][:step].copy() for number in range(2)]
    for number, found_row in enumerate(rows):
        read = np.array([x[1 + 7 * number + point * 2 * lanes :][: 2 * lanes] for point in range(points)])
        np.testing.assert_allclose(found_row[:pixels], (to_output @ read).T.ravel() + x[3], atol=1e-4)
        assert not found_row[beyond:].any()
    assert not row[:6].any()
    assert not row[6 + 2 * step :].any()
    compute(x, steps, transformed, sums, row, 1)
    for number, before in enumerate(rows):
        np.testing.assert_array_equal(row[6 + number * step :][:pixels], np.maximum(before[:pixels], 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_past_the_caches_are_copies_wherever_they_begin_and_end(dtype):
    lanes = instruction_set().lanes(dtype)

    @numba.njit
    def past_the_caches(source, begin, target, target_begin, count):
        stream(lanes, source, begin, target, target_begin, count)
        fence()

    @numba.njit
    def in_vectors(source, begin, target, target_begin):
        copy_vectors(3, lanes, source, begin, target, target_begin)

    source = np.random.default_rng(0).standard_normal(200).astype(dtype)
    for begin in (0, 1, 5):
        for target_begin in range(lanes + 2):
            for count in (0, 1, lanes - 1, lanes, lanes + 1, 3 * lanes + 2, 100):
                target = np.zeros(200, dtype)
                past_the_caches(source, begin, target, target_begin, count)
                expected = np.zeros(200, dtype)
                expected[target_begin : target_begin + count] = source[begin : begin + count]
                assert np.array_equal(target, expected)
    target = np.zeros(200, dtype)
    in_vectors(source, 7, target, 11)
    assert np.array_equal(target[11 : 11 + 3 * lanes], source[7 : 7 + 3 * lanes])
    assert not target[:11].any()
    assert not target[11 + 3 * lanes :].any()
