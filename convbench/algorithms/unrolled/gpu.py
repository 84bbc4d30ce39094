"""Unrolled convolution on a GPU: chooses the sizes of `cuda/unrolled.cu` for a problem."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Footprint
from convbench.cuda import SOURCES
from convbench.cuda.epilogue import EPILOGUE_SOURCE, with_epilogue
from convbench.cuda.launch import GpuWork, Launch, geometry_macros
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.cuda.product import Blocks, Products, best_blocks, product_sources
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.precision import EXACT, Precision
from convbench.problem import ITEM_SIZE, Problem

SOURCE: Final = SOURCES / "unrolled.cu"
ADDING_THREADS: Final = 256  # threads of a block of `add_parts`, as in the source
MOST_ELEMENTS: Final = 2**31 - 1  # maximum elements of an array, bounded by 32-bit offsets


def supports(problem: Problem, precision: Precision = EXACT) -> str | None:
    """Supports arrays within the range of 32-bit offsets, in the dtypes of the precision."""
    largest = max(np.prod(problem.input_shape, dtype=np.int64), np.prod(problem.output_shape, dtype=np.int64))
    if largest > MOST_ELEMENTS:
        return "an array of more than 2 G numbers is beyond its 32-bit offsets"
    return precision.unsupported_reason(problem.dtype)


def products_of(problem: Problem) -> Products:
    """The products of weights and unrolled input, one for each group."""
    return Products(
        filters=problem.group_filters,
        columns=problem.batch * problem.output_height * problem.output_width,
        terms=problem.taps,
        number=problem.groups,
        dtype=problem.dtype,
    )


def scratch_size(products: Products, blocks: Blocks) -> int:
    """Elements of the partial sums of a split-K product; 0 where it is not split."""
    return products.results * blocks.splits if blocks.splits > 1 else 0


def footprint(problem: Problem, precision: Precision = EXACT) -> Footprint:
    """The packed weights and the partial sums."""
    products, item = products_of(problem), ITEM_SIZE[problem.dtype]
    blocks = best_blocks(products, precision, may_split=True)
    rows, terms = round_up(products.filters, blocks.filters), round_up(products.terms, blocks.depth)
    return Footprint(scratch_size(products, blocks) * item, products.number * rows * terms * item)


def prepare(
    problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE, precision: Precision = EXACT
) -> GpuWork:
    """Pack the matrix of weights in blocks; the work is one launch, or two where the product is split along its terms.

    The second launch adds the partial sums and applies the epilogue.
    """
    products = products_of(problem)
    blocks = best_blocks(products, precision, may_split=True)
    packed, applied = with_epilogue(pack(problem, weights, blocks), problem, epilogue)
    macros = {**geometry_macros(problem), **applied, **blocks.macros, "SPLITS": blocks.splits}

    def launch(name: str, stage: str, number: int, threads: int) -> Launch:
        sources = (EPILOGUE_SOURCE, *product_sources(precision), SOURCE)
        return Launch(sources, name, tuple(macros.items()), number, threads, stage)

    number = blocks.number(products.filters, products.columns) * products.number * blocks.splits
    product = launch("unrolled", "unrolled", number, blocks.threads)
    adding = launch("add_parts", "add", ceil_div(products.results, ADDING_THREADS), ADDING_THREADS)
    return GpuWork(
        (product, adding) if blocks.splits > 1 else (product,),
        packed,
        scratch_size=scratch_size(products, blocks),
        errors=GPU_PRECISIONS[precision.name].errors(problem),
        variant={**asdict(blocks), "precision": precision.name},
    )


def pack(problem: Problem, weights: NDArray[Any], cut: Blocks) -> NDArray[Any]:
    """Pack the weights: 1-D, (groups, filter blocks, taps, filters of a block), padded with zeros."""
    group_filters = problem.group_filters
    blocks, taps = ceil_div(group_filters, cut.filters), round_up(problem.taps, cut.depth)
    padded = np.zeros((problem.groups, blocks * cut.filters, taps), problem.dtype)
    padded[:, :group_filters, : problem.taps] = weights.reshape(problem.groups, group_filters, problem.taps)
    return np.ascontiguousarray(padded.reshape(problem.groups, blocks, cut.filters, taps).transpose(0, 1, 3, 2)).ravel()
