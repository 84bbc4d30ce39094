"""The gpu executor: on a GPU where there is one, and everything but its speed on a CuPy that runs on the host."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import command, python, with_fake_gpu
from on_the_host import unsupported_reason

from convbench import conv2d
from convbench.errors import UnavailableError
from convbench.executors import EXECUTORS
from convbench.executors.gpu import CYCLES, FORKED, HEAD_START, LONGEST_HEAD_START, TOGETHER, Gpu
from convbench.plans.forms import _overlap
from convbench.report.write import write_report
from convbench.results.store import load

PROBLEM = "mb1ic1ih40iw52oc16kh5kw5"

on_the_host = pytest.mark.skipif(unsupported_reason() is not None, reason=str(unsupported_reason()))


@on_the_host
def test_a_sweep_with_a_gpu_beside_the_cores(tmp_path):
    words = ["--problem", PROBLEM, "--algorithms", "direct,naive", "--executors", "serial,gpu", "--runs", "1"]
    done = with_fake_gpu("-m", "convbench", "sweep", *words, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    on_gpu = [record for record in load(tmp_path).records if record.executor == "gpu"]
    for record in on_gpu:
        if record.algorithm == "naive":
            assert (record.status, record.reason) == ("skipped", "has no gpu form")
            continue
        assert record.status == "ok", record.reason
        assert record.check["passed"]
        assert set(record.transfers) == {"host to device", "device to host", "end to end"}
        for inside, sample in zip(record.stages["direct"], record.samples, strict=True):
            assert inside == pytest.approx(sample), "it has one launch"
        assert "starved" not in record.flags
    write_report(load(tmp_path), tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "speedup with transfers" in report


@on_the_host
def test_arrays_on_a_gpu_are_convolved_there():
    code = """
import cupy, numpy as np, convbench
x, w, bias = (np.random.default_rng(0).standard_normal(shape) for shape in ((2, 20, 40), (10, 2, 5, 5), 10))
there = convbench.conv2d(cupy.asarray(x), cupy.asarray(w), bias, padding="same")
assert isinstance(there, cupy.ndarray)
np.testing.assert_allclose(cupy.asnumpy(there), convbench.conv2d(x, w, bias, padding="same"), atol=1e-12)
there = convbench.conv2d(cupy.asarray(x), w, cupy.asarray(bias))
np.testing.assert_allclose(cupy.asnumpy(there), convbench.conv2d(x, w, bias), atol=1e-12)
out = cupy.empty((10, 16, 36), "float64")
assert convbench.conv2d(cupy.asarray(x), w, out=out) is out
try:
    convbench.conv2d(cupy.asarray(x), w, out=np.empty((10, 16, 36)))
except convbench.ConvbenchError as error:
    print(error)
try:
    convbench.conv2d(cupy.asarray(x), w, out=cupy.empty((5761,), "float64")[1:].reshape(10, 16, 36))
except convbench.ConvbenchError as error:
    print(error)
"""
    done = with_fake_gpu("-c", code)
    assert done.returncode == 0, done.stderr
    host, unaligned = done.stdout.splitlines()
    assert host.startswith("out is ndarray; a float64 array of shape")
    assert unaligned == "out begins between multiples of 16 bytes; give an array of its own"


@on_the_host
def test_calls_from_two_threads_have_scratch_of_their_own_and_a_forked_child_is_refused():
    """A child that used CUDA's context of before would crash, or hang."""
    code = """
import os, threading, cupy, numpy as np, convbench
from types import SimpleNamespace
x = cupy.asarray(np.random.default_rng(0).standard_normal((1, 1, 9, 9)).astype("float32"))
w = np.ones((2, 1, 3, 3), "float32")
plan = convbench.plan("mb1ic1ih9iw9oc2kh3kw3", w, algorithm="winograd", executor="gpu")
expected = cupy.asnumpy(plan(x))
both_there, scratch = threading.Barrier(2, timeout=100), set()

class Meeting(cupy.RawKernel):
    def __call__(self, grid, block, arrays, shared_mem=0):
        scratch.add(arrays[3].ctypes.data)
        both_there.wait()

held = plan._runner._held
held.kernels = [SimpleNamespace(function=Meeting("", "meeting", ())) for _ in held.kernels]
threads = [threading.Thread(target=plan, args=(x,)) for _ in range(2)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(len(scratch), flush=True)
child = os.fork()
if child == 0:
    another = lambda: convbench.plan("ic1ih9oc2kh3", w, executor="gpu")
    for use in (lambda: plan(x), lambda: convbench.conv2d(x, w), another):
        try:
            use()
        except convbench.UnavailableError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
np.testing.assert_array_equal(cupy.asnumpy(convbench.conv2d(x, w, algorithm="winograd")), expected)
"""
    done = with_fake_gpu("-c", code)
    assert done.returncode == 0, done.stderr
    scratch, *refused = done.stdout.splitlines()
    assert scratch == "2"
    assert len(refused) == 3
    assert all(FORKED in line for line in refused)


