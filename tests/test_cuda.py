"""The CUDA sources without a GPU: they compile for every compute capability in question, and are right on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import on_the_host
import pytest
from conftest import DEADLINE, PROBLEMS, data
from on_the_host import SANITIZER, unsupported_reason

from convbench.algorithms import ALGORITHMS
from convbench.algorithms.winograd import gpu_steps
from convbench.cuda.launch import GpuWork, Launch
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.executors.gpu import WAIT
from convbench.measure.reference import convolve
from convbench.precision import EXACT, PRECISIONS
from convbench.problem import Problem

FORMS = [
    (name, one.precision) for name in ALGORITHMS for one in ALGORITHMS[name].implementations if one.backend == "gpu"
]
ON_A_GPU = [name for name, precision in FORMS if precision == "exact"]
CAPABILITIES = ("90", "70", "75", "80", "86", "89", "100", "120")  # without the point; the first stands for all
REFERENCE = "mb1ic1ih720iw1280oc128kh11kw11"
QUICK = {
    "unrolled": (
        "channels and batch",
        "groups",
        "everything",
        "float64",
        "a large kernel",
        "uneven padding",
        "one row",
    ),
    "winograd": ("channels and batch", "groups", "float64", "a large kernel", "uneven padding", "one row", "padding"),
}
"""Of the problems, for forms of several launches or ways, each a program to compile; `make test-all` has all."""
ROUNDED = ("channels and batch", "groups", "everything")  # of the problems, for what rounds to TF32
STEPS = ["transform_input", "products", "transform_output"]
LAYER = "mb32ic512ih7iw7oc512kh3kw3ph1pw1"


def needs_the_host(*flags: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(unsupported_reason(*flags) is not None, reason=str(unsupported_reason(*flags)))


def compile_for(capability: str, launch: Launch, dtype: str) -> None:
    """Compile a launch as CuPy would on a GPU of a compute capability; skips where there is no compiler."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    _, program = nvrtc.nvrtcCreateProgram(launch.code.encode(), b"source.cu", 0, [], [])
    architecture = launch.architecture or f"sm_{capability}"
    options = [*(option.encode() for option in launch.options(dtype)), f"-arch={architecture}".encode()]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytes(size + 1)  # written to: one byte would be the interpreter's own, which everybody has
    nvrtc.nvrtcGetProgramLog(program, log)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    nvrtc.nvrtcDestroyProgram(program)


def run(work: GpuWork, problem: Problem, x: np.ndarray, directory: Path, *more: str) -> np.ndarray:
    """The output of a work's launches on the host."""
    arrays = {
        "x": x,
        "weights": work.weights,
        "out": np.full(problem.output_shape, np.nan, problem.dtype),
        "scratch": np.full(work.scratch_size, np.nan, problem.dtype),
    }
    for name, array in arrays.items():
        array.tofile(directory / name)
    for launch in work.launches:
        options = launch.options(problem.dtype)
        program = on_the_host.program(launch.code, launch.name, options, launch.blocks, launch.threads, *more)
        done = subprocess.run(
            [program, *(directory / name for name in arrays)],
            capture_output=True,
            text=True,
            check=False,
            timeout=6 * DEADLINE,  # under the sanitizer, a barrier of many threads takes long on a few busy cores
        )
        assert done.returncode == 0, done.stderr
    return np.fromfile(directory / "out", problem.dtype).reshape(problem.output_shape)


@pytest.fixture(params=[90, 80], ids=["on 9.0", "on 8.0"])
def _capability(request, monkeypatch):
    """Kernels differ by the GPU's compute capability."""
    monkeypatch.setattr("convbench.cuda.card.capability", lambda: request.param)


def works(
    algorithm: str,
    problem: Problem,
    weights: np.ndarray,
    precision: str = "exact",
    epilogue: Epilogue = NO_EPILOGUE,
) -> GpuWork:
    """The work of an algorithm on a GPU."""
    return ALGORITHMS[algorithm].find("gpu", precision).prepare(problem, weights, epilogue)


def supported(algorithm: str, precision: str, problems: Mapping[str, str]) -> list[str]:
    """Names of the problems that a form supports in a precision."""
    return [
        name
        for name in problems
        if ALGORITHMS[algorithm].unsupported_reason(Problem.parse(problems[name]), "gpu", precision) is None
    ]


