"""The executor `dask`: parts of a problem on workers of a local cluster or any scheduler, and what failures do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import PROBLEMS, data, python, wait_until, with_fake_gpu

import convbench
from convbench.errors import RequestError, UnavailableError
from convbench.executors import dask as executor
from convbench.executors import dask_connection
from convbench.executors.dask_connection import LocalCluster, disconnect
from convbench.measure.reference import convolve
from convbench.plans import DistributedPlan, plan
from convbench.problem import Problem
from convbench.results.store import load

QUICK = ("padding", "channels and batch", "everything", "a kernel as large as the image")
BANDS = Problem.parse(PROBLEMS["padding"])


@pytest.fixture(scope="module", autouse=True)
def _no_cluster_is_left() -> Iterator[None]:
    yield
    disconnect()


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster that is there already, with two workers."""
    here = LocalCluster(2, 1)
    yield here
    disconnect()
    here.close()


def bound(problem: Problem = BANDS, cores: int = 2, **how: object) -> DistributedPlan:
    return plan(problem, data(problem)[1], algorithm="direct", executor="dask", cores=cores, **how)


def right(problem: Problem, out: np.ndarray) -> None:
    x, weights = data(problem)
    expected = convolve(problem, x, weights)
    assert np.abs(out - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in PROBLEMS]
)
def test_parts_on_workers_are_together_the_convolution(name):
    problem = Problem.parse(PROBLEMS[name])
    with bound(problem) as one:
        right(problem, one(data(problem)[0], one.empty_output()))
        assert one.workers <= 2
        assert one.events == ()


def test_parts_stay_where_they_are_until_they_are_gathered():
    x, _ = data(BANDS)
    with bound() as one:
        out = one.empty_output()
        one.distribute(x)
        one.compute()
        one.compute()
        out.fill(np.nan)
        one.gather(out)
        right(BANDS, out)
        times = one.drain()
        assert [len(call) for call in times] == [2, 2]
        assert all(seconds > 0 and waited == 0 for call in times for seconds, waited in call)
        assert one.drain() == []
        facts = one.facts()
        rows = [part.problem.height for part in BANDS.split(2)]
        assert facts["axis"] == "rows"
        assert facts["bytes"]["distribution"] == sum(rows) * BANDS.width * BANDS.channels * 4
        assert facts["bytes"]["gathering"] == out.nbytes
        assert facts["bytes"]["halo"] == facts["messages"]["halo"] == 0
        assert (facts["workers"], facts["hosts"], facts["threads_per_worker"]) == (2, 1, 1)


def test_a_batch_is_cut_into_images_and_a_layers_end_goes_with_them():
    problem = Problem.parse("mb3ic5ih12iw13oc10kh3kw3ph1pw1")
    x, weights = data(problem)
    bias = np.arange(10, dtype=np.float32)
    with plan(problem, weights, executor="dask", cores=2, bias=bias, activation="relu") as one:
        assert one.facts()["axis"] == "images"
        expected = np.maximum(convolve(problem, x, weights) + bias[:, None, None], 0)
        np.testing.assert_allclose(one(x), expected, atol=1e-5)


def test_a_worker_that_dies_is_replaced_and_the_answer_is_right():
    x, _ = data(BANDS)
    with bound() as one:
        out = one.empty_output()
        one(x, out)
        before = one.pids
        os.kill(before[0], signal.SIGKILL)
        one.compute()
        out.fill(np.nan)
        one.gather(out)
        right(BANDS, out)
        assert "worker_replaced" in one.events
        out.fill(np.nan)
        right(BANDS, one(x, out))


@pytest.mark.long
def test_a_scheduler_that_is_gone_is_one_error_and_the_next_plan_starts_another():
    x, _ = data(BANDS)
    with bound() as one:
        one(x)
        (connection,) = dask_connection._connections.values()
        connection._local._process.kill()
        with pytest.raises(UnavailableError, match=r"the Dask scheduler at tcp://\S+ is gone"):
            one(x)
    with bound() as one:
        right(BANDS, one(x))


