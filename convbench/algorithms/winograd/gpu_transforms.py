"""Sizes and matrices of `cuda/winograd.cuh`, shared by the fused kernel and the three kernels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from convbench.algorithms.winograd.nested import Axis
from convbench.cuda import SOURCES
from convbench.cuda.launch import Matrix, macros_of
from convbench.kernels.toom_cook import toom_cook

TRANSFORMS: Final = SOURCES / "winograd.cuh"


def axis_macros(y: Axis, x: Axis) -> dict[str, int]:
    """The sizes of both axes as macros."""
    return {
        **macros_of({**asdict(y), "points": y.points}, "Y_"),
        **macros_of({**asdict(x), "points": x.points}, "X_"),
    }


def matrices(y: Axis, x: Axis) -> tuple[tuple[str, Matrix], ...]:
    """The matrices of the input and output transforms along both axes, by name."""
    to_y, to_x = toom_cook(y.outputs, y.taps), toom_cook(x.outputs, x.taps)
    return ("INPUT_Y", to_y.input), ("INPUT_X", to_x.input), ("OUTPUT_Y", to_y.output), ("OUTPUT_X", to_x.output)


def axis_variant(y: Axis, x: Axis) -> dict[str, int | str]:
    """The cut along both axes, vertical first, for records: outputs of a tile, taps of a block, blocks of a filter."""
    return {name: f"{of_y} x {getattr(x, name)}" for name, of_y in asdict(y).items()}
