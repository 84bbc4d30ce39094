"""What a GPU's memory, streams and devices ask of callers and plans, on a CuPy that runs on the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import python, with_fake_gpu
from on_the_host import unsupported_reason

from convbench.cuda import streams

pytestmark = pytest.mark.skipif(unsupported_reason() is not None, reason=str(unsupported_reason()))

BEGIN = """
import gc, weakref, cupy, numpy as np, convbench
from convbench.executors.gpu import GPU

w = np.ones((2, 1, 3, 3), "float32")

def image(rows=9):
    return cupy.asarray(np.random.default_rng(0).standard_normal((1, 1, rows, 9)).astype("float32"))

def plan(algorithm="direct"):
    return convbench.plan("mb1ic1ih9iw9oc2kh3kw3", w, algorithm=algorithm, executor="gpu")

def refused(call):
    try:
        call()
    except convbench.ConvbenchError as error:
        assert "\\n" not in str(error)
        print(f"{type(error).__name__}: {error}")
    else:
        print("nothing")
"""
WITHOUT_KERNELS = """
cupy.RawKernel.__call__ = lambda *_, **__: None
"""


def said(code: str, **variables: str) -> list[str]:
    """The lines that code prints with the CuPy of the host."""
    done = with_fake_gpu("-c", BEGIN + code, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_arrays_on_another_gpu_are_refused():
    """A kernel that reads them loses the whole process its GPU."""
    code = """
with cupy.cuda.Device(1):
    there, out_there = image(), cupy.empty((1, 2, 7, 7), "float32")
    plan_there = plan()
here, three = plan(), convbench.plan("mb1ic8ih12iw13oc16kh3kw3", np.ones((16, 8, 3, 3)), algorithm="winograd",
                                     executor="gpu")
refused(lambda: here(there))
refused(lambda: here(image(), out_there))
refused(lambda: convbench.Conv2d(w)(image(), out=out_there))
refused(lambda: plan_there(image()))
refused(lambda: here._runner(there, here.empty_output()))
x, out = three.empty_input(), three.empty_output()
with cupy.cuda.Device(1):
    out_there = three.empty_output()
refused(lambda: three.stage_shares(x, out_there))
with cupy.cuda.Device(1):
    refused(lambda: plan_there(there, out_there := cupy.empty((1, 2, 7, 7), "float32")))
assert convbench.Conv2d(w)(there).gpu == 1
"""
    x_there = "RequestError: x is on GPU 1, and "
    out_there = "RequestError: out is on GPU 1, and the plan on GPU 0; give an array there"
    assert said(WITHOUT_KERNELS + code, FAKE_GPUS="2") == [
        x_there + "the current one is GPU 0; use Device(1)",
        out_there,
        out_there,
        "RequestError: the plan is on GPU 1, which is not the current one",
        x_there + "the plan on GPU 0; give an array there",
        out_there,
        "nothing",
    ]


@pytest.mark.long
def test_scratch_that_no_plan_holds_costs_no_plan_its_place():
    code = """
from convbench.layer import operation, plans
made = []

class Counted(operation.Plan):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        made.append(self)

operation.Plan = Counted
weights = np.ones((16, 8, 3, 3), "float32")
layer = convbench.Conv2d(weights, algorithm="winograd")
images = [cupy.empty((batch, 8, 12, 13), "float32") for batch in (4, 5)]
layer(images[0])
assert made[0].scratch_bytes > 0
layer._plans._most_bytes = 2 * made[0].packed_bytes + made[0].scratch_bytes // 2
for _ in range(3):
    for one in images:
        layer(one)
print(len(made), len(layer._plans), layer._plans.bytes == sum(one.packed_bytes for one in made))
"""
    assert said(WITHOUT_KERNELS + code) == ["2 2 True"]


def test_where_scratch_does_not_fit_another_form_computes():
    code = """
weights = np.random.default_rng(0).standard_normal((16, 8, 3, 3)).astype("float32")
x = np.random.default_rng(0).standard_normal((1, 8, 12, 13)).astype("float32")
layer = convbench.Conv2d(weights)
ranked = [one.candidate.algorithm for one in layer.choice(cupy.asarray(x)).ranked]
expected = convbench.conv2d(x, weights)
problem = "mb1ic8ih12iw13oc16kh3kw3"
with convbench.plan(problem, weights, algorithm="winograd", executor="gpu") as three:
    cupy.largest.append(three.scratch_bytes - 1)
    refused(lambda: three(cupy.asarray(x)))