@pytest.mark.long
def test_any_scheduler_serves_and_has_to_have_workers_enough(cluster, monkeypatch, tmp_path):
    x, _ = data(BANDS)
    with bound(scheduler=cluster.address) as one:
        right(BANDS, one(x))
        assert one.pids == ()  # workers of others are not pinned
    monkeypatch.setattr(dask_connection, "START_SECONDS", 0.2)
    with pytest.raises(UnavailableError, match="has 2 workers, and 3 are needed"):
        bound(cores=3, scheduler=cluster.address)
    file = tmp_path / "scheduler.json"
    file.write_text(f'{{"address": "{cluster.address}"}}')
    monkeypatch.setattr(dask_connection, "START_SECONDS", 60.0)
    with bound(scheduler_file=str(file)) as one:
        right(BANDS, one(x))


def test_where_no_scheduler_can_be_is_one_error():
    with pytest.raises(UnavailableError, match=r"the Dask scheduler at nonsense does not answer \(missing port"):
        bound(scheduler="nonsense")
    with pytest.raises(UnavailableError, match=r"scheduler_file='nowhere\.json' is not there"):
        bound(scheduler_file="nowhere.json")


def test_no_scheduler_at_an_address_is_one_error(monkeypatch):
    monkeypatch.setattr(dask_connection, "START_SECONDS", 2.0)
    with pytest.raises(UnavailableError, match=r"the Dask scheduler at tcp://127\.0\.0\.1:9 does not answer"):
        bound(scheduler="tcp://127.0.0.1:9")


def test_wrong_arrays_are_refused():
    with bound() as one:
        with pytest.raises(RequestError, match="x has shape"):
            one(np.zeros((3, 3), np.float32))
        with pytest.raises(RequestError, match="out is float64"):
            one(data(BANDS)[0], np.zeros(BANDS.output_shape))
    with pytest.raises(RequestError, match="threads_per_worker=0"):
        bound(threads_per_worker=0)


def test_without_dask_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(executor, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"Dask is not installed; pip install 'convbench\[dask\]'"):
        bound()


@pytest.mark.long
@pytest.mark.usefixtures("brief")
def test_a_sweep_records_what_workers_did_and_what_moved(in_process, tmp_path):
    words = ["--problem", str(BANDS), "--executors", "serial,dask", "--algorithms", "direct", "--cores", "1,2"]
    status, *_ = in_process("sweep", *words, "--runs", 1, "--threads-per-worker", 1, "--output", tmp_path / "sweep")
    assert status == 0
    records = {record.cores: record for record in load(tmp_path / "sweep").records if record.executor == "dask"}
    assert set(records) == {1, 2}
    for cores, record in records.items():
        assert record.check["passed"]
        assert set(record.transfers) == {"distribution", "gathering", "end to end"}
        found = record.cluster
        assert (found["workers"], found["hosts"], found["remote"], found["replaced"]) == (cores, 1, 0, 0)
        assert [len(workers) for workers in found["compute_seconds"]] == [cores] * len(record.samples)
        assert found["messages"] == {"distribution": cores, "halo": 0, "gathering": cores}
        slowest = [max(workers) for workers in found["compute_seconds"]]
        assert all(sample >= seconds for sample, seconds in zip(record.samples, slowest, strict=True))


def test_two_schedulers_are_refused(in_process):
    words = ["--scheduler", "tcp://here:1", "--scheduler-file", "there.json"]
    status, _, said = in_process("sweep", *words)
    assert status == 2
    assert "scheduler='tcp://here:1' and scheduler_file='there.json' name two; give one" in said


@pytest.mark.long
def test_nothing_of_dask_or_mpi_is_imported_where_it_is_not_asked_for(tmp_path):
    code = (
        "import sys; from convbench import cli; "
        "sys.argv = ['convbench', 'sweep', '--problem', 'ic1ih9iw9oc4kh3kw3', '--algorithms', 'naive', '--executors', "
        f"'serial', '--runs', '1', '--output', {str(tmp_path / 'sweep')!r}]\n"
        "try: cli.main()\n"
        "except SystemExit as end: print(end.code)\n"
        "import convbench, numpy as np; convbench.conv2d(np.ones((9, 9)), np.ones((2, 3, 3)))\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'dask', 'distributed', 'mpi4py'})"
    )
    done = python("-c", code)
    assert done.stdout.splitlines()[-2:] == ["0", "set()"], done.stderr


