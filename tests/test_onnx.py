"""ONNX's own test cases for its Conv operator, as the onnx package brings them, through `conv2d`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convbench

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

LEAST = 17
LARGE = "test_operator_conv"  # the one case whose tile no other shares
SAME = ("SAME_UPPER", "SAME_LOWER")
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
Sets = list[tuple[list[np.ndarray], np.ndarray]]  # inputs and output


def cases() -> dict[str, tuple[Any, Sets]]:
    """Every case that is a single Conv node over two spatial dimensions: the operator's, and what others export."""
    importlib.import_module("onnx.backend.test.case.node.conv")  # which makes its cases when it is loaded
    known = importlib.import_module("onnx.backend.test.case.node")._NodeTestCases
    found = {case.name: (case.model.graph, [(xs, ys[0]) for xs, ys in case.data_sets]) for case in known}
    for model in sorted(DATA.glob("*/*/model.onnx")):
        sets = [
            ([tensor(path) for path in sorted(one.glob("input_*.pb"))], tensor(one / "output_0.pb"))
            for one in sorted(model.parent.glob("test_data_set_*"))
        ]
        if "conv" in model.parent.name.lower():
            found[model.parent.name] = (onnx.load(model).graph, sets)
    return {name: case for name, case in found.items() if is_conv2d(*case)}


def is_conv2d(graph: Any, sets: Sets) -> bool:
    return [node.op_type for node in graph.node] == ["Conv"] and sets[0][1].ndim == 4


def tensor(path: Path) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def padding(attributes: dict[str, Any], x: np.ndarray, w: np.ndarray, strides: list[int]) -> Any:
    """What `auto_pad` and `pads` say, as `conv2d` takes it."""
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode == "VALID":
        return "valid"
    if mode in SAME:
        sides = []
        for size, kernel, stride in zip(x.shape[2:], w.shape[2:], strides, strict=True):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            sides.append((total // 2, total - total // 2)[:: 1 if mode == "SAME_UPPER" else -1])
        return tuple(sides)
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    return ((top, bottom), (left, right))


def test_there_are_cases():
    assert len(CASES) >= LEAST, sorted(CASES)


CASES = cases()


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.long] * (name == LARGE)) for name in CASES])
@pytest.mark.parametrize(
    "algorithm", [None, *(pytest.param(name, marks=pytest.mark.long) for name in ("direct", "unrolled"))]
)
def test_conv2d_computes_onnx_s_case(name, algorithm):
    graph, sets = CASES[name]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in graph.node[0].attribute}
    given = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    names = [one.name for one in graph.input if one.name not in given]
    for inputs, expected in sets:
        x, w, *bias = ({**given, **dict(zip(names, inputs, strict=True))}[one] for one in graph.node[0].input)
        strides = list(attributes.get("strides", [1, 1]))
        y = convbench.conv2d(
            x,
            w,
            *bias,
            stride=strides,
            padding=padding(attributes, x, w, strides),
            dilation=attributes.get("dilations", 1),
            groups=attributes.get("group", 1),
            algorithm=algorithm,
        )
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-5)