@pytest.mark.parametrize(("algorithm", "precision"), FORMS)
def test_a_form_refuses_what_it_is_known_to(algorithm, precision):
    refused = sorted(set(PROBLEMS) - set(supported(algorithm, precision, PROBLEMS)))
    strided = ["depthwise", "everything", "stride", "stride and padding"]
    dilated = ["dilation", "dilation and padding", "one column, padded"]
    known = {
        ("winograd", "exact"): sorted([*strided, *dilated, "one kernel of one tap"]),
        ("unrolled", "tf32"): ["float64"],
    }
    assert refused == known.get((algorithm, precision), [])


@needs_the_host()
@pytest.mark.parametrize(
    ("algorithm", "precision", "name"),
    [
        pytest.param(
            *form,
            name,
            marks=[]
            if name in (QUICK.get(form[0], PROBLEMS) if form[1] == "exact" else ROUNDED)
            else [pytest.mark.long],
        )
        for form in FORMS
        for name in supported(*form, PROBLEMS)
    ],
)
def test_the_arithmetic_is_right(algorithm, precision, name, tmp_path):
    problem = Problem.parse(PROBLEMS[name])
    x, weights = data(problem)
    out = run(works(algorithm, problem, weights, precision), problem, x, tmp_path)
    expected = convolve(problem, x, weights)
    assert np.abs(out - expected).max() <= PRECISIONS[precision].tolerance[problem.dtype] * np.abs(expected).max()


def random_problem(seed: int) -> Problem:
    """Any kernel, stride, dilation, padding, groups and dtype, small."""
    random = np.random.default_rng(seed)
    height, width = (int(n) for n in random.integers(1, 12, 2))
    stride, dilation = (int(n) for n in random.integers(1, 3, 2) * random.choice([1, 1, 2]))
    groups = int(random.choice([1, 1, 2, 3]))
    return Problem(
        height=(height - 1) * dilation + 1 + int(random.integers(0, 20)),
        width=(width - 1) * dilation + 1 + int(random.integers(0, 40)),
        out_channels=groups * int(random.choice([1, 3, 8, 17, 70])),
        kernel_height=height,
        kernel_width=width,
        batch=int(random.integers(1, 4)),
        channels=groups * int(random.choice([1, 2, 17, 40])),
        groups=groups,
        stride=stride,
        dilation=dilation,
        padding=(int(random.integers(0, height)), int(random.integers(0, width))),
        dtype=str(random.choice(["float32", "float32", "float64"])),
    )


@needs_the_host()
@pytest.mark.parametrize("seed", [1, 3, 4, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 55))])
def test_the_arithmetic_is_right_on_random_problems(seed, tmp_path):
    problem = random_problem(seed)
    x, weights = data(problem)
    expected = convolve(problem, x, weights)
    for algorithm, precision in FORMS:
        if ALGORITHMS[algorithm].unsupported_reason(problem, "gpu", precision) is None:
            out = run(works(algorithm, problem, weights, precision), problem, x, tmp_path)
            error = np.abs(out - expected).max() / np.abs(expected).max()
            assert error <= PRECISIONS[precision].tolerance[problem.dtype], (algorithm, precision, problem)


TENSOR_CORES = [
    "mb2ic33ih9iw10oc50kh3kw3ph1pw1",
    "mb2ic64ih9iw10oc150kh3kw3ph1pw1",  # the channels of a place, in parts
    "g2mb2ic64ih7iw9oc150kh1kw2sh2sw1ph0pw1dh0dw2",
    pytest.param("mb70ic40ih3oc130kh3", marks=pytest.mark.long),  # images of one pixel
    pytest.param("mb3ic512ih5oc70kh1", marks=pytest.mark.long),
]


@needs_the_host()
@pytest.mark.usefixtures("_capability")
@pytest.mark.parametrize("descriptor", TENSOR_CORES)
def test_tensor_cores_round_and_nothing_else_does(descriptor, tmp_path):
    """The very sums of rounded factors, so that an error in a place could not hide behind the rounding."""
    problem = Problem.parse(descriptor)
    x, weights = (np.round(array * 64).astype(np.float32) for array in data(problem))  # TF32 holds these exactly
    out = run(works("unrolled", problem, weights, "tf32"), problem, x, tmp_path)
    assert np.array_equal(out, convolve(problem, x, weights))