refused(lambda: convbench.plan(problem, weights, algorithm="winograd", executor="gpu"))
from convbench.layer import operation
from dataclasses import replace
chosen = operation.choose
def winograd_first(*arguments, **options):
    choice = chosen(*arguments, **options)
    return replace(choice, ranked=tuple(sorted(choice.ranked, key=lambda one: one.candidate.algorithm != "winograd")))
operation.choose = winograd_first
assert layer.choice(cupy.asarray(x)).ranked[0].candidate.algorithm == "winograd"
np.testing.assert_allclose(layer(cupy.asarray(x)).get(), expected, rtol=1e-4, atol=1e-4)
np.testing.assert_allclose(convbench.conv2d(cupy.asarray(x), weights).get(), expected, rtol=1e-4, atol=1e-4)
"""
    in_a_call, at_opening = said(code)
    assert in_a_call.startswith("UnavailableError: the GPU has no memory for the scratch of a call (")
    assert at_opening.startswith("UnavailableError: there is no memory for winograd")


@pytest.mark.long
def test_a_plan_that_is_closed_during_a_call_completes_it():
    code = """
one = plan()
held = one._runner._held

class Closing:
    @property
    def function(self):
        one.close()
        return lambda grid, block, arrays, shared_mem: print(arrays[1] is weights)

weights, held.kernels = held.weights, [Closing()]
runner, out = one._runner, one.empty_output()
runner(image(), out)
refused(lambda: runner(image(), out))
refused(lambda: one(image()))
"""
    assert said(code) == ["True"] + ["RequestError: the plan is closed; make a new one with convbench.plan"] * 2


@pytest.mark.long
def test_memory_goes_back_to_its_stream_behind_the_calls_on_others():
    """The pool gives it to the stream's next work at once, while another stream's kernels still read the weights."""
    code = """
A, B, C = cupy.cuda.Stream(11), cupy.cuda.Stream(22), cupy.cuda.Stream(33)
with A:
    one, other, freed = plan(), plan(), plan()
    other(image())
again = cupy.cuda.Stream(22)  # has the pointer of one that is gone, whose work may not be done
for stream in (B, C, again):
    with stream:
        one(image())
        freed(image())
other.close()
print(A.waits)
one.close()
print(A.waits)
one.close()
del freed
print(A.waits)
print(B.waits, C.waits, again.waits)
"""
    assert said(WITHOUT_KERNELS + code) == ["[]", "[22, 33]", "[22, 33, 22, 33]", "[] [] [22, 22]"]


@pytest.mark.long
def test_nothing_waits_inside_of_a_capture_and_one_that_failed_is_named():
    code = """
A, B = cupy.cuda.Stream(11), cupy.cuda.Stream(22)
with A:
    one, other = plan(), plan()
with B:
    one(image())
A.captures = True
one.close()
print(A.waits)
def failed():
    raise RuntimeError("the capture is invalid")
A.is_capturing = failed
with A:
    refused(lambda: other(image()))
"""
    assert said(WITHOUT_KERNELS + code) == [
        "[]",
        "RequestError: the capture of a graph failed on this stream (the capture is invalid); end it",
    ]


@pytest.mark.long
def test_a_layer_keeps_what_a_graph_has_captured():
    code = """
stream, layer = cupy.cuda.Stream(11), convbench.Conv2d(w, algorithm="direct", plans=2)
with stream:
    layer(image())
    stream.captures = True
    layer(image())
    stream.captures = False
captured = [kept.plan for kept in layer._plans._kept.values()]
for rows in range(10, 14):
    layer(image(rows))
print(captured[0] in [kept.plan for kept in layer._plans._kept.values()], len(layer._plans))
layer._plans._drop_oldest(0, 0)
print([kept.plan for kept in layer._plans._kept.values()] == captured)

fixed = w.copy()
fixed.setflags(write=False)
from convbench.layer import given_weights
with stream:
    convbench.conv2d(image(), fixed, algorithm="direct")
    stream.captures = True
    convbench.conv2d(image(), fixed, algorithm="direct")
    stream.captures = False
given_weights.MOST_PLANS = 1
others = [w.copy() for _ in range(3)]
for each in others:
    each.setflags(write=False)
    convbench.conv2d(image(), each, algorithm="direct")
print([id(fixed) in given_weights._given, *(id(each) in given_weights._given for each in others)])
"""
    assert said(WITHOUT_KERNELS + code) == ["True 2", "True", "[True, False, False, True]"]


@pytest.mark.long
def test_who_queues_faster_than_the_gpu_computes_waits_and_who_waits_lets_go():
    code = """
