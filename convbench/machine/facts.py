"""The machine as it describes itself: processor, memory, libraries and their versions. Nothing is measured here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any, Final

from convbench.machine import cgroup, cpus, gpu
from convbench.runtime.sources import digest

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


def describe() -> dict[str, Any]:
    """What `convbench machine` prints and every sweep records; what the system does not tell is None or left out."""
    import psutil

    return {
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "logical_cpus": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "allowed_cpus": cpus.allowed_cpus(),
        "cpu_quota": cgroup.cpu_quota(),
        "usable_cores": cpus.usable_cores(),
        "variables": thread_variables(),
        "caches": cpus.caches(),
        **({"numa": nodes} if (nodes := cpus.numa()) else {}),
        "vector": vector(),
        "memory_bytes": psutil.virtual_memory().total,
        "huge_pages": _huge_pages(),
        "blas": _blas(),
        "gpu": gpu.describe(),
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


def vector() -> dict[str, Any]:
    """The widest vectors of the host: LLVM's name of the CPU, the instruction set, and bits of a vector."""
    from llvmlite import binding

    name, features = binding.get_host_cpu_name(), binding.get_host_cpu_features()
    for feature, label, bits in _VECTOR_FEATURES:
        if features.get(feature):
            return {"llvm_cpu": name, "instruction_set": label, "bits": bits}
    return {"llvm_cpu": name, "instruction_set": "generic", "bits": 128}


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        text = cpus.CPUINFO.read_text()
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
