"""Other libraries' convolutions, measured in the same sweep as ours: one file or folder each.

Each library runs in the fastest mode available to its users: on the host on a given number of its own threads, on a GPU
on the arrays of the executor that our forms use.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final, Protocol

from convbench.precision import EXACT
from convbench.registry import Entry, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.precision import Precision
    from convbench.problem import Problem


LIBRARY: Final = "library"
"""The executor of peers that compute on the host: the library's own threads."""


class Bound(Protocol):
    """A library that is set up to compute one problem any number of times."""

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Bind input and output; includes everything that the library's users do once, outside their loop."""

    def __call__(self) -> None:
        """Compute; this call is what is timed."""

    def result(self) -> NDArray[Any]:
        """The last call's output on the host, of `problem.output_shape`: the array given to `take`, or a copy."""

    def threads(self) -> int | None:
        """Number of threads according to the library; None if it does not report it."""

    def close(self) -> None:
        """Release threads and memory."""


class Peer(Protocol):
    """Another library's convolution."""

    @property
    def executor(self) -> str:
        """`LIBRARY`, or the executor whose arrays and clock the peer is measured with."""

    @property
    def bound(self) -> bool:
        """Whether only a part of a convolution is timed, which is a lower bound of the time of a convolution."""

    def available(self) -> str | None:
        """Why the peer cannot be used on this machine, and what to install; None if it can."""

    def supports(self, problem: Problem) -> str | None:
        """Why the peer does not support a problem; None if it does."""

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Set the library up for one problem.

        Args:
            problem: The problem that calls compute.
            weights: Shape `problem.weights_shape`.
            cores: Number of threads on the host; 1 on a GPU.
            precision: Precision of products on a GPU, one that the executor supports; `EXACT` on the host.

        Returns:
            The bound library. Its calls on a GPU return once they are queued on the stream of the executor's events.
        """


PEERS: Table[Peer] = Table(
    "peer",
    [
        Entry("onnxruntime", "convbench.peers.onnxruntime:PEER", "ONNX Runtime, input and output bound"),
        Entry("torch", "convbench.peers.pytorch.host:CONTIGUOUS", "PyTorch, output memory reused by its allocator"),
        Entry(
            "torch-channels-last", "convbench.peers.pytorch.host:CHANNELS_LAST", "PyTorch, in its channels-last layout"
        ),
        Entry("openvino", "convbench.peers.openvino:PEER", "OpenVINO, float32, input and output bound"),
        Entry("opencv", "convbench.peers.opencv:PEER", "OpenCV's filter2D, filter by filter on a pool of threads"),
        Entry("scipy", "convbench.peers.scipy:PEER", "SciPy's oaconvolve, filter by filter on a pool of threads"),
        Entry(
            "cudnn", "convbench.peers.pytorch.gpu:CONTIGUOUS", "cuDNN through PyTorch on a GPU, after its autotuning"
        ),
        Entry(
            "cudnn-channels-last", "convbench.peers.pytorch.gpu:CHANNELS_LAST", "the same in the channels-last layout"
        ),
        Entry("cublas", "convbench.peers.cublas:PEER", "cuBLAS's product with the unrolled matrix alone: a bound"),
    ],
)


def missing(*modules: str, extra: str) -> str | None:
    """Why a peer cannot be used: modules that are not installed; None if all of them are.

    Args:
        modules: The modules that the peer imports.
        extra: The optional dependency of convbench that installs them.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed; pip install 'convbench[{extra}]'" if absent else None


def forward_float32(problem: Problem) -> str | None:
    """Why a peer for the forward direction in float32 does not support a problem; None if it does."""
    if problem.direction != "forward":
        return f"has no {problem.direction} form here"
    return None if problem.dtype == "float32" else f"computes no {problem.dtype}"


def one_channel(problem: Problem) -> str | None:
    """Why a library of image filters, which take one channel, does not support a problem; None if it does."""
    if problem.direction != "forward":
        return f"has no {problem.direction} form"
    if problem.batch != 1 or problem.channels != 1:
        return "takes one image of one channel"
    if problem.stride != (1, 1) or problem.dilation != (1, 1) or problem.padding != ((0, 0), (0, 0)):
        return "is measured with stride 1, dilation 1 and no padding alone"
    return None
