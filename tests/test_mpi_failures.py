"""No rank of an MPI job waits for ever: interrupts, errors in the middle of a step, and other versions."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest
from test_mpi import mpirun

SETTING = """
    import os, signal, sys, threading
    import numpy as np
    from convbench.executors import mpi_piece
    from convbench.executors.mpi import MPI
    from convbench.plans.share import Share
    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
    x, w = np.ones((1, 2, 12, 13), np.float32), np.ones((8, 2, 3, 5), np.float32)
    def bound(cores=2):
        from convbench.plans import plan
        return plan("mb1ic2ih12iw13oc8kh3kw5ph1pw2", w, algorithm="direct", executor="mpi", cores=cores)
    def failing(*_):
        raise OSError("no room")
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGINT)
"""


def job(code: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a script on several ranks that must not wait for one another for ever, after `SETTING`."""
    return mpirun(ranks, sys.executable, "-c", textwrap.dedent(SETTING) + textwrap.dedent(code))


@pytest.mark.long
@pytest.mark.parametrize(
    "where",
    [
        "made, mpi_piece.make_share = mpi_piece.make_share, lambda *job: (interrupted(), made(*job))[1]",
        "Share.close = interrupted",
        "mpi_piece.RankPiece.finish = interrupted",
        "mpi_piece.RankPiece.keep = interrupted",
    ],
)
def test_an_interrupt_of_the_first_rank_ends_a_job_wherever_it_comes(where):
    done = job(f"""
        if rank == 0:
            {where}
        with MPI.lead(2), bound() as one:
            one(x)
    """)
    assert done.returncode == 130, done.stderr


@pytest.mark.long
def test_an_output_that_a_rank_cannot_make_is_an_error_and_the_plan_goes_on():
    done = job("""
        if rank == 1:
            result, calls = Share.result, []
            Share.result = lambda share: result(share) if calls.append(1) or len(calls) != 2 else failing()
        with MPI.lead(2), bound() as one:
            expected = one(x)
            try:
                one(x)
            except Exception as error:
                print(type(error).__name__, error)
            print(np.array_equal(one(x), expected), len(one.drain()))
    """)
    assert done.stdout == "UnavailableError a rank failed: OSError: no room\nTrue 3\n", done.stderr
    assert done.returncode == 0


@pytest.mark.long
def test_times_of_a_call_that_failed_on_a_rank_are_none():
    done = job("""
        if rank == 1:
            call, calls = Share.__call__, []
            Share.__call__ = lambda share: call(share) if calls.append(1) or len(calls) != 2 else failing()
        with MPI.lead(2), bound() as one:
            one(x)
            try:
                one.compute()
            except Exception as error:
                print(error)
            print(one.drain(), one.compute(), [len(call) for call in one.drain()])
    """)
    assert (done.returncode, done.stdout) == (0, "a rank failed: OSError: no room\n[] None [2]\n"), done.stderr


@pytest.mark.long
def test_an_input_that_cannot_be_sent_ends_the_job(tmp_path):
    done = job(f"""
        with MPI.lead(2), bound() as one, open({str(tmp_path / "said")!r}, "w") as said:
            if rank == 0:
                mpi_piece.RankPiece.part = failing
            for _ in range(2):
                try:
                    one(x)
                except Exception as error:
                    print(error, file=said)
    """)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "said").read_text().splitlines() == [  # what goes through a launcher may be lost at an abort
        "ranks cannot reach one another (OSError: no room); start the job again",
        "ranks wait for a call that was interrupted or failed; start the job again",
    ]


def test_a_rank_that_cannot_read_its_order_ends_the_job():
    done = job("""
        from convbench.plans import share
        if rank == 1:
            del share.Order
        with MPI.lead(2), bound() as one:
            one(x)
    """)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("convbench: error")]
    assert line.startswith("convbench: error: rank 1 cannot go on, and ends the job: AttributeError: ")
    assert "Traceback" not in done.stderr


def test_ranks_of_another_version_are_refused():
    done = job("""
        import convbench
        from convbench.errors import UnavailableError
        convbench.__version__ += ".1" * rank
        try:
            with MPI.lead(2):
                ...
        except UnavailableError as error:
            print(error)
    """)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"rank 1 has convbench \S+\.1, sources \w+; rank 0 has convbench \S+, sources \w+; install one on all\n",
        done.stdout,
    )


@pytest.mark.long
def test_ranks_have_one_plan_at_a_time_and_one_that_is_dropped_is_none():
    done = job("""
        with MPI.lead(2):
            one = bound()
            try:
                bound()
            except Exception as error:
                print(error)
            expected, one = one(x), None
            one = bound(1)
            one.close()
            two = bound()
            print(np.allclose(two(x), expected))
    """)  # and the last one is not closed
    expected = "the ranks of an MPI job have one plan at a time; close the other one before\nTrue\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
