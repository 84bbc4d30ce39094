"""Placement of a sweep's arrays on a machine with several memory nodes (NUMA).

A page goes to the node of the CPU that touches it first. Without placement, the thread that fills the arrays would put
them all on its own node, and cores of other nodes would read remote memory. So each of the n nodes that have CPUs which
the process may use gets every n-th block.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench import machine

BLOCK: Final = 2**21  # bytes: a huge page, which is in one node as a whole
Nodes = Sequence[Sequence[int]]


def nodes_of(cpus: Iterable[int]) -> list[list[int]]:
    """The given CPUs by node of the machine; nodes that have none of them are left out."""
    wanted = set(cpus)
    return [here for node in machine.numa() if (here := sorted(wanted.intersection(node["cpus"])))]


def placement(nodes: Nodes) -> str | None:
    """A description of what `place` does, for records; None where it does nothing."""
    if len(nodes) < 2 or not hasattr(os, "sched_setaffinity"):
        return None
    return f"blocks of {BLOCK // 2**20} MiB touched in turns on {len(nodes)} nodes"


def place(array: NDArray[Any], nodes: Nodes) -> None:
    """Touch the blocks of an array on each node in turn; its content is lost.

    On one node nothing is done. The calling thread moves from node to node, and is back on its own CPUs afterwards.

    Args:
        array: Any shape and dtype, C-contiguous, not touched before.
        nodes: The CPUs of each node, see `nodes_of`.
    """
    if placement(nodes) is None:
        return
    content = array.reshape(-1).view(np.uint8)
    edges = _edges(int(array.__array_interface__["data"][0]), content.size)
    before = os.sched_getaffinity(0)
    try:
        for number, cpus in enumerate(nodes):
            os.sched_setaffinity(0, set(cpus))
            for begin, end in edges[number :: len(nodes)]:
                _touch(content[begin:end])
    finally:
        os.sched_setaffinity(0, before)


def _edges(address: int, size: int) -> list[tuple[int, int]]:
    """Begin and end of the blocks of `size` bytes at an address: blocks begin at multiples of BLOCK in memory."""
    inside = range(-address % BLOCK or BLOCK, size, BLOCK)
    begins = [0, *inside]
    return list(zip(begins, [*inside, size], strict=True)) if size else []


def _touch(block: NDArray[np.uint8]) -> None:
    block[:: mmap.PAGESIZE] = 0
