"""The executor `mpi`: halos, ranks that a sweep starts, ranks that mpirun starts, and what becomes of failures."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from conftest import DEADLINE, FAKE_GPU, PROBLEMS, ROOT, briefly, command, wait_until

from convbench.errors import UnavailableError
from convbench.executors import mpi
from convbench.executors.cluster import Members, bounds
from convbench.executors.halo import Message, messages, owned
from convbench.plans import plan
from convbench.problem import Problem
from convbench.results.store import load
from convbench.runtime import ranks

RANKS = 3
SMALL = "mb1ic2ih12iw13oc8kh3kw5ph1pw2"
QUICK = ["padding", "channels and batch", "everything", "a kernel as large as the image", "more padding than image"]
CONTRACT = """
    import sys
    import numpy as np
    sys.path.append(sys.argv[1])
    from convbench.executors.mpi import MPI
    with MPI.lead(3):
        from conftest import PROBLEMS, data
        from convbench.measure.reference import convolve
        from convbench.plans import plan
        from convbench.problem import Problem
        for name in sys.argv[2:]:
            problem = Problem.parse(PROBLEMS[name])
            x, weights = data(problem)
            for cores in (1, 2, 3):
                with plan(problem, weights, algorithm="direct", executor="mpi", cores=cores) as one:
                    out = one.empty_output()
                    for given in (x, x[::-1, ::-1, ::-1, ::-1]):
                        out.fill(np.nan)
                        one(given, out)
                        expected = convolve(problem, given, weights)
                        assert np.abs(out - expected).max() <= 1e-5 * np.abs(expected).max(), name
                    assert [len(call) for call in one.drain()] == [one.workers] * 2, name
                    facts = one.facts()
                    halo = facts["bytes"]["halo"]
                    assert (halo > 0) == (facts["messages"]["halo"] > 0), name
                    assert halo == 0 or facts["axis"] == "rows", name
                    assert facts["messages"]["gathering"] == one.workers - 1, name
            print(name)
"""


def mpirun(ranks: int, *words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program on several ranks."""
    launcher = mpi._mpiexec()
    assert launcher is not None
    return subprocess.run(
        [launcher, "-n", str(ranks), *map(str, words)],
        env=env or briefly(),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_every_row_that_is_read_has_one_owner_who_sends_it_to_the_others(name, parts):
    problem = Problem.parse(PROBLEMS[name])
    reads = [bounds(part.input[2], problem.height) for part in problem.split(parts, "rows")]
    have = owned(reads)
    if len(set(reads)) == 1:
        assert have == reads  # each is sent all
        assert messages(reads, 0) == []
        return
    for first, second in itertools.pairwise(have):
        assert first[1] <= second[0]
    for number, (begin, end) in enumerate(reads):
        assert begin <= have[number][0] <= have[number][1] <= end
        inbox = [message for message in messages(reads, number) if message.target == number]
        rows = [set(range(*have[number])), *(set(range(*message.rows)) for message in inbox)]
        assert sum(map(len, rows)) == len(set().union(*rows)) == end - begin
        for message in messages(reads, number):
            other = message.source + message.target - number
            assert message in messages(reads, other)
            assert have[message.source][0] <= message.rows[0] < message.rows[1] <= have[message.source][1]


def test_neighbours_send_each_other_half_of_what_both_read():
    reads = [(0, 14), (10, 24), (20, 30)]
    assert owned(reads) == [(0, 12), (12, 22), (22, 30)]
    assert messages(reads, 0) == [Message(0, 1, (10, 12)), Message(1, 0, (12, 14))]


@pytest.mark.long  # a job of ranks for each of several problems
def test_ranks_together_compute_the_convolution():
    done = mpirun(RANKS, sys.executable, "-c", textwrap.dedent(CONTRACT), ROOT / "tests", *QUICK)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, QUICK), done.stderr


@pytest.mark.long
def test_ranks_compute_every_problem():
    done = mpirun(RANKS, sys.executable, "-c", textwrap.dedent(CONTRACT), ROOT / "tests", *PROBLEMS)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, list(PROBLEMS)), done.stderr


ON_GPUS = """
    import numpy as np
    from convbench.executors.mpi import MPI
    with MPI.lead(2):
        from convbench.plans import plan
        random = np.random.default_rng(0)
        x, w = random.standard_normal((1, 2, 9, 8)), random.standard_normal((4, 2, 3, 3))
        words = "--dt=f64 mb1ic2ih9iw8oc4kh3kw3"
        with plan(words, w, executor="serial", algorithm="direct") as one:
            expected = [one(given).copy() for given in (x, x[:, :, ::-1])]
        with plan(words, w, executor="mpi", workers_on="gpu", algorithm="direct", cores=2) as one:
            for given, right in zip((x, x[:, :, ::-1]), expected):
                np.testing.assert_allclose(one(given), right)
            print(one.facts()["axis"], [fact["device"] for fact in one._crew.members.facts])
"""


@pytest.mark.long
def test_each_rank_has_a_gpu_of_its_machine():
    done = mpirun(2, sys.executable, "-c", textwrap.dedent(ON_GPUS), env=briefly(FAKE_GPU, FAKE_GPUS="2"))
    assert (done.returncode, done.stdout) == (0, "rows [0, 1]\n"), done.stderr