@pytest.mark.long
def test_each_worker_has_a_gpu_of_its_machine():
    code = """
        import numpy as np
        from convbench.plans import plan
        random = np.random.default_rng(0)
        x, w = random.standard_normal((3, 2, 9, 8)), random.standard_normal((4, 2, 3, 3))
        words = "--dt=f64 mb3ic2ih9iw8oc4kh3kw3"
        how = {"algorithm": "direct", "cores": 2}
        with plan(words, w, executor="serial", algorithm="direct") as one:
            expected = one(x)
        with plan(words, w, executor="dask", workers_on="gpu", **how) as one:
            np.testing.assert_allclose(one(x), expected)
            print(one.facts()["axis"], [fact["device"] for fact in one._crew.members.facts])
        from convbench.executors.dask_connection import disconnect
        disconnect()
    """
    done = with_fake_gpu("-c", textwrap.dedent(code), FAKE_GPUS="2")
    assert done.stdout == "images [0, 1]\n", done.stderr


@pytest.mark.parametrize(
    ("shape", "chunks", "w", "how"),
    [
        ((30, 41), (7, 10), (5, 3, 3), {"padding": "same"}),
        ((4, 33, 29), (2, 8, 29), (6, 2, 5, 3), {"groups": 2, "stride": (3, 2), "padding": ((2, 1), (0, 3))}),
        ((5, 2, 31, 20), (2, 1, 31, 7), (3, 2, 3, 3), {"dilation": 2, "activation": "relu", "algorithm": "direct"}),
    ],
)
def test_a_dask_array_is_convolved_block_by_block_when_it_is_asked_for(shape, chunks, w, how):
    from dask import array

    random = np.random.default_rng(3)
    x, weights = random.standard_normal(shape).astype("float32"), random.standard_normal(w).astype("float32")
    bias = random.standard_normal(w[0]).astype("float32")
    looked_at = []
    lazy = array.from_array(x, chunks=chunks).map_blocks(lambda block: (looked_at.append(1), block)[1], dtype=x.dtype)
    looked_at.clear()
    result = convbench.conv2d(lazy, weights, bias, **how)
    assert isinstance(result, array.Array)
    assert looked_at == []
    expected = convbench.conv2d(x, weights, bias, **how)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert len(result.chunks[-2]) == min(len(lazy.chunks[-2]), expected.shape[-2])
    computed = result.compute(scheduler="synchronous")
    assert looked_at
    np.testing.assert_allclose(computed, expected, atol=1e-4)


def test_blocks_of_a_large_output_are_as_large_as_dask_wants_them():
    import dask
    from dask import array

    with dask.config.set({"array.chunk-size": "64KiB"}):
        result = convbench.conv2d(array.zeros((100, 101), dtype="float32"), np.ones((16, 3, 3), np.float32))
    assert all(rows * 16 * 99 * 4 <= 2**16 for rows in result.chunks[1])


def test_what_cannot_be_lazy_is_refused():
    from dask import array

    x = array.zeros((9, 9), chunks=3, dtype="float32")
    w = np.ones((2, 3, 3), np.float32)
    with pytest.raises(RequestError, match="out is given with a Dask array"):
        convbench.conv2d(x, w, out=np.zeros((2, 7, 7), np.float32))
    with pytest.raises(RequestError, match="chunks of unknown sizes"):
        convbench.conv2d(x[x[:, 0] > 0], w)
    with pytest.raises(RequestError, match="x has 1 dimensions"):
        convbench.conv2d(x[0], w)


@pytest.mark.long
def test_a_worker_that_is_killed_in_the_middle_costs_a_flag(tmp_path):
    import psutil

    words = [sys.executable, "-m", "convbench", "sweep", "--executors", "dask", "--algorithms", "direct", "--cores", 2]
    words += ["--runs", 1, "--problem", "ic1ih700iw900oc64kh11kw11", "--output", tmp_path / "sweep"]
    with subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True) as sweep:

        def workers() -> list[psutil.Process]:
            found = []
            for process in psutil.Process(sweep.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "--multiprocessing-fork" in process.cmdline() and process.cpu_times().user > 1:
                        found.append(process)
            return found

        wait_until(lambda: len(workers()) == 2, alive=sweep)
        workers()[0].kill()
        said = sweep.communicate()[1]
    assert sweep.returncode == 0, said
    (record,) = load(tmp_path / "sweep").records
    assert record.status == "ok"
    assert "worker_replaced" in record.flags
    assert record.cluster["replaced"] >= 1
