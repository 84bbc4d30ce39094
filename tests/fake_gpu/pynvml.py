"""NVML's module as far as convbench uses it: two GPUs, of which CuPy's first is the second.

The second grows hot with every reading, and does not tell everything.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
NVML_TEMPERATURE_GPU = 0
NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1

PLACES = {"0000:0A:00.0": "the other GPU", "0000:1B:00.0": "the GPU"}
_readings = itertools.count(1)
_energy = itertools.count(5_000, 2_000)


class NVMLError(Exception):
    """As NVIDIA's."""


def nvmlInit() -> None:  # noqa: N802  # NVIDIA's names
    pass


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    return "580.95.05"


def nvmlDeviceGetHandleByPciBusId(place: str) -> str:  # noqa: N802
    return PLACES[place]


def nvmlDeviceGetMaxClockInfo(handle: str, kind: int) -> int:  # noqa: N802
    assert handle == "the GPU"
    return {NVML_CLOCK_SM: 1980, NVML_CLOCK_MEM: 3201}[kind]


def nvmlDeviceGetEnforcedPowerLimit(handle: str) -> int:  # noqa: N802
    assert handle == "the GPU"
    return 700_000


def nvmlDeviceGetClockInfo(handle: str, kind: int) -> int:  # noqa: N802
    assert handle == "the GPU"
    if kind == NVML_CLOCK_MEM:
        raise NVMLError("Not Supported")
    return 1980 - 15 * (next(_readings) % 3)


def nvmlDeviceGetTemperature(handle: str, _: int) -> int:  # noqa: N802
    assert handle == "the GPU"
    return 50 + min(next(_readings), 30)


def nvmlDeviceGetPowerUsage(handle: str) -> int:  # noqa: N802
    assert handle == "the GPU"
    return 412_500


def nvmlDeviceGetTotalEnergyConsumption(handle: str) -> int:  # noqa: N802
    assert handle == "the GPU"
    return next(_energy)


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: str) -> int:  # noqa: N802
    """An old driver has only this; the GPU is idle, and was capped."""
    assert handle == "the GPU"
    return 0x1 | 0x4


def nvmlDeviceGetViolationStatus(handle: str, policy: int) -> SimpleNamespace:  # noqa: N802
    assert handle == "the GPU"
    if policy == NVML_PERF_POLICY_THERMAL:
        raise NVMLError("Not Supported")
    return SimpleNamespace(referenceTime=0, violationTime=7)