@on_the_host
def test_kernels_are_loaded_once_and_only_those_that_were_used_last_stay_loaded():
    code = """
import functools, gc, weakref, numpy as np, convbench
from convbench.cuda import module
module._loaded = functools.lru_cache(maxsize=3)(module._loaded.__wrapped__)
seen = {}

def plan(columns):
    problem = f"mb1ic1ih9iw{columns}oc2kh3kw3"
    found = convbench.plan(problem, np.ones((2, 1, 3, 3), "float32"), algorithm="direct", executor="gpu")
    seen.update({id(kernel): weakref.ref(kernel) for kernel in found._runner._held.kernels})
    return found

one, two = plan(9), plan(9)
print(len(seen))
for columns in range(10, 20):
    plan(columns).close()
gc.collect()
print(sum(kernel() is not None for kernel in seen.values()))
one.close(), two.close()
del one, two
gc.collect()
print(sum(kernel() is not None for kernel in seen.values()))
"""
    done = with_fake_gpu("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "4", "3"]


def test_an_array_on_a_gpu_without_cupy_is_one_clear_error():
    class Elsewhere:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self):
            raise AssertionError("nobody asks for it")

    if EXECUTORS["gpu"].available() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(UnavailableError, match="lies on a GPU, and"):
        conv2d(Elsewhere(), np.ones((1, 3, 3)))


