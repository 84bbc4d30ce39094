"""Which product `unrolled` should use: the micro-kernel's or BLAS's, on a matrix that is unrolled already.

Both matrices stay in the cache, and nobody makes them or writes the product anywhere far. Beside them `unrolled` as it
is, with all that.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import threadpoolctl

from benchmarks.in_turns import fastest
from convbench.epilogue import NO_EPILOGUE
from convbench.integers import ceil_div
from convbench.kernels.blocking import pack_weights
from convbench.kernels.micro_kernel import best_block, micro_kernel
from convbench.kernels.tile import jit
from convbench.kernels.vector import instruction_set
from convbench.plans import plan
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.terminal import show_table

SHAPES = (
    'mb1ic1ih720iw1280oc128kh11kw11n"multicore"',
    'mb1ic1ih720iw1280oc128kh5kw5n"one-channel-5x5"',
    'mb1ic64ih56oc64kh3ph1n"64-channels-3x3"',
    'mb1ic256ih56oc64kh1ph0n"256-channels-1x1"',
)
COLUMNS = 480  # of the matrix that BLAS multiplies at a time: as much as `unrolled` keeps in the second-level cache


def make_product(filters: int, vectors: int, lanes: int) -> Callable[..., None]:
    """The product of packed weights and packed panels on the micro-kernel."""
    width = vectors * lanes

    @jit
    def multiply(weights, panels, offsets, zero, out, blocks, count):  # type: ignore[no-untyped-def]
        taps = offsets.size
        for panel in range(count):
            for block in range(blocks):
                micro_kernel(
                    filters=filters,
                    vectors=vectors,
                    lanes=lanes,
                    x=panels,
                    x_begin=panel * taps * width,
                    x_step=lanes,
                    prefetch=0,
                    outer_offsets=zero,
                    inner_offsets=offsets,
                    weights=weights,
                    weights_begin=block * taps * filters,
                    bias_begin=blocks * taps * filters,
                    out=out,
                    out_begin=block * filters * count * width + panel * width,
                    filter_step=count * width,
                    vector_step=lanes,
                    filters_used=filters,
                    vectors_used=vectors,
                    lanes_used=width,
                    lane_step=lanes,
                    relu=0,
                )

    return multiply  # type: ignore[no-any-return]  # what jit makes has no type


def product_call(problem: Problem, weights: np.ndarray) -> tuple[Callable[[], None], int]:
    """The product on as many panels as make about COLUMNS columns, and how many columns that is."""
    lanes = instruction_set().lanes(problem.dtype)
    filters, vectors, _ = best_block(problem.out_channels, 1, COLUMNS, lanes)
    count, width = COLUMNS // (vectors * lanes), vectors * lanes
    packed, blocks = pack_weights(problem, weights, filters, NO_EPILOGUE), ceil_div(problem.out_channels, filters)
    panels = np.ones(problem.taps * count * width, problem.dtype)
    out = np.empty(blocks * filters * count * width, problem.dtype)
    offsets, zero = np.arange(problem.taps) * width, np.zeros(1, np.int64)
    multiply = make_product(filters, vectors, lanes)
    return lambda: multiply(packed, panels, offsets, zero, out, blocks, count), count * width


rows: list[list[Value]] = []
random = np.random.default_rng(0)
for shape in SHAPES:
    problem = Problem.parse(shape)
    x = random.standard_normal(problem.input_shape).astype(problem.dtype)
    weights = random.standard_normal(problem.weights_shape).astype(problem.dtype)
    kernels, taps = problem.out_channels, problem.taps
    matrix, panel = weights.reshape(kernels, taps), np.ones((taps, COLUMNS), problem.dtype)
    product = np.empty((kernels, COLUMNS), problem.dtype)
    with (
        threadpoolctl.threadpool_limits(1, "blas"),
        plan(problem, weights, algorithm="unrolled", executor="serial") as ours,
    ):
        out = ours.empty_output()
        micro, columns = product_call(problem, weights)
        seconds = fastest(
            {
                "whole": partial(ours, x, out),
                "micro": micro,
                "blas": partial(np.dot, matrix, panel, out=product),
            }
        )
    multiply_adds = kernels * taps
    micro_rate, blas_rate = (
        2e-9 * multiply_adds * columns / seconds["micro"],
        2e-9 * multiply_adds * COLUMNS / seconds["blas"],
    )
    rows.append([problem.label, micro_rate, blas_rate, micro_rate / blas_rate, problem.flops / seconds["whole"] / 1e9])
headings = [
    Column("shape"),
    Column("micro-kernel", ".1f"),
    Column("BLAS", ".1f"),
    Column("ratio", ".2f"),
    Column("unrolled", ".1f"),
]
show_table(Table("product", "GFLOP/s on one core", headings, rows))
