"""Convolution of a Dask array, as a Dask array: nothing is computed before somebody asks for it.

The output is cut into bands of rows, as for workers on a cluster, and blocks of images; each is a task that reads the
rows of the input that its kernels reach. So an image may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convbench.errors import RequestError
from convbench.integers import ceil_div
from convbench.layer.operation import Operation, as_filters, is_wide, of_dimensions, own_copy
from convbench.problem import ITEM_SIZE, Problem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def is_lazy(x: object) -> bool:
    """Whether something is a Dask array; Dask is not imported to find out."""
    return type(x).__module__.startswith("dask.array.") and hasattr(x, "__dask_graph__")


def convolved(
    x: Any, w: ArrayLike, what: Operation, convolve: Callable[..., Any], how: Mapping[str, Any], out: object
) -> Any:
    """A Dask array of the convolution.

    Args:
        x: A Dask array, shape (height, width), (channels, height, width) or (batch, channels, height, width).
        w: The weights; they are copied.
        what: The arguments, checked.
        convolve: Convolves a block; pickled by name.
        how: Its arguments beside image, weights and padding. Each task takes one core, unless `cores` says more.
        out: None, as nothing is written before it is computed.

    Raises:
        RequestError: An argument is invalid, or the shape of `x` is not known.
    """
    import dask

    if out is not None:
        raise RequestError("out is given with a Dask array, which is computed later; leave it out")
    if any(np.isnan(length) for length in x.shape):
        raise RequestError("x has chunks of unknown sizes; call its compute_chunk_sizes first")
    image: Any = of_dimensions("x", x, (2, 3, 4))
    weights = own_copy(as_filters(w))
    problem = what.problem(image.shape, weights, wide=is_wide(image))
    what.epilogue(problem)
    whole = image[(None,) * (4 - image.ndim)].rechunk({1: -1, 3: -1})
    arguments = {"cores": 1, **{name: value for name, value in how.items() if value is not None}}
    given = dask.delayed(weights, pure=True)
    bands = [
        _band(whole[part.input], part.problem, given, convolve, arguments)
        for part in problem.split(_bands(whole, problem), "rows")
    ]
    result = dask.array.concatenate(bands, axis=2)
    return result if image.ndim == 4 else result[0]


def _bands(x: Any, problem: Problem) -> int:
    """As many bands as `x` has chunks of rows, or more where the output's blocks would be larger than Dask's."""
    import dask
    from dask.utils import parse_bytes

    _, filters, rows, columns = problem.output_shape
    size = max(x.chunks[0]) * filters * rows * columns * ITEM_SIZE[problem.dtype]
    return min(rows, max(len(x.chunks[2]), ceil_div(size, parse_bytes(dask.config.get("array.chunk-size")))))


def _band(x: Any, problem: Problem, weights: Any, convolve: Callable[..., Any], how: Mapping[str, Any]) -> Any:
    """The rows of the output that a part of the problem computes."""
    blocks = x.rechunk({1: -1, 2: -1, 3: -1})
    _, filters, rows, columns = problem.output_shape
    return blocks.map_blocks(
        _block,
        weights=weights,
        convolve=convolve,
        how={**how, "padding": problem.padding},
        chunks=(blocks.chunks[0], (filters,), (rows,), (columns,)),
        dtype=problem.dtype,
        meta=np.empty_like(blocks._meta, dtype=problem.dtype, shape=(0, 0, 0, 0)),  # noqa: SLF001  # as Dask documents it
    )


def _block(
    block: NDArray[Any], *, weights: NDArray[Any], convolve: Callable[..., NDArray[Any]], how: Mapping[str, Any]
) -> NDArray[Any]:
    return convolve(block, weights, **how)
