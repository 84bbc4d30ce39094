"""The machine as it describes itself: cores, caches, instruction set, memory, libraries. Nothing is measured here."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from convbench import card, cgroup
from convbench.cgroup import cpu_quota
from convbench.sources import digest

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_CPUINFO = Path("/proc/cpuinfo")
_VECTOR_FEATURES: Final = (  # widest first: LLVM's feature name, what people call it, bits of a vector
    ("avx512f", "AVX-512", 512),
    ("avx2", "AVX2", 256),
    ("avx", "AVX", 256),
    ("sse2", "SSE2", 128),
    ("neon", "NEON", 128),
)
_THREAD_VARIABLE: Final = re.compile(
    r"(OMP|GOMP|KMP|MKL|OPENBLAS|GOTO|BLIS|VECLIB|TBB|NUMBA|ORT)_\w*(THREAD|PROC_BIND|PLACES|AFFINITY|DYNAMIC|WAIT)\w*"
    r"(?<!NUMBA_NUM_THREADS)"
)
_MOST_CORES: Final = 64
_OVERSUBSCRIPTION: Final = 4
_PACKAGES: Final = (
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
    "pyperf",
    "matplotlib",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def allowed_cpus() -> list[int]:
    """The CPUs that this process may run on, one of each physical core first, then their siblings."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(cpus, key=lambda cpu: (sum(other in cpus and other < cpu for other in _siblings(cpu)), cpu))


def usable_cores() -> int:
    """How many cores this process may keep busy: its affinity, and its cgroup's quota where that is less."""
    quota = cpu_quota()
    return min(len(allowed_cpus()), math.ceil(quota) if quota else 2**31)


def most_cores() -> int:
    """How many cores a request may name: oversubscribing a machine several times is an experiment, more a mistake."""
    return max(_MOST_CORES, _OVERSUBSCRIPTION * (os.cpu_count() or 1))


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's where that is less."""
    import psutil

    free: int = psutil.virtual_memory().available
    granted = cgroup.free_memory()
    return free if granted is None else min(free, granted)


def thread_variables() -> dict[str, str]:
    """Variables of the environment that tell thread pools how many threads to have and where, and their values.

    NUMBA_NUM_THREADS is not among them: every process of a sweep is started with its own.
    """
    return {name: os.environ[name] for name in sorted(os.environ) if _THREAD_VARIABLE.fullmatch(name)}


def core_series(most: int | None = None) -> tuple[int, ...]:
    """1, 2, 4, ... up to `most` cores (default: those this process may use), and `most` itself."""
    most = most or usable_cores()
    return (*(2**k for k in range(most.bit_length()) if 2**k < most), most)


def describe() -> dict[str, Any]:
    """What `convbench machine` prints and every sweep records; what the system does not tell is None or left out."""
    import psutil

    return {
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "logical_cpus": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "allowed_cpus": allowed_cpus(),
        "cpu_quota": cpu_quota(),
        "usable_cores": usable_cores(),
        "variables": thread_variables(),
        "caches": caches(),
        **({"numa": nodes} if (nodes := numa()) else {}),
        "vector": vector(),
        "memory_bytes": psutil.virtual_memory().total,
        "huge_pages": _huge_pages(),
        "blas": _blas(),
        "gpu": card.describe(),
        "can_pin": hasattr(os, "sched_setaffinity"),
        "can_count": Path("/proc/self/stat").exists(),
    }


def versions() -> dict[str, str]:
    """Versions of convbench and of the installed packages that its numbers depend on, and a digest of its sources."""
    found = {"convbench-sources": digest()}
    for package in ("convbench", *_PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
        text = _CPUINFO.read_text()
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


def vector() -> dict[str, Any]:
    """The widest vectors of the host: LLVM's name of the CPU, the instruction set, and bits of a vector."""
    from llvmlite import binding

    name, features = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    for feature, label, bits in _VECTOR_FEATURES:
        if features.get(feature):
            return {"llvm_cpu": name, "instruction_set": label, "bits": bits}
    return {"llvm_cpu": name, "instruction_set": "generic", "bits": 128}


def _cpu_name() -> str:
    try:
        text = _CPUINFO.read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _blas() -> list[dict[str, Any]]:
    import numpy  # noqa: F401, ICN001  # loaded so that its BLAS is
    import scipy.linalg  # noqa: F401
    import threadpoolctl

    keys = ("internal_api", "prefix", "version", "architecture", "num_threads")
    return [
        {key: pool.get(key) for key in keys} for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"
    ]


def _huge_pages() -> dict[str, str]:
    """The kernel's setting for huge pages in private and in shared memory."""
    found = {}
    for kind, name in (("private", "enabled"), ("shared", "shmem_enabled")):
        try:
            text = Path(f"/sys/kernel/mm/transparent_hugepage/{name}").read_text()
        except OSError:
            continue
        found[kind] = text.partition("[")[2].partition("]")[0]
    return found


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