import torch
from convbench.executors import gpu_runner
one = plan()
waited = []
cupy.cuda.Event.is_done = staticmethod(lambda: False)
cupy.cuda.Event.synchronize = lambda event: waited.append(event)
def call():
    one(torch.Tensor(np.zeros((1, 1, 9, 9), "float32")))
for _ in range(gpu_runner.MOST_CALLS):
    call()
print(len(waited))
call()
print(len(waited))
gpu_runner.MOST_BYTES = 5 * 9 * 9 * 4
call()
print(len(waited))
cupy.cuda.Event.is_done = staticmethod(lambda: True)
GPU.wait()
print(len(GPU.in_flight._entries))
"""
    assert said(WITHOUT_KERNELS + code) == ["0", "1", str(1 + 66 - 5), "0"]


@pytest.mark.long
def test_the_first_error_of_a_call_counts_and_what_it_queued_is_held():
    code = """
import torch
weights = np.ones((16, 8, 3, 3), "float32")
three = convbench.plan("mb1ic8ih12iw13oc16kh3kw3", weights, algorithm="winograd", executor="gpu")
tensor = torch.Tensor(np.zeros((1, 8, 12, 13), "float32"))
out, launches = three.empty_output(), []
def launch(*_, **__):
    launches.append(1)
    if len(launches) == 2:
        raise cupy.cuda.driver.CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
cupy.RawKernel.__call__ = launch
cupy.cuda.Event.is_done = staticmethod(lambda: False)
def never(*_):
    raise cupy.cuda.runtime.CUDARuntimeError("no event")
with cupy.cuda.Stream(11) as stream:
    three._runner._held.leave = never
    refused(lambda: three(tensor, out))
print(len(GPU.in_flight._entries))
"""
    assert said(code) == [
        "UnavailableError: there is no memory for one more call of the plan at a time; let calls wait for one another",
        "1",
    ]


@pytest.mark.long
def test_every_thread_has_a_default_stream_of_its_own_where_their_pointers_are_one():
    code = """
import threading
layer = convbench.Conv2d(w, algorithm="direct")
def call():
    with cupy.cuda.Stream(2):
        layer(image())
call()
call()
print(len(layer._plans))
thread = threading.Thread(target=call)
thread.start(), thread.join()
print(len(layer._plans))
"""
    assert said(WITHOUT_KERNELS + code) == ["1", "2"]
    ours = streams.queue_of(type("Stream", (), {"ptr": streams.PER_THREAD}))
    assert ours != (streams.PER_THREAD, 0)


def test_memory_of_another_library_is_held_until_what_reads_it_is_done():
    """The library would give it to its next tensor, which knows nothing of what CuPy has queued."""
    code = """
import torch
one = plan()
layer = convbench.Conv2d(w, algorithm="direct")
cupy.cuda.Event.is_done = staticmethod(lambda: False)

def called(call, shape=(1, 1, 9, 9), dtype="float32", step=1):
    tensor = torch.Tensor(np.zeros((*shape[:-1], shape[-1] * step), dtype)[..., ::step])
    held = weakref.ref(tensor)
    call(tensor)
    return held

held = [called(one), called(layer), called(one, dtype="float64"), called(layer, step=2)]
into = torch.Tensor(np.zeros((1, 2, 7, 7), "float32"))
one(image(), cupy.from_dlpack(into))
held.append(weakref.ref(into))
del into
gc.collect()
print([tensor() is not None for tensor in held], len(GPU.in_flight._entries))
one(image())
print([tensor() is not None for tensor in held], len(GPU.in_flight._entries))
cupy.cuda.Event.is_done = staticmethod(lambda: True)
one(image())
print([tensor() is not None for tensor in held], len(GPU.in_flight._entries))
"""
    alive, gone = f"{[True] * 5} 5", f"{[False] * 5} 0"
    assert said(WITHOUT_KERNELS + code) == [alive, alive, gone]


@pytest.mark.long
def test_a_graph_keeps_what_its_calls_read_and_write_until_the_plan_is_closed():
    code = """
import torch
seen = []

class Kernel:
    def function(self, grid, block, arrays, shared_mem):
        seen.append([weakref.ref(array) for array in (arrays[0], *arrays[2:])])

three = convbench.plan("mb1ic8ih12iw13oc16kh3kw3", np.ones((16, 8, 3, 3)), algorithm="winograd", executor="gpu")
held = three._runner._held
held.kernels = [Kernel() for _ in held.kernels]
cupy.RawKernel.__call__ = lambda *_, **__: None
stream, other = cupy.cuda.Stream(11), convbench.Conv2d(w, algorithm="direct")
strided = cupy.empty((1, 8, 12, 26), "float32")[..., ::2]
three(strided)
cupy.cuda.Event.is_done = staticmethod(lambda: False)
plan()(torch.Tensor(np.zeros((1, 1, 9, 9), "float32")))  # in flight, asked about by later calls
with stream:
    three(strided)
    stream.captures = True
    three(strided)
    refused(lambda: other(image()))
    stream.captures = False
