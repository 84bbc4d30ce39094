"""The contract of every algorithm on every executor: a new one is tested by being listed."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from conftest import PROBLEMS, data

from convbench.algorithms import ALGORITHMS
from convbench.epilogue import NO_EPILOGUE
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.kernels.clock import STAGES
from convbench.measure.reference import convolve
from convbench.plans import plan
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.rounding import gamma

HAS_CLOCK = ("x86_64", "AMD64", "aarch64", "arm64")
HOST_EXECUTORS = [name for name in EXECUTORS if EXECUTORS[name].backend == "numba" and not EXECUTORS[name].distributes]
LEAST_SUPPORTED = 12  # of the problems, by every algorithm
SUMS = ("naive", "direct", "unrolled")  # whose outputs are sums of products, rounded as often as there are taps
REFUSED = {
    "winograd": {
        "saves nothing with a kernel of one tap": ["one kernel of one tap"],
        "needs stride 1": ["stride", "stride and padding", "depthwise", "everything"],
    },
    "fft": {
        "saves nothing with a kernel of one tap": ["one kernel of one tap"],
        "needs stride 1": ["stride", "stride and padding", "depthwise", "everything"],
    },
}
"""What each algorithm cannot do of the problems, and why; what is not listed can do everything."""


FEW = ("the experiment in small", "channels and batch", "uneven padding", "float64")
QUICK = {
    "winograd": (*FEW, "padding", "more padding than image"),
    "fft": (*FEW, "kernels that fill no block", "groups"),
    "unrolled": (
        *(*FEW[:2], "one kernel of one tap", "fewer kernels than a block", "kernels that fill no block", "one row"),
        *("a large kernel", "padding", "more padding than image", "stride", "dilation", "dilation and padding"),
        *("depthwise", "everything", "float64"),
    ),
}
"""Of the problems, for forms whose tiles take long to compile, those that share a few; `make test-all` has all."""


def cases(*executors: str) -> list[ParameterSet]:
    """Every algorithm on each of the problems that it supports on the host, and on each of the executors."""
    return [
        pytest.param(
            *(algorithm, *([executor] if executor else []), Problem.parse(PROBLEMS[name])),
            id="-".join(filter(None, (algorithm, executor, name))),
            marks=[pytest.mark.long] * (name not in QUICK.get(algorithm, PROBLEMS)),
        )
        for algorithm in ALGORITHMS
        for name in PROBLEMS
        for executor in executors or [""]
        if ALGORITHMS[algorithm].unsupported_reason(Problem.parse(PROBLEMS[name]), "numba") is None
    ]


def assert_close(out: np.ndarray, expected: np.ndarray, problem: Problem) -> None:
    error = np.abs(out - expected).max() / np.abs(expected).max()
    assert error <= EXACT.tolerance[problem.dtype], f"off by {error:.1e} of the largest output"


def test_the_reference_is_what_scipy_computes(problem):
    """Channel by channel at full resolution, then every stride-th element."""
    from scipy.signal import correlate  # which takes long to load

    x, weights = data(problem)
    padded = np.pad(x.astype(float), ((0, 0), (0, 0), *problem.padding))
    spread = np.zeros((*weights.shape[:2], *problem.kernel_extent))
    spread[:, :, :: problem.dilation[0], :: problem.dilation[1]] = weights
    channels, kernels = weights.shape[1], problem.out_channels // problem.groups
    for image in range(problem.batch):
        for kernel in range(problem.out_channels):
            first = kernel // kernels * channels
            dense = sum(
                correlate(padded[image, first + c], spread[kernel, c], mode="valid", method="direct")
                for c in range(channels)
            )
            expected = dense[:: problem.stride[0], :: problem.stride[1]]
            np.testing.assert_allclose(convolve(problem, x, weights)[image, kernel], expected, atol=1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_refuses_what_it_is_known_to_and_says_why(algorithm):
    found = {}
    for name, descriptor in PROBLEMS.items():
        if (reason := ALGORITHMS[algorithm].unsupported_reason(Problem.parse(descriptor), "numba")) is not None:
            found.setdefault(reason, []).append(name)
    known = {reason: sorted(names) for reason, names in REFUSED.get(algorithm, {}).items()}
    assert {reason: sorted(names) for reason, names in found.items()} == known
    assert len(PROBLEMS) - sum(map(len, found.values())) >= LEAST_SUPPORTED


@pytest.mark.parametrize(("algorithm", "executor", "problem"), cases(*HOST_EXECUTORS))
def test_every_algorithm_agrees_with_the_reference_on_every_executor(algorithm, executor, problem):
    x, weights = data(problem)
    cores = 2 if EXECUTORS[executor].scales else 1
    with plan(problem, weights, algorithm=algorithm, executor=executor, cores=cores) as bound:
        out = bound.empty_output()
        out.fill(np.nan)
        assert bound(x, out) is out
        assert_close(out, convolve(problem, x, weights), problem)
        x2 = x[::-1, ::-1, ::-1, ::-1]  # not contiguous, and other values into the same output
        expected = convolve(problem, x2, weights)
        assert_close(bound(x2, out), expected, problem)
        error, scale = np.abs(out - expected).max(), np.abs(weights).sum((1, 2, 3)).max() * np.abs(x).max()
        assert error <= bound.error_estimate * np.abs(expected).max()
        assert error <= bound.error_bound * scale
        if algorithm in SUMS:
            assert bound.error_bound == gamma(problem.taps + 1, problem.dtype)
        assert bound.threads() == cores


@pytest.mark.parametrize(("algorithm", "problem"), cases())
def test_a_tile_fills_its_units_and_touches_nothing_else(algorithm, problem):
    x, weights = data(problem)
    work = ALGORITHMS[algorithm].find("numba").prepare(problem, weights, NO_EPILOGUE)
    *before, phase = work.phases
    tile = phase.tile.load(problem.dtype)
    workspace = np.full(work.workspace_size, np.nan, problem.dtype)
    guard = 64
    scratch = np.full(work.scratch_size + guard, 7, problem.dtype)
    clock = np.zeros(STAGES, np.int64)
    out = np.full(problem.output_shape, np.nan, problem.dtype)
    written = np.zeros(problem.output_shape, int)
    for earlier, stage in zip(before, work.first_stages, strict=False):
        arrays = (x, work.weights, out, earlier.parameters, workspace, scratch[:-guard], clock[stage:])
        for unit in np.random.default_rng(0).permutation(earlier.units):
            earlier.tile.load(problem.dtype)(*arrays, unit, unit + 1)
    ours = clock[work.first_stages[-1] :]
    for unit in np.random.default_rng(0).permutation(phase.units):
        alone = np.full_like(out, np.nan)
        tile(x, work.weights, alone, phase.parameters, workspace, scratch[:-guard], ours, unit, unit + 1)
        written += ~np.isnan(alone)
        out = np.where(np.isnan(alone), out, alone)
    assert (written == 1).all(), "units must cover the output once"
    assert (scratch[-guard:] == 7).all(), "a tile must keep to its scratch"
    assert not clock[len(work.stages) :].any(), "a tile must keep to its stages"
    assert (clock[: len(work.stages)] > 0).all() or platform.machine() not in HAS_CLOCK
    assert_close(out, convolve(problem, x, weights), problem)


@pytest.mark.parametrize(("algorithm", "problem"), cases())
def test_a_footprint_is_what_the_work_takes(algorithm, problem):
    _, weights = data(problem)
    footprint = ALGORITHMS[algorithm].footprint(problem)
    work = ALGORITHMS[algorithm].find("numba").prepare(problem, weights, NO_EPILOGUE)
    assert footprint.scratch_bytes == work.scratch_size * work.dtype.itemsize
    assert footprint.workspace_bytes == work.workspace_size * work.dtype.itemsize
    assert footprint.weights_bytes == (0 if np.may_share_memory(work.weights, weights) else work.weights.nbytes)


@pytest.mark.parametrize("direction", ["backward_data", "backward_weights"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_algorithm_computes_gradients_and_each_says_so(algorithm, direction):
    problem = Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3, direction=direction)
    assert direction in str(ALGORITHMS[algorithm].supports(problem))
    with pytest.raises(UnavailableError, match=direction):
        plan(problem, np.zeros(problem.weights_shape), algorithm=algorithm, executor="serial")


def test_no_two_variants_of_a_tile_have_one_name():
    """What is loaded from disk goes by its name and a number that starts anew in each process, so names must differ."""
    names = {}
    for algorithm in ALGORITHMS:
        for name in ("the experiment in small", "channels and batch", "uneven padding"):  # compiled above already
            problem = Problem.parse(PROBLEMS[name])
            if (
                ALGORITHMS[algorithm].find("numba")
                and ALGORITHMS[algorithm].unsupported_reason(problem, "numba") is None
            ):
                _, weights = data(problem)
                for phase in ALGORITHMS[algorithm].find("numba").prepare(problem, weights, NO_EPILOGUE).phases:
                    tile = phase.tile
                    for compiled in tile.load(problem.dtype).overloads.values():  # others' types make names differ too
                        names.setdefault((tile.module, compiled.fndesc.qualname), set()).add(tile)
    assert len(names) > len(ALGORITHMS), "some algorithm has two variants"
    assert all(len(tiles) == 1 for tiles in names.values()), names
