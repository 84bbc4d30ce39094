"""Unrolled convolution on a GPU: chooses a kernel, `cuda/unrolled.cu` or `cuda/unrolled_wgmma.cu`, and its sizes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from convbench.algorithms import Cost, Footprint
from convbench.algorithms.unrolled import gpu_wgmma
from convbench.algorithms.unrolled.gpu_wgmma import Groups
from convbench.cuda import SOURCES, card
from convbench.cuda.epilogue import EPILOGUE_SOURCE, with_epilogue
from convbench.cuda.launch import GpuWork, Launch, geometry_macros
from convbench.cuda.precision import GPU_PRECISIONS
from convbench.cuda.product import LAUNCH, Blocks, Products, best_blocks, cycles, product_sources
from convbench.epilogue import NO_EPILOGUE, Epilogue
from convbench.integers import ceil_div, round_up
from convbench.precision import EXACT, TF32, Precision
from convbench.problem import ITEM_SIZE, Problem

COMMON: Final = SOURCES / "unrolled.cuh"
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


def cut_up(problem: Problem, precision: Precision) -> Blocks | Groups:
    """The sizes of the kernel for a problem, on the GPU at hand."""
    products = products_of(problem)
    if precision is TF32 and card.capability() == gpu_wgmma.CAPABILITY:
        return gpu_wgmma.best_groups(products)
    return best_blocks(products, precision, may_split=True)


def scratch_size(products: Products, splits: int) -> int:
    """Elements of the partial sums of a split-K product; 0 where it is not split."""
    return products.results * splits if splits > 1 else 0


def footprint(problem: Problem, precision: Precision = EXACT) -> Footprint:
    """The packed weights and the partial sums."""
    products, item = products_of(problem), ITEM_SIZE[problem.dtype]
    cut = cut_up(problem, precision)
    rows, terms = round_up(products.filters, cut.filters), round_up(products.terms, cut.depth)
    return Footprint(scratch_size(products, cut.splits) * item, products.number * rows * terms * item)


def cost(problem: Problem, precision: Precision = EXACT) -> Cost:
    """The cycles or microseconds that the sizes were chosen by, a launch included, and the bytes."""
    products, cut = products_of(problem), cut_up(problem, precision)
    if isinstance(cut, Groups):
        product = {"warpgroup microseconds": gpu_wgmma.LAUNCH + gpu_wgmma.microseconds(cut, products)}
    else:
        product = {"product cycles": LAUNCH + cycles(cut, products)}
    return Cost({**product, "bytes": problem.bytes}, units=1)


def prepare(
    problem: Problem, weights: NDArray[Any], epilogue: Epilogue = NO_EPILOGUE, precision: Precision = EXACT
) -> GpuWork:
    """Pack the matrix of weights in blocks; the work is one launch, or two where the product is split along its terms.

    The second launch adds the partial sums and applies the epilogue.
    """
    products, cut = products_of(problem), cut_up(problem, precision)
    if isinstance(cut, Groups):
        packed, sources = gpu_wgmma.pack(problem, weights, cut), [gpu_wgmma.PRODUCT, COMMON, gpu_wgmma.SOURCE]
    else:
        product, of_weights = product_sources(precision)
        packed, sources = pack(problem, weights, cut), [product, COMMON, of_weights, SOURCE]
    packed, applied = with_epilogue(packed, problem, epilogue)
    macros = {**geometry_macros(problem), **applied, **cut.macros, "SPLITS": cut.splits}

    def launch(name: str, stage: str, number: int, threads: int, shared_bytes: int = 0) -> Launch:
        every = (EPILOGUE_SOURCE, *sources)
        return Launch(every, name, tuple(macros.items()), number, threads, stage, (), shared_bytes, cut.architecture)

    number = cut.number(products.filters, products.columns) * products.number * cut.splits
    multiplying = launch("unrolled", "unrolled", number, cut.threads, cut.shared_bytes)
    adding = launch("add_parts", "add", ceil_div(products.results, ADDING_THREADS), ADDING_THREADS)
    return GpuWork(
        (multiplying, adding) if cut.splits > 1 else (multiplying,),
        packed,
        scratch_size=scratch_size(products, cut.splits),
        errors=GPU_PRECISIONS[precision.name].errors(problem),
        variant={**asdict(cut), "precision": precision.name},
    )


def pack(problem: Problem, weights: NDArray[Any], cut: Blocks) -> NDArray[Any]:
    """Pack the weights: 1-D, (groups, filter blocks, taps, filters of a block), padded with zeros."""
    group_filters = problem.group_filters
    blocks, taps = ceil_div(group_filters, cut.filters), round_up(problem.taps, cut.depth)
    padded = np.zeros((problem.groups, blocks * cut.filters, taps), problem.dtype)
    padded[:, :group_filters, : problem.taps] = weights.reshape(problem.groups, group_filters, problem.taps)
    return np.ascontiguousarray(padded.reshape(problem.groups, blocks, cut.filters, taps).transpose(0, 1, 3, 2)).ravel()
