"""OpenCV: `filter2D`, which takes one kernel at a time and one thread; a pool of threads takes the kernels.

It gives an output of the input's size; what lies beyond the valid part is computed too, as it is for everybody.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.peers import LIBRARY, missing
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class OpenCv:
    """OpenCV's image filtering, which goes through a Fourier transform from about 11 x 11 taps up."""

    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Whether the package is there."""
        return missing("cv2", extra="peers")

    def supports(self, problem: Problem) -> str | None:
        """One image of one channel, no padding, dense steps."""
        return plain(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """A pool of threads, each of which OpenCV leaves alone."""
        return _Filters(problem, weights, cores)


class _Filters:
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._cv2 = cv2
        self._problem = problem
        self._kernels = weights[:, 0]
        self._planes = np.empty((problem.out_channels, problem.height, problem.width), problem.dtype)
        self._pool = ThreadPoolExecutor(cores)
        self._cores = cores

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:  # its planes are larger than ours
        """Keep the image."""
        self._image = x[0, 0]

    def __call__(self) -> None:
        list(self._pool.map(self._filter, range(len(self._kernels))))

    def _filter(self, number: int) -> None:
        self._cv2.filter2D(self._image, -1, self._kernels[number], self._planes[number], anchor=(0, 0))

    def result(self) -> NDArray[Any]:
        """The valid part of each plane."""
        problem = self._problem
        return self._planes[None, :, : problem.output_height, : problem.output_width]

    def threads(self) -> int:
        """Of the pool."""
        return self._cores

    def close(self) -> None:
        """End the pool."""
        self._pool.shutdown()


def plain(problem: Problem) -> str | None:
    """Why a library of image filters cannot do a problem."""
    if problem.direction != "forward":
        return f"has no {problem.direction} form"
    if problem.batch != 1 or problem.channels != 1:
        return "takes one image of one channel"
    if problem.stride != (1, 1) or problem.dilation != (1, 1) or problem.padding != ((0, 0), (0, 0)):
        return "is measured with stride 1, dilation 1 and no padding alone"
    return None


PEER = OpenCv()
