"""The NVIDIA GPU that CuPy computes on: its description, and its clocks, temperature and power.

CuPy has the description. NVML, where nvidia-ml-py is installed, has clocks, temperature, power and the reasons for
lowered clocks. What the GPU or its driver does not report is left out, never zero.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

REASONS: Final[Mapping[int, str]] = {  # bits of NVML's clocks event reasons, which were its throttle reasons before
    0x001: "idle",
    0x002: "clocks set by hand",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "synchronised boost",
    0x020: "heat, by the driver",
    0x040: "heat, by the hardware",
    0x080: "power brake",
    0x100: "display clocks",
}
SLOWED: Final = frozenset({"hardware slowdown", "heat, by the driver", "heat, by the hardware", "power brake"})
CAPPED: Final = frozenset({"power cap"})
_GPU: Final = 0  # CuPy's number of the GPU


def describe() -> dict[str, Any] | None:
    """The GPU's name, sizes, limits of clocks and power, and software; None without a GPU.

    Returns:
        "name", "compute_capability", "multiprocessors", "memory_bytes", "l2_bytes", "cuda_driver" (the newest CUDA that
        the driver knows), "cuda_runtime", "nvrtc" and "cupy"; from NVML "driver", "max_sm_mhz", "max_memory_mhz" and
        "power_limit_watts".
    """
    try:
        import cupy
    except ImportError:
        return None
    runtime = cupy.cuda.runtime
    try:
        if not runtime.getDeviceCount():
            return None
        properties = runtime.getDeviceProperties(_GPU)
        found = {
            "name": properties["name"].decode(),
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "multiprocessors": properties["multiProcessorCount"],
            "memory_bytes": properties["totalGlobalMem"],
            "l2_bytes": properties["l2CacheSize"],
            "cuda_driver": _version(runtime.driverGetVersion()),
            "cuda_runtime": _version(runtime.runtimeGetVersion()),
            "cupy": cupy.__version__,
        }
    except runtime.CUDARuntimeError:
        return None
    with contextlib.suppress(ImportError, RuntimeError, OSError):  # CuPy looks for the compiler when it is asked
        found["nvrtc"] = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    view = nvml()
    return found | (view.limits() if view else {})


@cache
def nvml() -> Nvml | None:
    """NVML's view of the GPU that CuPy computes on; None where there is no NVML.

    CUDA_VISIBLE_DEVICES renumbers CUDA's GPUs and not NVML's, so the GPU is found by its place on the PCI bus.
    """
    try:
        import cupy
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        place = cupy.cuda.runtime.deviceGetPCIBusId(_GPU)
        return Nvml(pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(place))
    except (pynvml.NVMLError, cupy.cuda.runtime.CUDARuntimeError):
        return None


class Nvml:
    """One GPU as NVML sees it.

    Args:
        pynvml: NVIDIA's module.
        handle: NVML's handle of the GPU.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml, self._handle = pynvml, handle

    def limits(self) -> dict[str, Any]:
        """Values that do not change: see `describe`."""
        ml = self._pynvml
        try:
            driver = ml.nvmlSystemGetDriverVersion()
        except ml.NVMLError:
            driver = None
        watts = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        return _known(
            driver=driver.decode() if isinstance(driver, bytes) else driver,  # bytes from old versions of the module
            max_sm_mhz=self._ask("nvmlDeviceGetMaxClockInfo", ml.NVML_CLOCK_SM),
            max_memory_mhz=self._ask("nvmlDeviceGetMaxClockInfo", ml.NVML_CLOCK_MEM),
            power_limit_watts=None if watts is None else watts / 1e3,
        )

    def counts(self) -> dict[str, float]:
        """Counters: energy, and the time for which clocks were lowered because of power and of heat.

        Returns:
            energy_joules: Updated by the GPU every few tens of milliseconds: sums over many samples are exact enough,
                single short samples are not.
            power_capped_seconds, heat_seconds: Time with lowered clocks.
        """
        ml = self._pynvml
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        power = self._ask("nvmlDeviceGetViolationStatus", ml.NVML_PERF_POLICY_POWER)
        heat = self._ask("nvmlDeviceGetViolationStatus", ml.NVML_PERF_POLICY_THERMAL)
        return _known(
            energy_joules=None if energy is None else energy / 1e3,
            power_capped_seconds=None if power is None else power.violationTime / 1e9,
            heat_seconds=None if heat is None else heat.violationTime / 1e9,
        )

    def levels(self) -> dict[str, Any]:
        """Values of the moment.

        Returns:
            sm_mhz, memory_mhz: Clocks.
            celsius: Temperature.
            watts: Power; recent GPUs give its average over the last second.
            reasons: Why clocks are below their maximum, from `REASONS`.
        """
        ml = self._pynvml
        watts = self._ask("nvmlDeviceGetPowerUsage")
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")  # its name before driver 535
        celsius = self._ask("nvmlDeviceGetTemperature", ml.NVML_TEMPERATURE_GPU)
        if celsius is None:
            celsius = self._ask("nvmlDeviceGetTemperatureV", ml.NVML_TEMPERATURE_GPU)  # its name from CUDA 14 on
        return _known(
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", ml.NVML_CLOCK_SM),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", ml.NVML_CLOCK_MEM),
            celsius=celsius,
            watts=None if watts is None else watts / 1e3,
            reasons=None if bits is None else [reason for bit, reason in REASONS.items() if bits & bit],
        )

    def _ask(self, name: str, *arguments: Any) -> Any:
        """The answer of a function; None where the module, the driver or the GPU has none."""
        function = getattr(self._pynvml, name, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._pynvml.NVMLError:
            return None


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _version(number: int) -> str:
    """CUDA's 12090 as "12.9"."""
    return f"{number // 1000}.{number % 1000 // 10}"
