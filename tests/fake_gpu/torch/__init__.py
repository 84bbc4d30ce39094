"""PyTorch on a GPU as far as convbench uses it, on the host: tensors are views of the arrays of the CuPy beside it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import cupy
import numpy as np

contiguous_format, channels_last = "NCHW", "NHWC"
inference_mode = nullcontext
version = SimpleNamespace(cuda=os.environ.get("FAKE_TORCH_CUDA", "13.0") or None)
cuda = SimpleNamespace(
    is_available=lambda: True,
    current_stream=lambda: SimpleNamespace(cuda_stream=int(os.environ.get("FAKE_TORCH_STREAM", "0"))),
    empty_cache=lambda: None,
)
backends = SimpleNamespace(
    cudnn=SimpleNamespace(is_available=lambda: True, benchmark=False, allow_tf32=True),
    cuda=SimpleNamespace(matmul=SimpleNamespace(allow_tf32=False)),
)


class Tensor:
    """A tensor on the GPU."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **_: Any) -> None:
        raise AssertionError("the CuPy beside this takes the values")

    def contiguous(self, memory_format: str) -> Tensor:
        if memory_format == contiguous_format:
            return self if self.values.flags.c_contiguous else Tensor(np.ascontiguousarray(self.values))
        last = np.ascontiguousarray(self.values.transpose(0, 2, 3, 1))
        return Tensor(last.transpose(0, 3, 1, 2))

    def cpu(self) -> SimpleNamespace:
        return SimpleNamespace(numpy=self.values.copy)


def from_dlpack(array: Any) -> Tensor:
    assert isinstance(array, cupy.ndarray), "an array of the host's is not on the GPU"
    return Tensor(array.view(np.ndarray))


def pad(x: Tensor, widths: tuple[int, int, int, int]) -> Tensor:
    left, right, top, bottom = widths
    return Tensor(np.pad(x.values, ((0, 0), (0, 0), (top, bottom), (left, right))))


def conv2d(x: Tensor, weights: Tensor, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    assert backends.cudnn.benchmark
    image, taps = x.values, weights.values
    if backends.cudnn.allow_tf32 and image.dtype == np.float32:
        image, taps = cupy.as_tf32(image), cupy.as_tf32(taps)
    image = np.pad(image, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    rows, columns = (
        (size - step * (kernel - 1) - 1) // jump + 1
        for size, step, kernel, jump in zip(image.shape[2:], dilation, taps.shape[2:], stride, strict=True)
    )
    image = image.reshape(len(image), groups, -1, *image.shape[2:]).astype(np.float64)
    taps = taps.reshape(groups, -1, *taps.shape[1:]).astype(np.float64)
    total = np.zeros((len(image), groups, taps.shape[1], rows, columns))
    for a, b in np.ndindex(taps.shape[3:]):
        seen = image[..., a * dilation[0] :: stride[0], b * dilation[1] :: stride[1]][..., :rows, :columns]
        total += np.einsum("gkc,ngcij->ngkij", taps[..., a, b], seen)
    return Tensor(total.reshape(len(image), -1, rows, columns).astype(x.values.dtype))


nn = SimpleNamespace(functional=SimpleNamespace(pad=pad, conv2d=conv2d))
