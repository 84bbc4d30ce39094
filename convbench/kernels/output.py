"""Writing outputs that were made in scratch: in whole rows, and past the caches where they would not stay there."""

from __future__ import annotations

import math

from convbench.kernels.copying import stream
from convbench.kernels.tile import copy, inlined
from convbench.kernels.tuning import tuning
from convbench.problem import ITEM_SIZE, Problem


def streamed(problem: Problem) -> bool:
    """Whether the output is to be written past the caches; a tile that does so ends with a `fence`."""
    return ITEM_SIZE[problem.dtype] * math.prod(problem.output_shape) >= tuning().stream_bytes


@inlined
def write_rows(lanes, past_caches, runs, run, plane, first_row, rows, lines, first_column, columns):  # type: ignore[no-untyped-def]
    """Copy rows of pixels from scratch to one filter's output, as far as the output goes.

    Args:
        lanes: Of a vector; a literal.
        past_caches: Whether to write past the caches.
        runs: 1-D, `lines` runs of `run` pixels, and room for a vector behind them.
        run: Holds every `lines`-th row, one behind the other.
        plane: The output, shape (rows, columns).
        first_row: Where in it the first row goes.
        rows: How many there are.
        lines: How many runs there are.
        first_column: Where in the output a row begins.
        columns: Pixels of a row.
    """
    height, width = plane.shape
    flat = plane.reshape(plane.size)
    count = min(columns, width - first_column)
    for row in range(min(rows, height - first_row)):
        source = row % lines * run + row // lines * columns
        target = (first_row + row) * width + first_column
        if past_caches:
            stream(lanes=lanes, source=runs, source_begin=source, target=flat, target_begin=target, count=count)
        else:
            copy(runs[source:], flat[target : target + count])
