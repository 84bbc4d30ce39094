"""Arithmetic along one axis of a convolution: sizes in pixels, padding before and after the image."""

from __future__ import annotations

from convbench.integers import ceil_div


def output_length(size: int, extent: int, stride: int, before: int, after: int) -> int:
    """Output length along an axis."""
    return (size + before + after - extent) // stride + 1


def padding_after(size: int, output: int, extent: int, stride: int, before: int) -> int:
    """Padding behind the image that the last output needs; negative where it leaves pixels unread."""
    return (output - 1) * stride + extent - size - before


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) with which the output is ceil(size / stride); an odd zero goes behind."""
    total = max(0, padding_after(size, ceil_div(size, stride), extent, stride, 0))
    return (total // 2, total - total // 2)
