"""Arithmetic along one axis of a convolution: sizes in pixels, padding before and after the image."""

from __future__ import annotations

from convbench.integers import ceil_div


def output_length(size: int, extent: int, stride: int, before: int, after: int) -> int:
    """Number of outputs along an axis; `extent` is the length of a dilated filter."""
    return (size + before + after - extent) // stride + 1


def padding_after(size: int, output: int, extent: int, stride: int, before: int) -> int:
    """Padding after the image that the last output reads; negative where pixels at the end are not read."""
    return (output - 1) * stride + extent - size - before


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) for an output of length ceil(size / stride); an odd zero is added after the image."""
    total = max(0, padding_after(size, ceil_div(size, stride), extent, stride, 0))
    return (total // 2, total - total // 2)