@needs_the_host()
@pytest.mark.parametrize(
    ("algorithm", "descriptor", "launches"),
    [
        ("unrolled", "mb2ic256ih7iw7oc130kh3kw3ph1pw1", ["unrolled", "add_parts"]),
        ("unrolled", "--dt=f64 mb2ic200ih6iw6oc40kh3kw3ph1pw1", ["unrolled", "add_parts"]),
        ("unrolled", "mb1ic9ih20iw21oc5kh7kw7ph3pw3", ["unrolled", "add_parts"]),  # more taps than a word has bits
        ("winograd", "g2mb3ic34ih13iw14oc20kh3kw5ph2pw1", STEPS),
        ("winograd", "--dt=f64 mb1ic20ih12iw13oc33kh5kw3", STEPS),
        (
            "winograd",
            "mb1ic17ih9iw5oc130kh5kw5ph2pw2",
            ["transform_input", "products", "transform_output"],
        ),  # a short step
        pytest.param("winograd", "mb1ic1ih130iw131oc3kh101kw101", STEPS, marks=pytest.mark.long),
        ("winograd", "mb1ic1ih50iw60oc20kh11kw11", ["winograd"]),
    ],
)
def test_every_way_through_an_algorithm_is_right(algorithm, descriptor, launches, tmp_path):
    problem = Problem.parse(descriptor)
    x, weights = data(problem)
    work = works(algorithm, problem, weights)
    assert [launch.name for launch in work.launches] == launches
    expected = convolve(problem, x, weights)
    error = np.abs(run(work, problem, x, tmp_path) - expected).max() / np.abs(expected).max()
    assert error <= min(EXACT.tolerance[problem.dtype], work.errors.estimate)


WITH_AN_EPILOGUE = [
    ("direct", "exact", "g2mb2ic4ih13iw20oc18kh5kw3ph1pw1", "direct"),
    ("direct", "exact", "--dt=f64 mb1ic3ih9iw11oc21kh3kw3sh2ph1pw1", "direct"),
    ("unrolled", "exact", "g2mb2ic4ih13iw20oc18kh5kw3ph1pw1", "unrolled"),
    ("unrolled", "exact", "--dt=f64 mb1ic3ih9iw11oc21kh3kw3sh2ph1pw1", "unrolled"),
    ("unrolled", "exact", "g2mb2ic160ih5iw6oc70kh3kw3ph1pw1", "unrolled add_parts"),
    ("unrolled", "exact", "--dt=f64 mb1ic100ih5iw5oc21kh3kw3ph1pw1", "unrolled add_parts"),
    ("unrolled", "tf32", "g2mb2ic4ih13iw20oc18kh5kw3ph1pw1", "unrolled"),
    ("unrolled", "tf32", "mb1ic100ih5iw5oc21kh3kw3ph1pw1", "unrolled add_parts"),
    ("winograd", "exact", "g2mb2ic2ih13iw40oc18kh5kw3ph1pw1", "winograd"),
    ("winograd", "exact", "--dt=f64 mb1ic1ih13iw40oc7kh11kw3", "winograd"),
    ("winograd", "exact", "g2mb2ic4ih13iw40oc18kh5kw3ph1pw1", " ".join(STEPS)),
    ("winograd", "exact", "--dt=f64 mb1ic3ih13iw40oc21kh3kw3ph1pw1", " ".join(STEPS)),
]
"""Both dtypes, groups, and filters that fill no block, of every source."""

EPILOGUES = {"bias": (True, False), "ReLU": (False, True), "both": (True, True)}


@needs_the_host()
@pytest.mark.usefixtures("_capability")
@pytest.mark.parametrize(
    ("algorithm", "precision", "descriptor", "launches", "ends"),
    [
        pytest.param(*way, ends, marks=[] if ends == "both" and not way[2].startswith("--dt") else pytest.mark.long)
        for way in WITH_AN_EPILOGUE
        for ends in EPILOGUES
    ],
)
def test_an_epilogue_is_applied_to_every_output_and_keeps_nan(
    algorithm, precision, descriptor, launches, ends, tmp_path
):
    problem = Problem.parse(descriptor)
    has_bias, relu = EPILOGUES[ends]
    x, weights = data(problem)
    bias = np.arange(problem.out_channels).astype(problem.dtype) - problem.out_channels / 2 if has_bias else None
    if relu:
        x[0, 0, -1, -1] = np.nan
    work = works(algorithm, problem, weights, precision, Epilogue(bias, relu))
    assert " ".join(launch.name for launch in work.launches) == launches
    out = run(work, problem, x, tmp_path)
    sums = convolve(problem, x, weights)
    expected = sums if bias is None else sums + bias[:, None, None]
    expected = np.maximum(expected, 0) if relu else expected
    if algorithm == "winograd":
        assert np.isnan(out)[np.isnan(expected)].all(), "NaN spreads over a tile"
    else:
        assert np.array_equal(np.isnan(out), np.isnan(expected))
    finite = ~np.isnan(out)
    assert finite.mean() > 0.5
    assert np.isnan(expected).any() == relu
    assert (out[finite] < 0).any() != relu
    largest = np.abs(sums[~np.isnan(sums)]).max() + (0 if bias is None else np.abs(bias).max())
    assert np.abs(out - expected)[finite].max() <= PRECISIONS[precision].tolerance[problem.dtype] * largest


