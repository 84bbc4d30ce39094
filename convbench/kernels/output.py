"""Stores of outputs from scratch: whole rows, with non-temporal stores where the output exceeds the caches."""

from __future__ import annotations

import math
from typing import Final

from convbench.kernels.copying import put, stream
from convbench.kernels.tile import inlined
from convbench.kernels.tuning import tuning
from convbench.problem import ITEM_SIZE, Problem

FAR_BYTES: Final = 2**23  # an output of more leaves the caches


def is_far(problem: Problem) -> bool:
    """Whether the output leaves the caches."""
    return ITEM_SIZE[problem.dtype] * math.prod(problem.output_shape) > FAR_BYTES


def streamed(problem: Problem) -> bool:
    """Whether to write the output with non-temporal stores; a tile that does so ends with a `fence`."""
    return ITEM_SIZE[problem.dtype] * math.prod(problem.output_shape) >= tuning().stream_bytes


@inlined
def put_or_stream(lanes, past_caches, source, source_begin, target, target_begin, count):  # type: ignore[no-untyped-def]
    """Copy `count` contiguous elements of 1-D arrays, with non-temporal stores if asked to.

    Up to a vector after the last element of the source is read, and not used.
    """
    if past_caches:
        stream(
            lanes=lanes,
            source=source,
            source_begin=source_begin,
            target=target,
            target_begin=target_begin,
            count=count,
        )
    else:
        put(
            lanes=lanes,
            source=source,
            source_begin=source_begin,
            target=target,
            target_begin=target_begin,
            count=count,
        )


@inlined
def write_rows(lanes, past_caches, runs, run, plane, first_row, rows, lines, first_column, columns):  # type: ignore[no-untyped-def]
    """Copy rows of pixels from scratch to one filter's output, clipped to the output.

    Args:
        lanes: Elements of a vector; a literal.
        past_caches: Whether to use non-temporal stores.
        runs: Source, 1-D: `lines` runs of `run` pixels, padded by a vector. Run l holds rows l, l + lines, l + 2 lines,
            ... one after the other.
        run: Pixels from one run to the next.
        plane: The output of one filter and image, shape (height, width).
        first_row: Row of the output that receives the first row.
        rows: Number of rows in `runs`.
        lines: Number of runs.
        first_column: Column of the output that receives the first pixel of each row.
        columns: Pixels of a row.
    """
    height, width = plane.shape
    flat = plane.reshape(plane.size)
    count = min(columns, width - first_column)
    for row in range(min(rows, height - first_row)):
        source = row % lines * run + row // lines * columns
        target = (first_row + row) * width + first_column
        put_or_stream(lanes, past_caches, runs, source, flat, target, count)
