"""Minimal filtering on a GPU in three kernels: how a problem is cut up for `cuda/winograd_steps.cu`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms.winograd.nested import TRANSFORMS, Axis, best_axes, errors, transformed_weights
from convbench.cuda import SOURCES
from convbench.cuda.launch import GpuWork, Launch, geometry_macros
from convbench.cuda.product import EXACT, Blocks, best_blocks
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.kernels.toom_cook import toom_cook
from convbench.problem import Problem

SOURCE: Final = SOURCES / "winograd_steps.cu"
TRANSFORM_THREADS: Final = 128  # of a block
PASSED_ON: Final = 64  # multiply-adds in the time that a number takes to memory and back


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """About how many multiply-adds a group takes, and how many could be done while numbers are passed on."""
    terms = problem.group_channels * y.blocks * x.blocks
    kernels = problem.group_filters
    return _tiles(problem, y, x) * y.points * x.points * float(terms * kernels + PASSED_ON * (terms + kernels))


def _tiles(problem: Problem, y: Axis, x: Axis) -> int:
    return problem.batch * ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Transformed weights in blocks, and three launches."""
    found = best_axes(problem, _cost)
    assert found is not None  # noqa: S101  # the smallest tile is always allowed
    y, x = found
    points, tiles, groups = y.points * x.points, _tiles(problem, y, x), problem.groups
    kernels, terms = problem.out_channels // groups, problem.channels // groups * y.blocks * x.blocks
    blocks = best_blocks(kernels, tiles, terms, points * groups, problem.dtype, may_split=False)
    parts, pitch = ceil_div(tiles, TRANSFORM_THREADS), round_up(tiles, blocks.columns)
    macros = {
        **geometry_macros(problem),
        **blocks.macros,
        **y.macros("Y"),
        **x.macros("X"),
        "TRANSFORM_THREADS": TRANSFORM_THREADS,
    }
    to_y, to_x = toom_cook(y.outputs, y.taps), toom_cook(x.outputs, x.taps)
    matrices = (
        *(("INPUT_Y", to_y.input), ("INPUT_X", to_x.input)),
        *(("OUTPUT_Y", to_y.output), ("OUTPUT_X", to_x.output)),
    )
    launches = tuple(
        Launch(
            sources=(*EXACT, TRANSFORMS, SOURCE),
            name=name,
            macros=tuple(macros.items()),
            blocks=number,
            threads=threads,
            stage=stage,
            matrices=matrices,
        )
        for name, stage, number, threads in (
            ("transform_input", "transform", groups * terms * parts, TRANSFORM_THREADS),
            ("products", "product", blocks.number(kernels, tiles) * points * groups, blocks.threads),
            ("transform_output", "inverse", problem.out_channels * parts, TRANSFORM_THREADS),
        )
    )
    return GpuWork(
        launches,
        pack(problem, weights, y, x, blocks),
        scratch_size=groups * points * (terms + kernels) * pitch,
        errors=errors(problem, y, x),
    )


def pack(problem: Problem, weights: NDArray[Any], y: Axis, x: Axis, cut: Blocks) -> NDArray[Any]:
    """The transformed weights, 1-D: (groups, points, blocks of kernels, terms, kernels of a block), with zeros."""
    all_chunks = ceil_div(problem.group_filters, cut.kernels)
    points = transformed_weights(problem, weights, y, x, cut.kernels, all_chunks)
    groups, chunks, rows, columns, *terms, kernels = points.shape
    at_points = points.reshape(groups, chunks, rows * columns, -1, kernels).transpose(0, 2, 1, 3, 4)
    missing = -int(np.prod(terms)) % cut.depth
    return np.pad(at_points, ((0, 0),) * 3 + ((0, missing), (0, 0))).ravel()
