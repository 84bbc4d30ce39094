"""SciPy: `oaconvolve`, the overlap-add method with Fourier transforms; a pool of threads computes all filters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from convbench.peers import LIBRARY, one_channel
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class SciPy:
    """SciPy's fastest convolution for an image that is much larger than the filter."""

    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Always available: SciPy is a dependency of convbench."""
        return None

    def supports(self, problem: Problem) -> str | None:
        """Supports one image of one channel with stride 1, dilation 1 and no padding."""
        return one_channel(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Start a pool of `cores` threads, and flip the filters once, since SciPy's convolution flips them."""
        return _Convolutions(weights[:, 0, ::-1, ::-1], cores)


class _Convolutions:
    def __init__(self, filters: NDArray[Any], cores: int) -> None:
        self._filters = filters
        self._pool = ThreadPoolExecutor(cores)
        self._cores = cores

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Keep both arrays."""
        self._image, self._out = x[0, 0], out

    def __call__(self) -> None:
        list(self._pool.map(self._convolve, range(len(self._filters))))

    def _convolve(self, number: int) -> None:
        from scipy.signal import oaconvolve

        self._out[0, number] = oaconvolve(self._image, self._filters[number], mode="valid")

    def result(self) -> NDArray[Any]:
        """The array given to `take`."""
        return self._out

    def threads(self) -> int:
        """Threads of the pool."""
        return self._cores

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.shutdown()


PEER = SciPy()
