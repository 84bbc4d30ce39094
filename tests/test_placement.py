"""Where arrays lie on a machine of several nodes: each node touches every n-th block, and on one nothing changes."""

from __future__ import annotations

import itertools
import mmap
import os

import numpy as np
import pytest

from convbench import machine
from convbench.executors.memory import private_empty, shared_empty
from convbench.measure import placement as module
from convbench.measure.placement import BLOCK, nodes_of, place, placement

CALLERS = {0, 1, 2, 3}


@pytest.fixture
def touched(monkeypatch) -> list[tuple[tuple[int, ...], int, int]]:
    """Under which affinity, from which address on, and how many bytes; the affinity itself stays as it is."""
    here = [CALLERS]
    seen: list[tuple[tuple[int, ...], int, int]] = []

    def touch(block: np.ndarray) -> None:
        seen.append((tuple(sorted(here[0])), block.ctypes.data, block.nbytes))
        block[:: 2**12] = 1

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: here[0], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: here.__setitem__(0, cpus), raising=False)
    monkeypatch.setattr(module, "_touch", touch)
    yield seen
    assert here[0] == CALLERS, "the calling thread is back"


@pytest.mark.parametrize("empty", [private_empty, shared_empty])
@pytest.mark.parametrize(("rows", "dtype"), [(2**20, "float64"), (700_001, "float32"), (5, "float32")])
def test_each_node_touches_every_second_block(touched, empty, rows, dtype):
    array = empty((2, rows), dtype)
    array.fill(0)
    place(array, [[0, 1], [2, 3]])
    begin, end = array.ctypes.data, array.ctypes.data + array.nbytes
    inner = range((begin // BLOCK + 1) * BLOCK, end, BLOCK)  # borders between huge pages
    borders = [begin, *inner, end]
    expected = [
        ((0, 1) if number % 2 == 0 else (2, 3), one, other - one)
        for number, (one, other) in enumerate(itertools.pairwise(borders))
    ]
    assert sorted(touched, key=lambda one: one[1]) == expected


def test_without_nodes_or_on_one_nothing_is_touched(touched):
    array = private_empty((2**20,), "float64")
    for nodes in ([], [[0, 1, 2, 3]]):
        place(array, nodes)
        assert placement(nodes) is None
    place(private_empty((0,), "float64"), [[0], [1]])
    assert touched == []


def test_an_interrupt_leaves_the_thread_on_its_cpus(touched, monkeypatch):
    def interrupted(_: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_touch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place(private_empty((2**20,), "float64"), [[0], [1]])
    assert touched == []


def test_only_nodes_with_cpus_that_may_be_used_take_part(monkeypatch):
    numa = [{"node": 0, "cpus": [0, 1]}, {"node": 1, "cpus": [2, 3]}, {"node": 2, "cpus": []}]
    monkeypatch.setattr(machine, "numa", lambda: numa)
    assert nodes_of([3, 1, 0]) == [[0, 1], [3]]
    assert nodes_of([2, 3]) == [[2, 3]]
    assert placement([[0, 1], [3]]) == "blocks of 2 MiB touched in turns on 2 nodes"
    monkeypatch.setattr(machine, "numa", list)
    assert nodes_of([0, 1]) == []


def test_pages_are_touched_for_real():
    array = private_empty((3 * BLOCK,), "uint8")
    array.fill(9)
    module._touch(array)
    assert np.count_nonzero(array == 0) == 3 * BLOCK // mmap.PAGESIZE
