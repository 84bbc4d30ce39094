"""Caches are emptied on every CPU of a cell, and by reading: what was written would be written back in a timed call."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from conftest import FAKE_GPU

from convbench import machine
from convbench.executors import gpu
from convbench.measure import caches
from convbench.measure.caches import IN_A_LINE, Eviction


@pytest.fixture
def visits(monkeypatch) -> list[set[int]]:
    """The affinities that the calling thread asks for, none of which comes true."""
    asked: list[set[int]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: asked.append(set(cpus)), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    return asked


@pytest.fixture(autouse=True)
def small_caches(monkeypatch):
    monkeypatch.setattr(caches, "LEAST", 2**16)
    sizes = {0: 2**15, 2: 2**17}
    monkeypatch.setattr(machine, "caches", lambda cpus: [{"level": 2, "bytes": sizes[cpu]} for cpu in cpus])


def test_nothing_is_written(visits):
    eviction = Eviction([0, 2])
    before = eviction._buffer.copy()
    eviction()
    np.testing.assert_array_equal(eviction._buffer, before)
    assert not eviction._buffer.flags.writeable
    assert visits == [{0}, {2}, {0, 1, 2}]


def test_every_line_is_read_on_every_cpu(visits):
    eviction = Eviction([0, 2])
    assert eviction._buffer.nbytes == 2 * 2**17, "twice the largest cache of any of the CPUs"
    lines = eviction._buffer.size // IN_A_LINE
    assert eviction._read() == lines
    numbers = np.arange(eviction._buffer.size) // IN_A_LINE
    eviction._buffer = numbers.astype(np.float64)
    assert eviction._read() == lines * (lines - 1) / 2
    seen = []
    eviction._read = lambda: seen.append(visits[-1])
    eviction()
    assert seen == [{0}, {2}]


def test_the_thread_is_back_on_its_cpus_after_an_error(visits):
    eviction = Eviction([0, 2])

    def interrupted() -> None:
        raise KeyboardInterrupt

    eviction._read = interrupted
    with pytest.raises(KeyboardInterrupt):
        eviction()
    assert visits == [{0}, {0, 1, 2}]


def test_a_devices_caches_are_read_full_too(monkeypatch):
    monkeypatch.syspath_prepend(str(FAKE_GPU))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(gpu, "EVICTION_BYTES", 2**16)
    held = []
    empty = gpu.Gpu.empty
    monkeypatch.setattr(gpu.Gpu, "empty", lambda *words: held.append(empty(*words)) or held[-1])
    try:
        evict = gpu.Gpu().evict()
        buffer, largest = (array.view(np.ndarray) for array in held)
        assert buffer.nbytes == 2**16
        buffer[-1] = 7.0
        before = buffer.copy()
        evict()
        np.testing.assert_array_equal(buffer, before)
        assert largest == 7.0
    finally:
        sys.modules.pop("cupy", None)