@pytest.mark.long
@on_the_host
def test_the_launches_of_a_call_share_its_time_and_its_caches_are_emptied_where_that_is_asked_for(tmp_path):
    words = ["--problem", "mb1ic8ih12iw13oc16kh3kw3", "--algorithms", "winograd", "--executors", "gpu", "--runs", "1"]
    done = with_fake_gpu("-m", "convbench", "sweep", *words, "--cache", "cold", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    [record] = load(tmp_path).records
    assert len(record.stages) == 3
    for sample, *stages in zip(record.samples, *record.stages.values(), strict=True):
        assert all(stage > 0 for stage in stages)
        assert sum(stages) == pytest.approx(sample)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libcudart.so.11: cannot open\\nand much more')", "cannot be loaded (libcudart.so.11"),
        pytest.param(
            "from types import SimpleNamespace as S\n"
            "class CUDARuntimeError(RuntimeError): pass\n"
            "def count(): raise CUDARuntimeError('CUDA driver version is insufficient')\n"
            "cuda = S(runtime=S(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError))",
            "CUDA driver version is insufficient",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "from types import SimpleNamespace as S\n"
            "cuda = S(runtime=S(getDeviceCount=lambda: 0, CUDARuntimeError=RuntimeError))",
            "there is no NVIDIA GPU",
            marks=pytest.mark.long,
        ),
    ],
    ids=["another CUDA", "an old driver", "no GPU"],
)
def test_what_is_wrong_with_a_gpu_is_one_line_and_the_sweep_goes_on(tmp_path, code, reason):
    (tmp_path / "site" / "cupy").mkdir(parents=True)
    (tmp_path / "site" / "cupy" / "__init__.py").write_text(code)
    words = ["--problem", PROBLEM, "--algorithms", "direct", "--executors", "serial,gpu", "--runs", "1"]
    done = python("-m", "convbench", "sweep", *words, "--output", tmp_path / "sweep", modules=[tmp_path / "site"])
    assert done.returncode == 0, done.stderr
    for line in (tmp_path / "sweep" / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["status"] == ("skipped" if record["executor"] == "gpu" else "ok")
        if record["status"] == "skipped":
            assert reason in record["reason"]
            assert "\n" not in record["reason"]


@pytest.mark.long
@on_the_host
def test_a_kernel_after_which_nothing_works_costs_its_own_cell(tmp_path):
    words = ["--problem", PROBLEM, "--algorithms", "direct,unrolled,winograd", "--executors", "gpu", "--runs", "2"]
    done = with_fake_gpu("-m", "convbench", "sweep", *words, "--output", tmp_path, FAKE_FAULT="unrolled")
    assert done.returncode == 1
    for record in load(tmp_path).records:
        assert record.status == ("failed" if record.algorithm == "unrolled" else "ok"), record
        if record.status == "failed":
            assert record.reason.startswith("CUDARuntimeError: cudaErrorIllegalAddress")


class Queue:
    """A GPU's queue, and a host that takes some time to put a call into it; in milliseconds."""

    def __init__(self, of_a_kernel: float, of_queueing: float) -> None:
        self.of_a_kernel, self.of_queueing = of_a_kernel, of_queueing
        self.host = self.gpu = 0.0
        self.waits: list[float] = []
        runtime = SimpleNamespace(CUDARuntimeError=RuntimeError)
        self.cuda = SimpleNamespace(Event=self.event, get_elapsed_time=lambda a, b: b.at - a.at, runtime=runtime)

    def event(self) -> SimpleNamespace:
        event = SimpleNamespace(synchronize=lambda: setattr(self, "host", max(self.host, event.at)))
        event.record = lambda: setattr(event, "at", max(self.host, self.gpu))
        return event

    def RawKernel(self, code: str, name: str, options: tuple[str, ...]) -> object:  # noqa: N802  # CuPy's name
        assert (name, options) == ("wait", ("--std=c++17",))
        assert "clock64" in code

        def wait(_grid: tuple[int], _block: tuple[int], cycles: tuple[int]) -> None:
            self.waits.append(cycles[0] / CYCLES)
            self.gpu = max(self.host, self.gpu) + 1e3 * self.waits[-1]

        return wait

    def call(self) -> None:
        self.host += self.of_queueing
        self.gpu = max(self.host, self.gpu) + self.of_a_kernel


@pytest.mark.parametrize(("of_a_kernel", "loops"), [(0.001, 1), (0.001, 300), (0.7, 14), (40.0, 2)])
def test_a_gpu_is_not_timed_waiting_for_the_host(of_a_kernel, loops, monkeypatch):
    queue = Queue(of_a_kernel, of_queueing=0.03)
    monkeypatch.setattr("convbench.executors.gpu.time.perf_counter", lambda: queue.host / 1e3)
    gpu = Gpu()
    monkeypatch.setattr(gpu, "module", lambda: queue, raising=False)
    gpu.seconds(queue.call, 1)  # from which it learns how long queueing takes
    queue.waits.clear()
    assert gpu.seconds(queue.call, loops) == pytest.approx(loops * of_a_kernel / 1e3)
    assert len(queue.waits) == -(-loops // TOGETHER)
    assert all(HEAD_START <= seconds <= LONGEST_HEAD_START for seconds in queue.waits)


def test_arrays_overlap_where_their_memory_does():
    class Elsewhere:
        """As CuPy's, told of memory that somebody else allocated."""

        def __init__(self, begin: int, nbytes: int) -> None:
            self.__cuda_array_interface__ = {"data": (begin, False)}
            self.nbytes = nbytes

    assert _overlap(Elsewhere(1000, 100), Elsewhere(1096, 100))
    assert _overlap(Elsewhere(1000, 100), Elsewhere(900, 300))
    assert not _overlap(Elsewhere(1000, 100), Elsewhere(1100, 100))
    assert not _overlap(Elsewhere(1000, 100), Elsewhere(900, 100))


@pytest.mark.gpu
@pytest.mark.skipif(EXECUTORS["gpu"].available() is not None, reason=str(EXECUTORS["gpu"].available()))
def test_the_experiment_on_a_gpu(tmp_path):
    words = ["sweep", "--algorithms", "direct,winograd", "--executors", "threads,gpu", "--runs", "2"]
    subprocess.run(command([*words, "--output", tmp_path]), check=True, timeout=600)
    on_gpu = [record for record in load(tmp_path).records if record.executor == "gpu" and record.status != "skipped"]
    assert on_gpu
    for record in on_gpu:
        assert record.status == "ok", record.reason