gc.collect()
for of_a_call in seen[::3]:
    print([array() is not None for array in of_a_call])
del held
three.close()
print([array() is not None for array in seen[-1]])
"""
    assert said(code) == [
        "RequestError: a plan cannot be made while a graph is captured; call it once before, or make it there",
        str([False] * 3),
        str([False] * 3),
        str([True] * 3),
        str([False] * 3),
    ]


@pytest.mark.long
def test_errors_of_compiling_and_loading_are_one_line():
    code = """
compiler, driver = cupy.cuda.compiler, cupy.cuda.driver
out_of_memory = driver.CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
cupy.load_errors[:] = [out_of_memory]
plan("direct").close()
print(len(cupy.freed_blocks))
from convbench.cuda.module import _loaded
for errors in (
    [out_of_memory, out_of_memory],
    [compiler.CompileException("\\nconvbench.cu(3): error: no such thing\\n1 error detected")],
    [RuntimeError("CuPy failed to load libnvrtc.so.12: OSError: cannot open")],
    [driver.CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")],
):
    _loaded.cache_clear()
    cupy.load_errors[:] = errors
    refused(plan)
_loaded.cache_clear()
cupy.load_errors[:] = [out_of_memory, out_of_memory]
layer = convbench.Conv2d(w)
first = layer.choice(image()).ranked[0].candidate.algorithm
layer(image())
print(layer._plans._kept.copy().popitem()[1].plan.candidate.algorithm != first)

one = plan()
def no_resources(*_, **__):
    raise driver.CUDADriverError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch")
cupy.RawKernel.__call__ = no_resources
refused(lambda: one(image()))
cupy.lost.append("direct")
try:
    one(image())
except convbench.ConvbenchError:
    print("an error of the request")
except cupy.cuda.runtime.CUDARuntimeError:
    print("the GPU is lost")
"""
    freed, memory, *refused = said(WITHOUT_KERNELS + code)
    assert freed == "1"
    assert memory.startswith("UnavailableError: there is no memory for direct")
    assert refused == [
        "UnavailableError: CUDA's compiler fails for the kernel direct (convbench.cu(3): error: no such thing); "
        "pip install 'convbench[gpu]' anew",
        "UnavailableError: CUDA's compiler fails for the kernel direct (CuPy failed to load libnvrtc.so.12: OSError: "
        "cannot open); pip install 'convbench[gpu]' anew",
        "UnavailableError: the driver refuses the kernel direct (CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is "
        "available); use another form, or a driver that fits CuPy's CUDA",
        "True",
        "UnavailableError: the driver refuses the launch of direct (CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many "
        "resources requested for launch); use another form, or a driver that fits CuPy's CUDA",
        "the GPU is lost",
    ]


@pytest.mark.long
def test_a_kernel_is_unloaded_on_its_own_gpu():
    code = """
from convbench.cuda.module import _loaded
for gpu in (0, 1):
    with cupy.cuda.Device(gpu):
        plan().close()
_loaded.cache_clear()
gc.collect()
print(cupy.unloaded)
"""
    assert said(code, FAKE_GPUS="2") == ["[(0, 0), (1, 1)]"]


@pytest.mark.parametrize(
    ("count", "compiler", "words"),
    [
        (
            "raise CUDARuntimeError('cudaErrorInitializationError: initialization error')",
            "pass",
            ["driver", "CUDA does not outlive a fork"],
        ),
        ("return 1", "raise RuntimeError('CuPy failed to load libnvrtc.so.12: OSError: no')", ["libnvrtc.so.12"]),
    ],
    ids=["forked by somebody else", "no compiler"],
)
@pytest.mark.long
def test_what_a_gpu_lacks_is_told_before_it_is_used(tmp_path: Path, count: str, compiler: str, words: list[str]):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(f"""
from types import SimpleNamespace as S
class CUDARuntimeError(RuntimeError): pass
def count(): {count}
def version(): {compiler}
cuda = S(runtime=S(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError), nvrtc=S(getVersion=version))
""")
    done = python(
        "-c", "from convbench.executors import EXECUTORS; print(EXECUTORS['gpu'].available())", modules=[tmp_path]
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert all(word in line for word in words), line
