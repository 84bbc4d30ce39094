"""What is counted while samples are taken: of every thread, and never less than before."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from convbench.measure import counters

OTHER = 77


@pytest.fixture
def proc(tmp_path, monkeypatch) -> Path:
    """A /proc in which nothing is yet."""
    monkeypatch.setattr(counters, "_PROC", tmp_path)
    monkeypatch.setattr(counters, "_switches", counters.Switches())
    monkeypatch.setattr(counters.psutil, "Process", lambda *_: pytest.fail("the first thread's counts are not all"))
    return tmp_path


def switched(proc: Path, pid: int, **threads: int) -> None:
    """How often each thread (by its number behind a "t") has been switched, and ten times as often by its will."""
    for thread, count in threads.items():
        place = proc / str(pid) / "task" / thread.removeprefix("t")
        place.mkdir(parents=True, exist_ok=True)
        text = f"Name:\tpython\nvoluntary_ctxt_switches:\t{10 * count}\nnonvoluntary_ctxt_switches:\t{count}\n"
        (place / "status").write_text(text)


def ended(proc: Path, pid: int, thread: int) -> None:
    shutil.rmtree(proc / str(pid) / "task" / str(thread))


def read() -> dict[str, float]:
    return counters.read([OTHER], [0])


def test_switches_of_every_thread_of_every_process_count(proc):
    own = os.getpid()
    switched(proc, own, t1=100, t2=5)
    switched(proc, OTHER, t77=40, t78=0)
    before = read()
    switched(proc, own, t2=12)
    switched(proc, OTHER, t78=30)
    grown = counters.since(before, read())
    assert grown["involuntary_switches"] == 7 + 30
    assert grown["voluntary_switches"] == 70 + 300


def test_a_thread_that_ends_takes_nothing_away(proc):
    own = os.getpid()
    switched(proc, own, t1=100, t2=1000)
    before = read()
    switched(proc, own, t1=103, t3=4)  # the third is new
    ended(proc, own, 2)
    after = read()
    assert counters.since(before, after)["involuntary_switches"] == 3 + 4
    switched(proc, own, t2=6)  # another thread got the number
    assert counters.since(after, read())["involuntary_switches"] == 6
    switched(proc, own, t2=2)  # and another, between two readings
    assert counters.since(after, read())["involuntary_switches"] == 6 + 2


def test_what_the_system_does_not_count_is_left_out(proc):
    assert "involuntary_switches" not in read()
    (proc / str(os.getpid()) / "task" / "1").mkdir(parents=True)
    assert "involuntary_switches" not in read()
    (proc / str(os.getpid()) / "task" / "1" / "status").write_text("Name:\tpython\n")
    assert "involuntary_switches" not in read()
    (proc / str(os.getpid()) / "task" / "none").mkdir()
    (proc / str(os.getpid()) / "task" / "none" / "status").write_text("nonvoluntary_ctxt_switches:\t4\n")
    assert "involuntary_switches" not in read()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")
def test_this_process_is_counted_with_its_threads():
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    before = counters.read([], [0])["involuntary_switches"]
    for thread in threads:
        thread.start()
    numbers = {thread for (_, thread, _), _ in counters._counts_of_threads(os.getpid())}
    assert {thread.native_id for thread in threads} <= numbers
    stop.set()
    for thread in threads:
        thread.join()
    assert counters.read([], [0])["involuntary_switches"] >= before
