"""The pool of worker processes: shared memory without copies, and workers that die."""

from __future__ import annotations

import gc
import mmap
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import psutil
import pytest
from conftest import DEADLINE, data

from convbench.errors import UnavailableError
from convbench.executors import memory
from convbench.plans import plan


def test_shared_memory_is_found_from_any_array_in_it():
    array = memory.shared_empty((3, 5, 7), "float32")
    segment, offset = memory.locate(array)
    assert offset == 0
    assert memory.locate(array[1:]) == (segment, 5 * 7 * 4)
    assert memory.locate(np.empty(5)) is None


def test_shared_memory_is_given_back_with_the_last_array_in_it():
    array = memory.shared_empty((1000,), "float64")
    segment, _ = memory.locate(array)
    part = array[10:20]
    del array
    gc.collect()
    number, fd = segment.number, segment.fd
    del segment
    assert number in memory.live_segments()
    del part
    gc.collect()
    assert number not in memory.live_segments()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


HUGE = 2**21
LARGE = [HUGE, HUGE + 4, 3 * HUGE - 4096, 5 * HUGE + 12345]  # bytes


def offset_of(mapped: memoryview) -> int:
    """How far the data of a mapping are from the begin of a huge page."""
    return np.frombuffer(mapped, np.uint8).ctypes.data % HUGE


@pytest.mark.parametrize("size", [1, mmap.PAGESIZE, HUGE - 1, *LARGE])
def test_another_mapping_of_a_segment_has_the_same_data_and_nothing_beside_them(size):
    array = memory.shared_empty((size,), "uint8")
    segment, _ = memory.locate(array)
    array[:] = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    before = array.copy()
    other = memory.map_shared(segment.fd)
    assert np.array_equal(np.frombuffer(other, np.uint8)[:size], before)
    assert len(other) == max(size, mmap.PAGESIZE)
    for _ in range(2):
        memory.into_huge_pages(segment)
        assert np.array_equal(array, before)
        assert np.array_equal(np.frombuffer(other, np.uint8)[:size], before)
    array[-1] ^= 1
    assert np.frombuffer(other, np.uint8)[size - 1] == array[-1]
    taken = 512 * os.fstat(segment.fd).st_blocks
    assert taken <= len(other) + HUGE, "the holes around the data take no memory, at most what is left of a page does"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems place mappings otherwise")
@pytest.mark.parametrize("size", LARGE)
def test_large_arrays_begin_at_a_huge_page_in_each_process(size):
    array = memory.shared_empty((size,), "uint8")
    segment, _ = memory.locate(array)
    other = memory.map_shared(segment.fd)
    assert array.ctypes.data % HUGE == offset_of(other) == 0


def test_a_system_that_collapses_no_pages_or_maps_elsewhere_each_time_is_good_enough(monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory.Segment, "madvise", refuse, raising=False)
    monkeypatch.setattr(memory, "_TRIES", 0)
    array = memory.shared_empty((3 * HUGE,), "uint8")
    segment, _ = memory.locate(array)
    array[:] = 7
    memory.into_huge_pages(segment)
    assert (np.frombuffer(memory.map_shared(segment.fd), np.uint8) == 7).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems collapse no pages")
def test_an_interrupt_between_two_pieces_leaves_the_data_and_the_rest_to_the_next_call(monkeypatch):
    array = memory.shared_empty((5 * HUGE,), "uint8")
    segment, _ = memory.locate(array)
    array[:] = 7
    calls = []

    def strike(_: object, _option: int, begin: int, length: int) -> None:
        calls.append((begin - segment.begin, length))
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(memory, "_PIECE", 2 * HUGE)
    monkeypatch.setattr(memory.Segment, "madvise", strike, raising=False)
    with pytest.raises(KeyboardInterrupt):
        memory.into_huge_pages(segment)
    for _ in range(2):
        memory.into_huge_pages(segment)
    pieces = [(0, 2 * HUGE), (2 * HUGE, 2 * HUGE), (4 * HUGE, HUGE)]
    assert calls == [*pieces[:2], *pieces], "and not a third time"
    assert (array == 7).all()


def test_arrays_in_shared_memory_are_not_copied(small, monkeypatch):
    x, weights = data(small)
    with plan(small, weights, executor="processes", cores=2) as bound:
        shared_x, out = bound.empty_input(), bound.empty_output()
        shared_x[:] = x
        monkeypatch.setattr(memory, "shared_empty", None)  # what a copy would begin with
        bound(shared_x, out)
    with plan(small, weights, executor="serial") as bound:
        np.testing.assert_array_equal(out, bound(x))


def test_private_arrays_go_through_shared_memory(small):
    x, weights = data(small)
    out = np.full(small.output_shape, np.nan, small.dtype)
    with plan(small, weights, executor="processes", cores=2) as bound:
        assert bound(x, out) is out
    with plan(small, weights, executor="serial") as bound:
        np.testing.assert_array_equal(out, bound(x))


@pytest.mark.long
def test_workers_unmap_what_holds_no_array_any_more(small):
    x, weights = data(small)
    with plan(small, weights, executor="processes", cores=1) as bound:
        process = psutil.Process(bound.pids[0])

        def mapped() -> int:
            bound(x, bound.empty_output())
            gc.collect()
            return sum("memfd:convbench" in entry.path for entry in process.memory_maps(grouped=False))

        first, *_, last = (mapped() for _ in range(8))
    assert 1 <= last <= first + 1, "of earlier tests, some may be left"


def test_a_worker_that_dies_is_an_error_and_the_next_plan_starts_a_new_one(small):
    x, weights = data(small)
    with plan(small, weights, executor="processes", cores=2) as bound:
        bound(x)
        os.kill(bound.pids[0], signal.SIGKILL)
        with pytest.raises(UnavailableError, match=f"worker process {bound.pids[0]} .* is gone"):
            bound(x)
    with plan(small, weights, executor="processes", cores=2) as bound:
        assert bound(x).shape == small.output_shape


def test_workers_leave_when_the_caller_is_killed():
    program = textwrap.dedent("""
        import sys, time
        import numpy as np
        from convbench import Problem, plan
        problem = Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3)
        bound = plan(problem, np.ones((2, 3, 3)), algorithm="naive", executor="processes", cores=2)
        print(*bound.pids, flush=True)
        time.sleep(3600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as caller:
        workers = [psutil.Process(int(pid)) for pid in caller.stdout.readline().split()]
        caller.kill()
    gone, alive = psutil.wait_procs(workers, timeout=120)
    assert len(gone) == 2
    assert not alive


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from convbench import Problem, plan\n"
        "problem = Problem(height=9, width=9, out_channels=2, kernel_height=3, kernel_width=3)\n"
        "with plan(problem, np.ones((2, 3, 3)), algorithm='naive', executor='processes', cores=2) as bound:\n"
        "    print(bound(np.ones((9, 9))).sum())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("882.0\n", "")
