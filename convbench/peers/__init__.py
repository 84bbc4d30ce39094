"""Other libraries' convolutions, measured beside ours in the same sweep: one file each.

Each runs in the mode in which its own users would call it fastest: on as many of its own threads as it is given, or on
a device, on the arrays of the executor that our own forms run on there.
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
    """A library that is ready to compute one problem, again and again."""

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Learn where input and output are; what the library's users do once, outside their loop, is done here."""

    def __call__(self) -> None:
        """Compute: what is timed."""

    def result(self) -> NDArray[Any]:
        """The last call's output on the host, of `problem.output_shape`: given to `take`, or the library's own."""

    def threads(self) -> int | None:
        """How many threads the library says it uses; None if it does not tell."""

    def close(self) -> None:
        """Give back threads and memory."""


class Peer(Protocol):
    """Another library's convolution."""

    @property
    def executor(self) -> str:
        """`LIBRARY`, or the executor whose arrays and clock it is measured with."""

    @property
    def bound(self) -> bool:
        """Whether what is timed is only a part of a convolution, and so a bound of one and none itself."""

    def available(self) -> str | None:
        """Why it cannot be used here, and what to install; None where it can."""

    def supports(self, problem: Problem) -> str | None:
        """Why it cannot do a problem; None where it can."""

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Build what the library needs.

        Args:
            problem: What it is going to compute.
            weights: Shape `problem.weights_shape`.
            cores: How many of its threads compute; 1 where it computes on a GPU.
            precision: What it may compute products in, which the executor has; `EXACT` where it has an executor of its
                own. Calls on a GPU return when they are queued where the executor's events are.
        """


PEERS: Table[Peer] = Table(
    "peer",
    [
        Entry("onnxruntime", "convbench.peers.onnxruntime:PEER", "ONNX Runtime, input and output bound"),
        Entry("torch", "convbench.peers.pytorch.host:CONTIGUOUS", "PyTorch, memory kept by the allocator"),
        Entry(
            "torch-channels-last",
            "convbench.peers.pytorch.host:CHANNELS_LAST",
            "PyTorch, pixels' channels side by side",
        ),
        Entry("openvino", "convbench.peers.openvino:PEER", "OpenVINO, float32, input and output bound"),
        Entry("opencv", "convbench.peers.opencv:PEER", "OpenCV's filter2D, kernel by kernel on a pool of threads"),
        Entry("scipy", "convbench.peers.scipy:PEER", "SciPy's oaconvolve, kernel by kernel on a pool of threads"),
        Entry("cudnn", "convbench.peers.pytorch.gpu:CONTIGUOUS", "cuDNN through PyTorch on a GPU, after its search"),
        Entry(
            "cudnn-channels-last",
            "convbench.peers.pytorch.gpu:CHANNELS_LAST",
            "the same, pixels' channels side by side",
        ),
        Entry("cublas", "convbench.peers.cublas:PEER", "cuBLAS's product with what is unrolled already: a bound"),
    ],
)


def missing(*modules: str, extra: str) -> str | None:
    """Why a peer cannot be used whose modules are not all installed; None if they are.

    Args:
        modules: What it imports.
        extra: Which of convbench's optional dependencies brings them.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed; pip install 'convbench[{extra}]'" if absent else None


def forward_float32(problem: Problem) -> str | None:
    """Why a peer that knows only the forward direction in float32 cannot do a problem."""
    if problem.direction != "forward":
        return f"has no {problem.direction} form here"
    return None if problem.dtype == "float32" else f"computes no {problem.dtype}"
