"""The executor `dask`: plans that several threads use, that are closed, forked or dropped; and inputs that change."""

from __future__ import annotations

import gc
import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from conftest import data, python, wait_until
from test_dask import BANDS, bound, cluster, right

from convbench.errors import RequestError, UnavailableError
from convbench.executors import dask_connection, dask_share
from convbench.executors.cluster import Cluster
from convbench.executors.dask_connection import disconnect


@pytest.fixture(scope="module", autouse=True)
def _no_cluster_is_left() -> Iterator[None]:
    yield
    disconnect()


__all__ = ["cluster"]  # a fixture


class Busy:
    """A crew that several threads must not use at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0

    def distribute(self, _: object = None) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1

    compute = gather = ready = drain = distribute


@pytest.mark.long
def test_threads_wait_for_one_another_whatever_they_call(monkeypatch):
    x, _ = data(BANDS)
    with bound() as one:
        busy, out = Busy(), one.empty_output()
        monkeypatch.setattr(one, "_working", busy)
        calls = [lambda: one.distribute(x), one.compute, lambda: one.gather(out), one.ready, one.drain, lambda: one(x)]
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert busy.most == 1


def test_a_closed_plan_refuses_every_call():
    x, _ = data(BANDS)
    with bound() as one:
        out = one(x)
        computing = one.timed(x, out)
    for call in (
        lambda: one(x),
        lambda: one.distribute(x),
        one.compute,
        computing,
        lambda: one.gather(out),
        lambda: one.result(out),
        lambda: one.timed(x, out),
        one.ready,
        one.drain,
    ):
        with pytest.raises(RequestError, match=r"the plan is closed; make a new one with convbench\.plan"):
            call()
    one.close()


def test_a_part_that_is_sent_again_is_of_the_input_that_was_distributed():
    x, _ = data(BANDS)
    mine = x.copy()
    with bound() as one:
        with pytest.raises(RequestError, match="the workers have no input"):
            one.compute()
        one.distribute(mine)
        mine[:] = np.nan
        os.kill(one.pids[0], signal.SIGKILL)
        one.compute()
        right(BANDS, one.result(one.empty_output()))
        assert one.events


def test_an_interrupt_at_the_terminal_leaves_the_cluster_to_its_plan():
    x, _ = data(BANDS)
    with bound() as one:
        one(x)
        (connection,) = dask_connection._connections.values()
        parent = psutil.Process(connection._local._process.pid)
        for process in (parent, *parent.children(recursive=True)):
            process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        right(BANDS, one(x, one.empty_output()))
        assert parent.is_running()
        assert one.events == ()


@pytest.mark.long
def test_a_forked_child_is_refused_at_once():
    code = """
        import os, sys, warnings
        import numpy as np
        from convbench.errors import UnavailableError
        from convbench.plans import plan
        warnings.simplefilter("ignore")
        x, w = np.ones((1, 1, 9, 8), np.float32), np.ones((2, 1, 3, 3), np.float32)
        def bound():
            return plan("mb1ic1ih9iw8oc2kh3kw3", w, algorithm="direct", executor="dask", cores=2)
        with bound() as one:
            expected = one(x)
            one._lock.acquire()
            if (child := os.fork()) == 0:
                for call in (lambda: one(x), one.compute, bound):
                    try:
                        call()
                    except UnavailableError as error:
                        print("fork" in str(error), flush=True)
                one.close()
                os._exit(0)
            os.waitpid(child, 0)
            one._lock.release()
            print(np.array_equal(one(x), expected))
        from convbench.executors.dask_connection import disconnect
        disconnect()
    """
    done = python("-c", textwrap.dedent(code))
    assert done.stdout == "True\n" * 4, done.stderr


def test_threads_share_one_cluster(monkeypatch):
    started = []

    class Slow:
        def __init__(self, *_: object) -> None:
            time.sleep(0.05)
            started.append(self)

        def alive(self) -> bool:
            return True

    monkeypatch.setattr(dask_connection, "_connections", {})
    monkeypatch.setattr(dask_connection, "Connection", Slow)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(dask_connection.connect, Cluster(), 2) for _ in range(2)]
    assert calls[0].result() is calls[1].result()
    assert len(started) == 1


def held(scheduler: str) -> list[int]:
    """How many shares each worker of a scheduler has."""

    def shares() -> int:  # pickled by value, as workers cannot import tests
        return len(dask_share._held)

    connection = dask_connection.connect(Cluster(scheduler=scheduler), 2)
    return sorted(connection.on_each(shares, workers=connection.addresses()).values())


@pytest.mark.long
def test_workers_of_others_keep_nothing_of_plans_that_failed_or_were_dropped(cluster, monkeypatch):
    where, prepare = {"scheduler": cluster.address}, dask_share.prepare

    def partly(name: tuple[str, int], location: str, order: object) -> object:
        if name[1] == 1:
            raise OSError("no room")
        return prepare(name, location, order)

    one = bound(**where)
    one(data(BANDS)[0])
    assert held(cluster.address) == [1, 1]
    del one
    gc.collect()
    wait_until(lambda: held(cluster.address) == [0, 0])
    with monkeypatch.context() as failing:
        failing.setattr(dask_share, "prepare", partly)
        with pytest.raises(UnavailableError, match="no room"):
            bound(**where)
    assert held(cluster.address) == [0, 0]
    code = f"""
        import numpy as np
        from convbench.plans import plan
        how = {{"algorithm": "direct", "executor": "dask", "cores": 2, "scheduler": {cluster.address!r}}}
        one = plan("mb1ic1ih9iw8oc2kh3kw3", np.ones((2, 1, 3, 3), np.float32), **how)
        print(one.workers)
    """
    done = python("-c", textwrap.dedent(code))
    assert done.stdout == "2\n", done.stderr
    assert held(cluster.address) == [0, 0]
