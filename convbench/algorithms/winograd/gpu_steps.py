"""Minimal filtering on a GPU in three kernels: chooses the sizes of `cuda/winograd_steps.cu` for a problem."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.algorithms.winograd.gpu_transforms import TRANSFORMS, axis_macros, axis_variant, matrices
from convbench.algorithms.winograd.nested import Axis, best_axes, errors, transformed_weights
from convbench.cuda import SOURCES
from convbench.cuda.epilogue import EPILOGUE_SOURCE, with_epilogue
from convbench.cuda.launch import MOST_OFFSET, GpuWork, Launch, geometry_macros
from convbench.cuda.product import LAUNCH, Blocks, Products, best_blocks, cycles, product_sources
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.precision import EXACT
from convbench.problem import ITEM_SIZE, Problem

SOURCE: Final = SOURCES / "winograd_steps.cu"
ROUNDED_UP: Final = 2**10  # more than the tiles that fill the last thread block of any kernel
TRANSFORM_THREADS: Final = 128  # threads of a thread block that transforms
FMAS_PER_MEMORY_ROUND_TRIP: Final = 64  # multiply-adds in the time to write an element and read it again


@dataclass(frozen=True)
class Cut:
    """The sizes of the three kernels for one problem.

    Attributes:
        y: Cut of the vertical axis.
        x: Cut of the horizontal axis.
        products: The matrix products of all points and groups.
        blocks: Sizes of the thread blocks of the products.
    """

    y: Axis
    x: Axis
    products: Products
    blocks: Blocks

    @property
    def transform_blocks(self) -> int:
        """Number of thread blocks that transform the tiles of all images, for one channel and block of taps."""
        return ceil_div(self.products.columns, TRANSFORM_THREADS)

    @property
    def weights_size(self) -> int:
        """Elements of the packed weights."""
        filters = round_up(self.products.filters, self.blocks.filters)
        return self.products.number * filters * round_up(self.products.terms, self.blocks.depth)

    @property
    def scratch_size(self) -> int:
        """Elements of transformed inputs and products, with tiles rounded up to whole thread blocks."""
        rows = self.products.number * (self.products.terms + self.products.filters)
        return rows * round_up(self.products.columns, self.blocks.columns)


def _cost(problem: Problem, y: Axis, x: Axis) -> float:
    """Estimated multiply-adds of a group, plus memory traffic in units of multiply-adds."""
    terms, filters = problem.group_channels * y.blocks * x.blocks, problem.group_filters
    traffic = FMAS_PER_MEMORY_ROUND_TRIP * (terms + filters)
    return _tiles(problem, y, x) * y.points * x.points * float(terms * filters + traffic)


def _tiles(problem: Problem, y: Axis, x: Axis) -> int:
    return problem.batch * ceil_div(problem.output_height, y.outputs) * ceil_div(problem.output_width, x.outputs)


def supports(problem: Problem) -> str | None:
    """Supports as many tiles, and planes of all images, as 32 bits can count."""
    reason = "more than 2 G tiles or planes are beyond its 32-bit offsets"
    if problem.batch * max(problem.channels, problem.out_channels) > MOST_OFFSET:
        return reason
    most = MOST_OFFSET - ROUNDED_UP
    if problem.batch * problem.output_height * problem.output_width <= most:
        return None  # a tile has a pixel at least
    return reason if cut_up(problem).products.columns > most else None


def cut_up(problem: Problem) -> Cut:
    """The sizes for a supported problem."""
    found = best_axes(problem, _cost)
    assert found is not None  # noqa: S101  # the smallest tile is always allowed
    y, x = found
    products = Products(
        filters=problem.group_filters,
        columns=_tiles(problem, y, x),
        terms=problem.group_channels * y.blocks * x.blocks,
        number=y.points * x.points * problem.groups,
        dtype=problem.dtype,
    )
    return Cut(y, x, products, best_blocks(products, EXACT, may_split=False))


def footprint(problem: Problem) -> Footprint:
    """The packed weights, transformed inputs and products."""
    cut, item = cut_up(problem), ITEM_SIZE[problem.dtype]
    return Footprint(cut.scratch_size * item, cut.weights_size * item)


def cost(problem: Problem) -> Cost:
    """The cycles of the products that the sizes were chosen by and of three launches, and all bytes that move."""
    cut = cut_up(problem)
    passed = 2 * cut.scratch_size * ITEM_SIZE[problem.dtype]  # from one kernel to the next
    product = 3 * LAUNCH + cycles(cut.blocks, cut.products)
    return Cost({"product cycles": product, "bytes": problem.bytes + passed}, units=1)


def prepare(problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE) -> GpuWork:
    """Transform and pack the weights in blocks; the work is three launches."""
    cut = cut_up(problem)
    packed, applied = with_epilogue(pack(problem, weights, cut), problem, epilogue)
    return GpuWork(
        _launches(problem, cut, applied),
        packed,
        scratch_size=cut.scratch_size,
        errors=errors(problem, cut.y, cut.x),
        variant={"kernels": "three", **axis_variant(cut.y, cut.x), **asdict(cut.blocks)},
    )


def _launches(problem: Problem, cut: Cut, applied: dict[str, int]) -> tuple[Launch, ...]:
    """The launches of the three kernels; `applied` holds the macros of the epilogue."""
    y, x, products, blocks = cut.y, cut.x, cut.products, cut.blocks
    macros = {
        **geometry_macros(problem),
        **applied,
        **blocks.macros,
        **axis_macros(y, x),
        "TRANSFORM_THREADS": TRANSFORM_THREADS,
    }

    def launch(name: str, stage: str, number: int, threads: int = TRANSFORM_THREADS) -> Launch:
        sources = (EPILOGUE_SOURCE, *product_sources(EXACT), TRANSFORMS, SOURCE)
        return Launch(sources, name, tuple(macros.items()), number, threads, stage, matrices(y, x))

    windows, number = problem.groups * products.terms, blocks.number(products.filters, products.columns)
    return (
        launch("transform_input", "transform", windows * cut.transform_blocks),
        launch("products", "product", number * products.number, blocks.threads),
        launch("transform_output", "inverse", problem.out_channels * cut.transform_blocks),
    )


def pack(problem: Problem, weights: NDArray[Any], cut: Cut) -> NDArray[Any]:
    """Transform and pack the weights: 1-D, (groups, points, filter blocks, terms, filters of a block), zero-padded."""
    filter_blocks = ceil_div(problem.group_filters, cut.blocks.filters)
    points = transformed_weights(problem, weights, cut.y, cut.x, cut.blocks.filters, filter_blocks)
    groups, filter_blocks, rows, columns, *terms, filters = points.shape
    at_points = points.reshape(groups, filter_blocks, rows * columns, -1, filters).transpose(0, 2, 1, 3, 4)
    missing = -int(np.prod(terms)) % cut.blocks.depth
    return np.pad(at_points, ((0, 0),) * 3 + ((0, missing), (0, 0))).ravel()
