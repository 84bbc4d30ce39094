"""Which product `unrolled` should use: ours, with its packing, or BLAS on a matrix that is unrolled already.

BLAS is given every advantage: its matrix stays in the cache, and nobody makes it or writes the product anywhere far.
"""

import time
from collections.abc import Callable

import numpy as np
import threadpoolctl

from convbench.plans import plan
from convbench.problem import Problem
from convbench.report.content import Column, Table
from convbench.terminal import show_table

SHAPES = (
    'mb1ic1ih720iw1280oc128kh11kw11n"multicore"',
    'mb1ic1ih720iw1280oc128kh5kw5n"5 x 5"',
    'mb1ic64ih56oc64kh3ph1n"64 channels, 3 x 3"',
    'mb1ic256ih56oc64kh1ph0n"256 channels, 1 x 1"',
)
COLUMNS = 480  # of the matrix that BLAS multiplies at a time: as much as `unrolled` keeps in the second-level cache
ROUNDS = 10
SECONDS = 0.05


def fastest(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of one call of each, the fastest of several short stretches taken in turns."""
    best = dict.fromkeys(calls, float("inf"))
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        calls[name] = _repeated(call, max(1, round(SECONDS / (time.perf_counter() - begin))))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = min(best[name], call())  # type: ignore[type-var]  # `_repeated` gives seconds
    return best


def _repeated(call: Callable[[], object], times: int) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begin) / times

    return timed


rows = []
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
        seconds = fastest(
            {
                "ours": lambda ours=ours, x=x, out=out: ours(x, out),
                "blas": lambda matrix=matrix, panel=panel, product=product: np.dot(matrix, panel, out=product),
            }
        )
    rate = problem.flops / seconds["ours"] / 1e9, 2 * kernels * taps * COLUMNS / seconds["blas"] / 1e9
    rows.append([problem.label, *rate, rate[0] / rate[1]])
columns = [
    Column("shape"),
    Column("unrolled, with packing", ".1f"),
    Column("BLAS, product alone", ".1f"),
    Column("ratio", ".2f"),
]
show_table(Table("product", "GFLOP/s on one core", columns, rows))
