"""An NVIDIA GPU through CuPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.errors import UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.executors import Runner
    from convbench.tile import Work


class Gpu:
    """Runs work on the first GPU that CuPy sees."""

    flavour = "cupy"
    scales = False
    memory = "device"

    def available(self) -> str | None:
        """Why there is no GPU to use."""
        try:
            import cupy
        except ImportError:
            return "CuPy is not installed; pip install 'convbench[gpu]'"
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"CuPy finds no usable GPU ({error}); install an NVIDIA driver that fits CuPy's CUDA"
        return None if devices else "there is no NVIDIA GPU"

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Device memory."""
        import cupy

        return cupy.empty(shape, dtype)  # type: ignore[no-any-return]

    def open(self, work: Work, cores: int) -> Runner:
        """No algorithm has a CuPy form yet, so no plan gets here."""
        raise UnavailableError(f"the gpu executor cannot run {work.tile.name} on {cores} cores")


GPU = Gpu()
