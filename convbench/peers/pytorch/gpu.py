"""cuDNN through PyTorch on a GPU: `conv2d` in inference mode, after cuDNN's search for its fastest algorithm.

Input and weights are the executor's arrays, imported by DLPack without a copy; for the channels-last layout they are
copied once. Every call makes a new output, for which PyTorch's allocator reuses the memory of the last one. PyTorch
computes some problems, such as one channel per group, with its own kernels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convbench.cuda.precision import GPU_PRECISIONS
from convbench.errors import UnavailableError
from convbench.peers import missing
from convbench.peers.pytorch.layer import Layer, supports
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


@dataclass(frozen=True)
class Cudnn:
    """PyTorch's convolution on a GPU with tensors in one memory format."""

    memory_format: str
    executor = "gpu"
    bound = False

    def available(self) -> str | None:
        """Needs PyTorch built for CUDA, and CuPy."""
        if (reason := missing("cupy", extra="gpu") or missing("torch", extra="torch")) is not None:
            return reason
        try:
            import torch
        except (ImportError, OSError) as error:  # PyTorch for another CUDA version, or a partial installation
            return f"PyTorch cannot be loaded ({str(error).strip().partition(chr(10))[0]}); install it anew"
        if torch.version.cuda is None:
            return "this PyTorch was built without CUDA; install the build for this machine's CUDA"
        if not torch.cuda.is_available():
            return f"PyTorch finds no GPU for its CUDA {torch.version.cuda}; install a driver that fits it"
        return None if torch.backends.cudnn.is_available() else "this PyTorch was built without cuDNN"

    def supports(self, problem: Problem) -> str | None:
        """Supports the forward direction."""
        return supports(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Set cuDNN's options, and copy the weights to the GPU."""
        return _GpuLayer(problem, weights, self.memory_format, precision)


class _GpuLayer(Layer):
    def __init__(self, problem: Problem, weights: NDArray[Any], memory_format: str, precision: Precision) -> None:
        import cupy
        import torch

        cupy.get_default_memory_pool().free_all_blocks()  # the search cannot use memory that CuPy's pool holds
        torch.backends.cudnn.benchmark = True  # the search, in the first call with a shape
        torch.backends.cudnn.benchmark_limit = 0  # search all algorithms; the default is ten
        allow_tf32 = GPU_PRECISIONS[precision.name].cudnn_allow_tf32
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of later versions
            torch.backends.cudnn.allow_tf32 = allow_tf32  # True by default
            torch.backends.cuda.matmul.allow_tf32 = allow_tf32
        super().__init__(torch, problem, memory_format)
        self._cupy = cupy
        self._weights = self._tensor(cupy.asarray(weights))

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:  # PyTorch makes its own output
        """Convert the input to a tensor of the memory format."""
        theirs, ours = self._torch.cuda.current_stream().cuda_stream, self._cupy.cuda.get_current_stream().ptr
        if theirs != ours:
            raise UnavailableError(
                f"PyTorch queues in stream {theirs:#x} and CuPy in {ours:#x}, so that events would not time the calls; "
                "unset CUPY_CUDA_PER_THREAD_DEFAULT_STREAM"
            )
        self._x = self._tensor(x)

    def _tensor(self, array: NDArray[Any]) -> Any:
        """A CuPy array as a tensor of the memory format."""
        return self._in_format(self._torch.from_dlpack(array))

    def result(self) -> NDArray[Any]:
        """The output copied to the host."""
        array: NDArray[Any] = self._y.cpu().numpy()
        return array

    def threads(self) -> int:
        """One: the host's calling thread."""
        return 1

    def close(self) -> None:
        """Drop all tensors, and release the memory of PyTorch's pool."""
        self._release()
        self._torch.cuda.empty_cache()


CONTIGUOUS = Cudnn("contiguous_format")
CHANNELS_LAST = Cudnn("channels_last")
