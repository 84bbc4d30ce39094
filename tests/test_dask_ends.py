"""The executor `dask`: plans that several threads use, that are closed, forked or dropped; and inputs that change."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import data
from test_dask import BANDS, bound, right

from convbench.errors import RequestError
from convbench.executors.dask_connection import disconnect


@pytest.fixture(scope="module", autouse=True)
def _no_cluster_is_left() -> Iterator[None]:
    yield
    disconnect()


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