def measured(directory: Path) -> None:
    """See that a sweep of one and two workers is as it must be."""
    records = {record.cores: record for record in load(directory).records if record.executor == "mpi"}
    assert set(records) == {1, 2}
    for cores, record in records.items():
        assert record.check["passed"]
        assert set(record.transfers) == {"distribution", "gathering", "end to end"}
        found = record.cluster
        assert (found["workers"], found["hosts"], found["remote"], found["replaced"]) == (cores, 1, 0, 0)
        assert found["messages"] == {"distribution": cores - 1, "halo": 2 * (cores - 1), "gathering": cores - 1}
        assert found["bytes"]["halo"] == (cores - 1) * 2 * 2 * 13 * 4  # rows, channels, columns, bytes
        for kind in ("compute_seconds", "communication_seconds"):
            assert [len(workers) for workers in found[kind]] == [cores] * len(record.samples)


WORDS = ["sweep", "--problem", SMALL, "--algorithms", "direct", "--cores", "1,2", "--runs", "1"]


@pytest.mark.usefixtures("brief")
def test_a_sweep_starts_ranks_itself(in_process, tmp_path):
    status, _, said = in_process(*WORDS, "--executors", "serial,mpi", "--output", tmp_path / "sweep")
    assert status == 0, said
    measured(tmp_path / "sweep")


@pytest.mark.long
def test_a_sweep_inside_of_mpirun_takes_its_ranks_and_one_speaks(tmp_path):
    words = [*WORDS, "--executors", "serial,mpi", "--threads-per-rank", 2, "--output", tmp_path / "sweep"]
    done = mpirun(RANKS, *command(words))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("run 1 of 1: 3 of 3 cells") == 1, done.stderr
    measured(tmp_path / "sweep")
    assert {record.cluster.get("threads_per_worker") for record in load(tmp_path / "sweep").records} == {None, 2}


def test_what_mpirun_has_started_in_vain_is_one_line(tmp_path):
    many = mpirun(2, *command(["sweep", "--executors", "mpi", "--cores", "4", "--output", tmp_path / "no"]))
    assert many.returncode == 2
    assert many.stderr == (
        "convbench: error: cores=4 is more than the 2 ranks that were started; start as many, by mpirun -n 4\n"
    )
    same = mpirun(2, *command(["sweep", "--executors", "serial", "--output", tmp_path / "no"]))
    assert same.returncode == 2
    assert same.stderr == (
        "convbench: error: 2 ranks would each do the same; name mpi among the executors, or leave mpirun out\n"
    )
    assert not (tmp_path / "no").exists()


def test_without_ranks_a_plan_says_so():
    with pytest.raises(UnavailableError, match="this process leads no ranks of an MPI job"):
        plan(SMALL, [[[[0.0] * 5] * 3] * 2] * 8, algorithm="direct", executor="mpi")


def test_without_mpi_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(mpi, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match=r"mpi4py is not installed; pip install 'convbench\[mpi\]'"):
        plan(SMALL, [[[[0.0] * 5] * 3] * 2] * 8, algorithm="direct", executor="mpi")
    assert mpi.MPI.launcher("convbench.measure.worker", 2) is None


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("mpirun (Open MPI) 5.0.3", ["--bind-to", "none"]),
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/", ["--bind-to", "none"]),
        ("HYDRA build details:\n    Version:  4.2.0", []),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11", []),
    ],
)
def test_ranks_are_left_on_all_cpus_where_the_launcher_would_bind_them(monkeypatch, tmp_path, says, words):
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setattr(mpi, "_mpiexec", lambda: str(program))
    found = mpi.MPI.launcher("convbench.measure.worker", 2)
    assert found[: found.index("-n")] == [str(program), *words]


def test_the_rank_that_leads_is_not_counted_twice():
    here = {"host": socket.gethostname(), "cpus": [0]}
    facts = [{"pid": os.getpid(), **here}, {"pid": 1, **here}, {"pid": 2, **here, "host": "elsewhere"}]
    assert Members(facts, ours=True).pids == (1,)
    assert Members(facts, ours=False).pids == ()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, (1, 4)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, (0, 2)),
        ({"PMIX_RANK": "3", "SLURM_NTASKS": "8"}, (3, 8)),
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, None),
    ],
)
def test_launchers_tell_a_rank_its_place(monkeypatch, variables, expected):
    for names in ranks.VARIABLES:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() == expected


def ranks_of(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a sweep has started as ranks."""
    found = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        try:
            if "convbench.executors.mpi_rank" in process.cmdline() and "mpiexec" not in process.name():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.long
@pytest.mark.parametrize("end", ["rank", "sweep"])
def test_a_rank_that_is_killed_costs_a_record_and_none_outlives_the_sweep(tmp_path, end):
    gate = tmp_path / "gate"
    gate.mkdir()
    env = briefly(ROOT / "tests" / "gate", GATE=str(gate), GATE_AT="0:1")
    words = command([*WORDS, "--executors", "mpi", "--output", tmp_path / "sweep"])
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True) as sweep:
        wait_until((gate / "reached").exists, alive=sweep)
        wait_until(lambda: load(tmp_path / "sweep").records, alive=sweep)  # the launcher passes it on when it likes
        started = ranks_of(sweep)
        first = int((gate / "reached").read_text())
        (other,) = (rank for rank in started if rank.pid != first)
        if end == "rank":
            other.send_signal(signal.SIGKILL)
        else:
            sweep.send_signal(signal.SIGTERM)
        said = sweep.communicate(timeout=DEADLINE)[1]
    gone, alive = psutil.wait_procs(started, timeout=60)
    assert len(gone) == 2
    assert not alive
    records = load(tmp_path / "sweep").records
    assert records[0].status == "ok"
    if end == "rank":
        assert sweep.returncode == 1
        assert "failed" in said
        assert [record.status for record in records] == ["ok", "failed"]
        assert "killed" in records[1].reason.lower()
    else:
        assert sweep.returncode == 128 + signal.SIGTERM
        assert "--resume" in said
