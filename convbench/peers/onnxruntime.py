"""ONNX Runtime: a model of one Conv node, with input and output bound to our arrays without copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.peers import LIBRARY, forward_float32, missing
from convbench.precision import EXACT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convbench.peers import Bound
    from convbench.precision import Precision
    from convbench.problem import Problem


class OnnxRuntime:
    """ONNX Runtime's own CPU kernels (MLAS)."""

    executor = LIBRARY
    bound = False

    def available(self) -> str | None:
        """Needs ONNX Runtime, and `onnx` to write the model."""
        return missing("onnx", "onnxruntime", extra="peers")

    def supports(self, problem: Problem) -> str | None:
        """Supports float32 in the forward direction."""
        return forward_float32(problem)

    def open(self, problem: Problem, weights: NDArray[Any], cores: int, precision: Precision = EXACT) -> Bound:
        """A session on `cores` threads with all graph optimisations."""
        return _Session(problem, weights, cores)


class _Session:
    def __init__(self, problem: Problem, weights: NDArray[Any], cores: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = cores, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        model = _model(problem, weights)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()

    def take(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Bind both arrays."""
        self._out = out
        for bind, name, array in ((self._binding.bind_input, "x", x), (self._binding.bind_output, "y", out)):
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def result(self) -> NDArray[Any]:
        """The array given to `take`."""
        return self._out

    def threads(self) -> int:
        """Threads according to the session's options."""
        return int(self._session.get_session_options().intra_op_num_threads)

    def close(self) -> None:
        """End the session's threads."""
        del self._binding, self._session


def _model(problem: Problem, weights: NDArray[Any]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    (top, bottom), (left, right) = problem.padding
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        kernel_shape=[problem.kernel_height, problem.kernel_width],
        strides=list(problem.stride),
        dilations=list(problem.dilation),
        pads=[top, left, bottom, right],
        group=problem.groups,
    )
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", problem.input_shape), ("y", problem.output_shape))
    ]
    constant = numpy_helper.from_array(np.ascontiguousarray(weights), "w")
    graph = helper.make_graph([node], "convolution", ends[:1], ends[1:], [constant])
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


PEER = OnnxRuntime()