@pytest.mark.parametrize("descriptor", ["mb1ic1ih47000iw47000oc1kh3kw3", "mb1ic1ih23500iw23500oc1kh3kw3ph23500pw23500"])
def test_planes_beyond_32_bit_offsets_are_refused_by_kernels_that_have_no_wider_ones(descriptor):
    problem = Problem.parse(descriptor)
    for algorithm in ("direct", "unrolled"):
        assert "32-bit offsets" in ALGORITHMS[algorithm].unsupported_reason(problem, "gpu")
    winograd = ALGORITHMS["winograd"]
    assert winograd.unsupported_reason(problem, "gpu") is None
    assert winograd.footprint(problem, "gpu").scratch_bytes > problem.bytes, "three kernels, which have wider offsets"
    just_within = Problem.parse("mb2ic1ih46340iw46340oc1kh3kw3")
    assert ALGORITHMS["direct"].unsupported_reason(just_within, "gpu") is None
    assert winograd.footprint(just_within, "gpu").scratch_bytes == 0, "one kernel"


def test_more_planes_or_tiles_than_32_bits_count_are_refused():
    for descriptor in ("mb2097152ic1ih3iw3oc1024kh3kw3", "mb1000000ic1ih302iw302oc1kh3kw3"):
        problem = Problem.parse(descriptor)
        assert "32-bit offsets" in gpu_steps.supports(problem)
    assert "32-bit offsets" in ALGORITHMS["direct"].unsupported_reason(
        Problem.parse("mb2097152ic1ih3iw3oc1024kh3kw3"), "gpu"
    )
    assert "32-bit offsets" in ALGORITHMS["winograd"].unsupported_reason(
        Problem.parse("mb2097152ic1ih3iw3oc1024kh3kw3"), "gpu"
    )


@pytest.mark.parametrize(("algorithm", "precision"), FORMS)
def test_a_footprint_is_told_without_packing_weights(algorithm, precision):
    further = {"sums in parts": LAYER, "the experiment": REFERENCE}
    for name in supported(algorithm, precision, PROBLEMS | further):
        problem = Problem.parse((PROBLEMS | further)[name])
        work = works(algorithm, problem, np.zeros(problem.weights_shape, problem.dtype), precision)
        footprint = ALGORITHMS[algorithm].footprint(problem, "gpu", precision)
        assert footprint.weights_bytes == work.weights.nbytes
        assert footprint.scratch_bytes == work.scratch_size * work.dtype.itemsize


def test_without_an_epilogue_the_weights_alone_are_packed():
    problem = Problem.parse(LAYER)
    weights = np.ones(problem.weights_shape, problem.dtype)
    bias = np.arange(problem.out_channels, dtype=problem.dtype)
    for algorithm, precision in FORMS:
        plain = works(algorithm, problem, weights, precision)
        ends = works(algorithm, problem, weights, precision, Epilogue(bias, relu=True))
        assert np.array_equal(ends.weights, np.concatenate([plain.weights, bias]))
        assert ends.scratch_size == plain.scratch_size
        assert ends.variant == plain.variant
        assert plain.variant
        for before, after in zip(plain.launches, ends.launches, strict=True):
            changed = dict(set(after.macros) - set(before.macros))
            assert changed == {"BIAS": plain.weights.size, "RELU": 1}


FURTHER_WAYS = [
    *((*form, "g2mb1ic4ih13iw40oc18kh5kw3ph1pw1") for form in FORMS if form != ("direct", "exact")),
    ("winograd", "exact", "mb1ic1ih13iw40oc18kh5kw3ph1pw1"),
    ("unrolled", "exact", "mb1ic64ih4iw4oc9kh3kw3ph1pw1"),
]


