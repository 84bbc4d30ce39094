"""OpenVINO: a model of one convolution on its CPU plugin, with input and output bound to our arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.peers import LIBRARY, forward_float32, missing
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class OpenVino:
    """OpenVINO's CPU plugin."""

    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Needs OpenVINO."""
        return missing("openvino", extra="peers")

    def supports(self, problem: Problem) -> str | None:
        """Supports float32 in the forward direction."""
        return forward_float32(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """Compile a model for low latency in float32, not in a narrower type."""
        return _Request(problem, weights, cores)


class _Request:
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the sweep pins threads
            "SCHEDULING_CORE_TYPE": "ANY_CORE",
        }
        self._openvino = openvino
        self._compiled = openvino.Core().compile_model(_model(problem, weights), "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Wrap both arrays as tensors without copies."""
        self._out = out
        self._request.set_input_tensor(self._openvino.Tensor(x, shared_memory=True))
        self._request.set_output_tensor(self._openvino.Tensor(out, shared_memory=True))

    def __call__(self) -> None:
        self._request.infer()

    def result(self) -> NDArray[Any]:
        """The array given to `take`."""
        return self._out

    def threads(self) -> int:
        """Threads according to the compiled model."""
        return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def close(self) -> None:
        """End the model's threads."""
        del self._request, self._compiled


def _model(problem: Problem, weights: NDArray[Any]) -> Any:
    import openvino
    from openvino import opset13 as ops

    x = ops.parameter(problem.input_shape, openvino.Type.f32)
    begin, end = zip(*problem.padding, strict=True)
    steps = (list(problem.stride), list(begin), list(end), list(problem.dilation))
    if problem.groups == 1:
        y = ops.convolution(x, ops.constant(weights), *steps)
    else:
        grouped = weights.reshape(problem.groups, -1, *weights.shape[1:])
        y = ops.group_convolution(x, ops.constant(grouped), *steps)
    return openvino.Model([y], [x], "convolution")


PEER = OpenVino()
