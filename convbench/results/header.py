"""The shape of sweep.json, as far as convbench reads it; fields of later versions are ignored."""

from __future__ import annotations

from typing import Final

from convbench.request.field import shapes
from convbench.request.stored import StoredSpec
from convbench.shape import (
    AMOUNT,
    ANY,
    COUNT,
    DIGITS,
    EMPTY,
    FLAG,
    NAME,
    NUMBER,
    RATE,
    TEXT,
    Fields,
)

SPEC: Final = Fields(shapes(StoredSpec))
CACHE: Final = Fields(dict.fromkeys(("level", "bytes", "shared_by"), COUNT), needed=("level", "bytes", "shared_by"))
BLAS: Final = Fields(dict.fromkeys(("internal_api", "version"), ANY), needed=("internal_api", "version"))
GPU: Final = Fields(
    {
        **dict.fromkeys(("multiprocessors", "memory_bytes", "l2_bytes"), (None, AMOUNT)),
        **dict.fromkeys(("max_sm_mhz", "max_memory_mhz", "power_limit_watts"), (None, AMOUNT)),
        **dict.fromkeys(("name", "compute_capability", "driver", "cuda_driver"), (None, TEXT)),
        **dict.fromkeys(("cuda_runtime", "nvrtc", "cupy"), (None, TEXT)),
    }
)
RATES: Final = {NAME: [RATE]}
PEAKS: Final = Fields(
    {
        "reason": TEXT,
        "data": TEXT,
        "cores": {DIGITS: RATES},
        "device": Fields({"reason": TEXT, "data": TEXT, "rates": RATES}),
        "clock_seconds": (None, AMOUNT),
        "threading_layer": (None, TEXT),
    }
)
NODE: Final = Fields({"node": COUNT, "cpus": [COUNT], "memory_bytes": AMOUNT}, needed=("node", "cpus"))
MACHINE: Final = Fields(
    {
        **dict.fromkeys(("cpu", "system", "python"), (None, TEXT)),
        **dict.fromkeys(("logical_cpus", "physical_cores", "usable_cores"), (None, COUNT)),
        "memory_bytes": AMOUNT,
        "allowed_cpus": [COUNT],
        "cpu_quota": (None, NUMBER),
        **{key: {NAME: TEXT} for key in ("variables", "huge_pages")},
        "caches": [CACHE],
        "numa": [NODE],
        "vector": (
            EMPTY,
            Fields({"instruction_set": TEXT, "bits": COUNT}, needed=("instruction_set", "bits")),
        ),
        "blas": [BLAS],
        "gpu": (None, TEXT, GPU),
        **dict.fromkeys(("can_pin", "can_count"), FLAG),
        "peaks": PEAKS,
    }
)
VERSIONS: Final = {NAME: TEXT}
PAIR: Final = Fields(
    {**dict.fromkeys(("id", "python", "side"), TEXT), "versions": VERSIONS}, needed=("id", "python", "side", "versions")
)
SHAPE: Final = Fields(
    {"spec": SPEC, "machine": MACHINE, "versions": VERSIONS, "started": TEXT, "pair": (None, PAIR)}, needed=("spec",)
)