@needs_the_host(*SANITIZER)
@pytest.mark.parametrize(
    ("algorithm", "precision", "descriptor"),
    [
        ("direct", "exact", "g2mb1ic4ih13iw40oc18kh5kw3ph1pw1"),
        *(pytest.param(*way, marks=pytest.mark.long) for way in FURTHER_WAYS),
    ],
)
def test_no_thread_writes_what_another_reads(algorithm, precision, descriptor, tmp_path):
    """The thread sanitizer watches kernels that fill no block, padding, groups, and sums in parts."""
    problem = Problem.parse(descriptor)
    x, weights = data(problem)
    out = run(works(algorithm, problem, weights, precision), problem, x, tmp_path, *SANITIZER)
    assert not np.isnan(out).any()


RACE = """extern "C" __global__ void mirror(const real*, const real*, real* out, real*) {
    __shared__ real shared[64];
    shared[threadIdx.x] = threadIdx.x;
    BETWEEN;
    out[threadIdx.x] = shared[63 - threadIdx.x];
}"""


def mirrored(between: str, directory: Path, *flags: str) -> tuple[subprocess.CompletedProcess[str], np.ndarray]:
    """Run it with a statement between writing and reading; what it said, and its output."""
    files = [directory / name for name in ("x", "weights", "out", "scratch")]
    for file in files:
        np.zeros(64, np.float32).tofile(file)
    program = on_the_host.program(RACE, "mirror", ["-Dreal=float", f"-DBETWEEN={between}"], 1, 64, *flags)
    done = subprocess.run([program, *files], capture_output=True, text=True, check=False, timeout=DEADLINE)
    return done, np.fromfile(files[2], np.float32)


@needs_the_host(*SANITIZER)
@pytest.mark.parametrize(("between", "clean"), [("__syncthreads()", True), ("", False)])
def test_the_sanitizer_sees_a_race_and_a_barrier(between, clean, tmp_path):
    done, _ = mirrored(between, tmp_path, *SANITIZER)
    assert (done.returncode == 0) == clean, done.stderr
    assert ("data race" in done.stderr) != clean


@needs_the_host()
@pytest.mark.parametrize(("between", "right"), [("__syncthreads()", True), ("", False), ("__syncwarp()", False)])
def test_a_barrier_that_is_missing_makes_outputs_wrong(between, right, tmp_path):
    done, out = mirrored(between, tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(out, np.arange(64)[::-1]) == right


@needs_the_host()
def test_a_barrier_that_not_all_threads_reach_is_an_error_and_nobody_waits(tmp_path):
    done, _ = mirrored("if (threadIdx.x < 40) __syncthreads()", tmp_path)
    assert done.returncode == 1
    assert "threads of a block wait at a barrier that the others never reach" in done.stderr


COMPILED = {name: name for name in (REFERENCE, LAYER, "--dt=f64 g2mb2ic4ih19iw23oc6kh3kw5ph2pw1")}


@pytest.mark.parametrize(
    ("algorithm", "precision", "descriptor", "capability", "ends"),
    [
        pytest.param(
            *form,
            descriptor,
            capability,
            ends,
            marks=[] if (capability, descriptor) == (CAPABILITIES[0], LAYER) else pytest.mark.long,
        )
        for form in FORMS
        for descriptor in supported(*form, COMPILED)
        for capability in CAPABILITIES
        for ends in (False, True)
        if int(capability) >= GPU_PRECISIONS[form[1]].capability
    ],
)
def test_the_sources_compile_for_every_capability(algorithm, precision, descriptor, capability, ends, monkeypatch):
    monkeypatch.setattr("convbench.cuda.card.capability", lambda: int(capability))
    problem = Problem.parse(descriptor)
    epilogue = Epilogue(np.ones(problem.out_channels, problem.dtype), relu=True) if ends else NO_EPILOGUE
    work = works(algorithm, problem, np.ones(problem.weights_shape, problem.dtype), precision, epilogue)
    for launch in {(launch.code, launch.macros): launch for launch in work.launches}.values():
        compile_for(capability, launch, problem.dtype)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_what_holds_a_gpu_up_compiles_for_every_capability(capability):
    compile_for(capability, Launch((WAIT,), "wait", (), 1, 1, "wait"), "float32")


@pytest.mark.parametrize(
    ("algorithm", "descriptor", "why"),
    [
        ("direct", "mb1ic1ih9iw600oc4kh1kw500", "registers"),
        ("direct", "mb1ic1ih400iw400oc4kh301kw51", "shared memory"),
    ],
)
def test_filters_that_do_not_fit_are_refused(algorithm, descriptor, why):
    assert why in ALGORITHMS[algorithm].unsupported_reason(Problem.parse(descriptor), "gpu")
