"""The transforms of `winograd` in both directions at once, with channels or filters in the lanes of vectors.

A tile is a few dozen vectors, which stay in registers as far as these go, so that no pass writes to memory.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from convbench.kernels.linear_map import column_of_ones, linear_map
from convbench.kernels.toom_cook import Matrix, toom_cook
from convbench.kernels.vector import Vectors, index, instruction_set
from convbench.kernels.vector_code import Array, Constant, vector_code

Load = Callable[[int, int], ir.Value]
"""Emits the load of a tile's vector in a row and a column."""


def both_ways(emit: Vectors, to_y: Matrix, to_x: Matrix, load: Load) -> list[list[ir.Value]]:
    """Emit the product to_y * tile * transposed to_x, [row][column]."""
    columns = [linear_map(emit, to_y, [load(y, x) for y in range(len(to_y[0]))]) for x in range(len(to_x[0]))]
    return [linear_map(emit, to_x, [column[y] for column in columns]) for y in range(len(to_y))]


@vector_code
def tile_to_points(
    emit: Vectors,
    y_outputs: Constant,
    y_taps: Constant,
    x_outputs: Constant,
    x_taps: Constant,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    row_step: ir.Value,
    target: Array,
    target_begin: ir.Value,
    target_step: ir.Value,
) -> None:
    """Transform a tile of the input, with a channel in each lane, to its points.

    Args:
        emit: Emits the code.
        y_outputs: m of `toom_cook`, vertically.
        y_taps: r of `toom_cook`, vertically.
        x_outputs: m of `toom_cook`, horizontally.
        x_taps: r of `toom_cook`, horizontally.
        lanes: Channels of a vector.
        source: Input; the vectors of a row follow one another.
        source_begin: Index of the first vector.
        row_step: Elements from one row to the next.
        target: Output.
        target_begin: Index of the first point.
        target_step: Elements from one point to the next.
    """
    builder = emit.builder
    to_y, to_x = toom_cook(y_outputs, y_taps).input, toom_cook(x_outputs, x_taps).input
    begin = emit.at(source.data, source_begin)
    rows = [emit.at(begin, builder.mul(index(y), row_step)) for y in range(len(to_y))]
    write = emit.at(target.data, target_begin)
    for y, row in enumerate(both_ways(emit, to_y, to_x, lambda y, x: emit.load(emit.at(rows[y], x * lanes)))):
        for x, point in enumerate(row):
            emit.store(point, emit.at(write, builder.mul(index(y * len(to_x) + x), target_step)))


@vector_code
def tile_from_points(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    y_outputs: Constant,
    y_taps: Constant,
    x_outputs: Constant,
    x_taps: Constant,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    vectors: Constant,
    tiles: Constant,
    biases: Array,
    bias_begin: ir.Value,
    relu: ir.Value,
    target: Array,
    target_begin: ir.Value,
    filter_step: ir.Value,
    row_step: ir.Value,
) -> None:
    """Transform a tile's sums, with a filter in each lane, to outputs, and store these by filters.

    Args:
        emit: Emits the code.
        y_outputs: m of `toom_cook`, vertically.
        y_taps: r of `toom_cook`, vertically.
        x_outputs: m of `toom_cook`, horizontally.
        x_taps: r of `toom_cook`, horizontally.
        lanes: Filters of a vector.
        source: Input, shape (points, tiles, vectors, lanes).
        source_begin: Index of the first point's vector.
        vectors: Vectors of filters, see `source`.
        tiles: Tiles, see `source`.
        biases: Numbers, of which each filter's is added to its outputs.
        bias_begin: Index of the first filter's.
        relu: Whether negative results become zero.
        target: Output.
        target_begin: Index of the first filter's first pixel.
        filter_step: Elements from one filter to the next.
        row_step: Elements from one row of pixels to the next.
    """
    builder = emit.builder
    to_y, to_x = toom_cook(y_outputs, y_taps).output, toom_cook(x_outputs, x_taps).output
    begin, across, step = emit.at(source.data, source_begin), len(to_x[0]), tiles * vectors * lanes
    bias, floor = emit.load(emit.at(biases.data, bias_begin)), emit.floor(relu)
    ones = column_of_ones(to_y), column_of_ones(to_x)

    def load(y: int, x: int) -> ir.Value:
        total = emit.load(emit.at(begin, (y * across + x) * step))
        return builder.fadd(total, bias) if (y, x) == ones else total

    outputs = both_ways(emit, to_y, to_x, load)
    if None in ones:
        outputs = [[builder.fadd(pixel, bias) for pixel in row] for row in outputs]
    filters = [emit.at(target.data, target_begin, builder.mul(index(f), filter_step)) for f in range(lanes)]
    for y, row in enumerate(outputs):
        finished, offset = (
            [emit.at_least(pixel, floor) for pixel in row],
            builder.mul(index(y), row_step),
        )
        for x in range(0, len(row), lanes):
            _store_transposed(emit, finished[x : x + lanes], [emit.at(place, offset, x) for place in filters])


def _store_transposed(emit: Vectors, pixels: list[ir.Value], targets: list[ir.Value]) -> None:
    """Emit the stores of lane f of each pixel, side by side, to target f."""
    rows = emit.transposed_rows(pixels)
    count = rows[0].type.count
    mask = ir.Constant(ir.VectorType(ir.IntType(1), count), [x < len(pixels) for x in range(count)])
    for row, target in zip(rows, targets, strict=True):
        if instruction_set().has_masks:
            emit.store_lanes(row, target, mask)
        else:
            emit.store_first(row, target, len(pixels))


@vector_code
def weights_to_points(
    emit: Vectors,
    y_outputs: Constant,
    y_taps: Constant,
    x_outputs: Constant,
    x_taps: Constant,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    row_step: ir.Value,
    target: Array,
    target_begin: ir.Value,
    target_step: ir.Value,
    filters: Constant,
) -> None:
    """Transform a block of taps, with a filter in each lane, to its points, in double precision.

    The arguments are those of `tile_to_points`; the first `filters` lanes are stored.
    """
    builder = emit.builder
    to_y, to_x = toom_cook(y_outputs, y_taps).weights, toom_cook(x_outputs, x_taps).weights
    begin, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    rows = [emit.at(begin, builder.mul(index(y), row_step)) for y in range(y_taps)]
    part = max(1, lanes * emit.item_size // 8)  # filters in as many numbers of double precision as a vector holds
    narrow, wide = emit.of(emit.real, part), emit.of(ir.DoubleType(), part)
    for first in range(0, min(filters, lanes), part):

        def load(y: int, x: int, first: int = first) -> ir.Value:
            tap = narrow.load(emit.at(rows[y], x * lanes + first))
            return tap if wide.type == narrow.type else builder.fpext(tap, wide.type)

        mask = ir.Constant(ir.VectorType(ir.IntType(1), part), [first + f < filters for f in range(part)])
        for y, row in enumerate(both_ways(wide, to_y, to_x, load)):
            for x, point in enumerate(row):
                rounded = point if wide.type == narrow.type else builder.fptrunc(point, narrow.type)
                place = emit.at(write, first, builder.mul(index(y * len(to_x) + x), target_step))
                narrow.store_lanes(rounded, place, mask)
