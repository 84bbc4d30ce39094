"""OpenCV: `filter2D` computes one filter on one thread; a pool of threads computes all filters.

The output has the input's size: OpenCV always computes the border outside of the valid part as well.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.peers import LIBRARY, missing, one_channel
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class OpenCv:
    """OpenCV's image filtering, which uses a Fourier transform from about 11 x 11 taps on."""

    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Needs OpenCV."""
        return missing("cv2", extra="peers")

    def supports(self, problem: Problem) -> str | None:
        """Supports one image of one channel with stride 1, dilation 1 and no padding."""
        return one_channel(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Start a pool of `cores` threads; OpenCV's own threads are disabled."""
        return _FilterPool(problem, weights, cores)


class _FilterPool:
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._cv2 = cv2
        self._problem = problem
        self._filters = weights[:, 0]
        self._planes = np.empty((problem.out_channels, problem.height, problem.width), problem.dtype)
        self._pool = ThreadPoolExecutor(cores)
        self._cores = cores

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Keep the image; the output goes to separate planes of the input's size, which differs from that of `out`."""
        self._image = x[0, 0]

    def __call__(self) -> None:
        list(self._pool.map(self._compute, range(len(self._filters))))

    def _compute(self, number: int) -> None:
        self._cv2.filter2D(self._image, -1, self._filters[number], self._planes[number], anchor=(0, 0))

    def result(self) -> NDArray[Any]:
        """The valid part of each plane."""
        problem = self._problem
        return self._planes[None, :, : problem.output_height, : problem.output_width]

    def threads(self) -> int:
        """Threads of the pool."""
        return self._cores

    def close(self) -> None:
        """End the pool's threads."""
        self._pool.shutdown()


PEER = OpenCv()
