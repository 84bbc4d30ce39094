"""CPUs, caches, memory nodes and clocks, as the system tells of them. Nothing is measured here."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from convbench.machine.cgroup import cpu_quota

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
CPUINFO = Path("/proc/cpuinfo")
_MOST_CORES: Final = 64
_OVERSUBSCRIPTION: Final = 4


def allowed_cpus() -> list[int]:
    """The CPUs that this process may run on, one of each physical core first, then their siblings."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(cpus, key=lambda cpu: (sum(other in cpus and other < cpu for other in _siblings(cpu)), cpu))


def affinity() -> int:
    """How many CPUs the calling thread may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """How many cores this process may keep busy: its affinity, and its cgroup's quota where that is less."""
    quota = cpu_quota()
    return min(affinity(), math.ceil(quota) if quota else 2**31)


def most_cores() -> int:
    """How many cores a request may name: oversubscribing a machine several times is an experiment, more a mistake."""
    return max(_MOST_CORES, _OVERSUBSCRIPTION * (os.cpu_count() or 1))


def core_series(most: int | None = None) -> tuple[int, ...]:
    """1, 2, 4, ... up to `most` cores (default: those this process may use), and `most` itself."""
    most = most or usable_cores()
    return (*(2**k for k in range(most.bit_length()) if 2**k < most), most)


def caches(cpus: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """Data caches of some CPUs (default: the allowed ones), those nearest to a core first.

    Returns:
        For each kind that differs: its level, bytes, and how many CPUs share one. Cores of two sorts have several kinds
        of one level. What the system does not tell, or tells in a way that nobody knows, is left out.
    """
    found: dict[tuple[int, int, int], None] = {}  # each once, in this order
    for cpu in allowed_cpus() if cpus is None else cpus:
        for index in (_CPUS / f"cpu{cpu}" / "cache").glob("index*"):
            try:
                kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
                if kind != "Instruction" and (amount := _bytes(size)) > 0:
                    found[int(level), amount, _sharing(index)] = None
            except (OSError, ValueError):
                continue
    kinds = sorted(found, key=lambda kind: kind[0])  # otherwise as the CPUs come
    return [{"level": level, "bytes": amount, "shared_by": sharing} for level, amount, sharing in kinds]


def numa() -> list[dict[str, Any]]:
    """The nodes that memory is in: "node" (its number), "cpus", and "memory_bytes", left out where it is not told.

    An empty list where the system does not list nodes.
    """
    found = []
    for directory in sorted(_NODES.glob("node[0-9]*"), key=lambda path: (len(path.name), path.name)):
        try:
            number, cpus = int(directory.name.removeprefix("node")), _cpu_list((directory / "cpulist").read_text())
        except (OSError, ValueError):
            continue
        found.append({"node": number, "cpus": cpus, **_node_memory(directory)})
    return found


def _node_memory(node: Path) -> dict[str, int]:
    try:
        match = re.search(r"MemTotal:\s*(\d+) kB", (node / "meminfo").read_text())
    except (OSError, ValueError):
        match = None
    return {"memory_bytes": int(match[1]) * 2**10} if match else {}


def clocks(cpus: Iterable[int]) -> dict[str, float]:
    """What the system tells of the clocks of some CPUs now, in MHz by the CPU's number; others are left out.

    The kernel's scaling driver is asked first, then /proc/cpuinfo, which virtual machines have too.
    """
    wanted = [str(cpu) for cpu in cpus]
    found = {cpu: clock for cpu in wanted if (clock := _scaled_clock(cpu)) is not None}
    if len(found) == len(wanted):
        return found
    try:
        text = CPUINFO.read_text()
    except (OSError, ValueError):
        return found
    told = {}
    for block in re.split(r"\n\s*\n", text):
        number = re.search(r"^processor\s*:\s*(\d+)\s*$", block, re.MULTILINE)
        megahertz = re.search(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)\s*$", block, re.MULTILINE)
        if number and megahertz and float(megahertz[1]) > 0:
            told[number[1]] = float(megahertz[1])
    return {cpu: clock for cpu in wanted if (clock := found.get(cpu, told.get(cpu))) is not None}


def _scaled_clock(cpu: str) -> float | None:
    try:
        kilohertz = int((_CPUS / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq").read_text())
    except (OSError, ValueError):  # some drivers say "<unknown>"
        return None
    return kilohertz / 1e3 if kilohertz > 0 else None


def _siblings(cpu: int) -> list[int]:
    """The hardware threads of a CPU's core, itself among them."""
    try:
        siblings = _cpu_list((_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text())
    except (OSError, ValueError):
        return [cpu]
    return siblings if cpu in siblings else [cpu]


def _sharing(cache: Path) -> int:
    """How many CPUs share a cache: its own at least."""
    try:
        return max(1, len(_cpu_list((cache / "shared_cpu_list").read_text())))
    except (OSError, ValueError):
        return 1


def _cpu_list(text: str) -> list[int]:
    """The numbers of a kernel's list such as "0-2,5"; none for an empty one.

    Raises:
        ValueError: It is no such list.
    """
    numbers: list[int] = []
    for part in filter(None, map(str.strip, text.split(","))):
        begin, _, end = part.partition("-")
        numbers.extend(range(int(begin), int(end or begin) + 1))
    return numbers


def _bytes(size: str) -> int:
    """The kernel's "48K" as a number; without a letter it is bytes.

    Raises:
        ValueError: It is no size.
    """
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1:].upper())
    return int(size[:-1]) * unit if unit else int(size)
