"""The passes of a tile's Fourier transforms, as functions that tiles call; see `fourier` for their combination."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice

from llvmlite import ir
from numba.core import cgutils

from convbench.integers import ceil_div
from convbench.kernels.fourier import BACKWARD, FORWARD, Complex, fourier, order, turn
from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_code


def _load(emit: Vectors, begin: ir.Value, number: int) -> Complex:
    """Load complex vector `number` from `begin`; it is a vector of real parts followed by one of imaginary parts."""
    place = emit.at(begin, 2 * number * emit.lanes)
    return emit.load(place), emit.load(emit.at(place, emit.lanes))


def _store(emit: Vectors, value: Complex, begin: ir.Value, number: int) -> None:
    place = emit.at(begin, 2 * number * emit.lanes)
    emit.store(value[0], place)
    emit.store(value[1], emit.at(place, emit.lanes))


def _store_transposed(emit: Vectors, values: Sequence[Complex], begin: ir.Value) -> None:
    """Store `lanes` complex vectors transposed: lane l of vector v becomes lane v of vector l."""
    for part in (0, 1):
        for number, vector in enumerate(emit.transpose([value[part] for value in values])):
            emit.store(vector, emit.at(begin, (2 * number + part) * emit.lanes))


def _multiply_add(emit: Vectors, a: Complex, b: Complex, total: Complex) -> Complex:
    """Emit a * b + total."""
    (x, y), (u, v) = a, b
    real = emit.multiply_add(emit.builder.fneg(y), v, emit.multiply_add(x, u, total[0]))
    return real, emit.multiply_add(y, u, emit.multiply_add(x, v, total[1]))


@vector_code
def down_to_frequencies(
    emit: Vectors,
    size: Constant,
    width: Constant,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    row_stride: ir.Value,
    target: Array,
    target_begin: ir.Value,
) -> None:
    """Transform `lanes` columns of real numbers and transpose the result.

    Args:
        emit: Emits the code.
        size: Rows of the tile.
        width: Columns of the tile.
        lanes: Columns of this call, and frequencies in a vector of the result.
        source: Input.
        source_begin: Index of the first row's first column.
        row_stride: Elements from one row to the next.
        target: Output, which calls for all columns of a tile fill: shape (size / 2 / lanes, width, 2, lanes), that is
            vectors of frequencies in their `order`, columns, real and imaginary parts, lanes.
        target_begin: Index of this call's first column.
    """
    builder, half = emit.builder, size // 2
    read, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)

    def folded(n: int) -> Complex:
        x, y = (emit.load(emit.at(read, builder.mul(index(row), row_stride))) for row in (n, n + half))
        return turn(emit, (x, builder.fneg(y)), -n, 2 * size)

    found = fourier(emit, folded, half, FORWARD)
    for part in range(half // lanes):
        values = [value for _, value in islice(found, lanes)]
        _store_transposed(emit, values, emit.at(write, part * width * 2 * lanes))


@vector_code
def across_to_frequencies(
    emit: Vectors,
    size: Constant,
    lanes: Constant,  # read by `vector_code` for `emit`
    source: Array,
    source_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
) -> None:
    """Transform `size` consecutive complex vectors into as many consecutive ones."""
    read = partial(_load, emit, emit.at(source.data, source_begin))
    write = emit.at(target.data, target_begin)
    for number, value in fourier(emit, read, size, FORWARD):
        _store(emit, value, write, number)


@vector_code
def across_from_frequencies(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    size: Constant,
    outputs: Constant,
    lanes: Constant,
    added: Constant,
    a: Array,
    a_begin: ir.Value,
    b: Array,
    b_begin: ir.Value,
    sums: Array,
    sums_begin: ir.Value,
    between: Array,
    target: Array,
    target_begin: ir.Value,
    step: ir.Value,
) -> None:
    """Multiply two spectra of `size` complex vectors, add sums, transform back, and store the first columns transposed.

    Args:
        emit: Emits the code.
        size: Columns of the tile.
        outputs: Columns to store, rounded up to whole vectors.
        lanes: Frequencies in a vector of the input, and columns in a vector of the result.
        added: Whether `sums` are added to the products.
        a: First factor: consecutive complex vectors.
        a_begin: Index of its first vector.
        b: Second factor, likewise.
        b_begin: Index of its first vector.
        sums: Sums to add, likewise.
        sums_begin: Index of their first vector.
        between: Scratch for `size` complex vectors.
        target: Output: ceil(outputs / lanes) blocks of `lanes` complex vectors each.
        target_begin: Index of the first vector of the first block.
        step: Elements from one block to the next.
    """
    one, other = emit.at(a.data, a_begin), emit.at(b.data, b_begin)
    total, zero = emit.at(sums.data, sums_begin), emit.constant(0.0)

    def product(n: int) -> Complex:
        start = _load(emit, total, n) if added else (zero, zero)
        return _multiply_add(emit, _load(emit, one, n), _load(emit, other, n), start)

    for number, value in fourier(emit, product, size, BACKWARD):
        _store(emit, value, between.data, number)
    write = emit.at(target.data, target_begin)
    for part in range(ceil_div(outputs, lanes)):
        values = [_load(emit, between.data, part * lanes + number) for number in range(lanes)]
        _store_transposed(emit, values, emit.at(write, emit.builder.mul(index(part), step)))


@vector_code
def down_from_frequencies(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    size: Constant,
    outputs: Constant,
    lanes: Constant,  # read by `vector_code` for `emit`
    source: Array,
    source_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
    row_stride: ir.Value,
    biases: Array,
    bias_begin: ir.Value,
    relu: ir.Value,
) -> None:
    """Transform `size` / 2 complex vectors, in their `order`, back into `size` rows of reals, and store the first rows.

    Args:
        emit: Emits the code.
        size: Rows of the tile.
        outputs: Rows to store.
        lanes: Columns of this call.
        source: Input.
        source_begin: Index of the first vector.
        target: Output.
        target_begin: Index of the first row's first column.
        row_stride: Elements from one row to the next.
        biases: Array that holds the bias.
        bias_begin: Index in `biases` of the number that is added to all results.
        relu: Whether negative results become zero.
    """
    builder, half = emit.builder, size // 2
    bias, floor = emit.splat(builder.load(emit.at(biases.data, bias_begin))), emit.floor(relu)
    begin, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    place_of = {frequency: place for place, frequency in enumerate(order(half))}
    for n, value in fourier(emit, lambda m: _load(emit, begin, place_of[m]), half, BACKWARD):
        upper, lower = turn(emit, value, n, 2 * size)
        for row, vector in ((n, upper), (n + half, builder.fneg(lower))):
            if row < outputs:
                result = emit.at_least(builder.fadd(vector, bias), floor)
                emit.store(result, emit.at(write, builder.mul(index(row), row_stride)))


@vector_code
def multiply_points(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    lanes: Constant,
    a: Array,
    a_begin: ir.Value,
    a_step: ir.Value,
    b: Array,
    b_begin: ir.Value,
    b_step: ir.Value,
    terms: ir.Value,
    target: Array,
    target_begin: ir.Value,
    count: ir.Value,
) -> None:
    """Multiply complex vectors point by point and sum the products over terms.

    Args:
        emit: Emits the code.
        lanes: Elements of a vector.
        a: First factors: consecutive complex vectors.
        a_begin: Index of the first term's first vector.
        a_step: Elements from one term to the next.
        b: Second factors, likewise.
        b_begin: Index of the first term's first vector.
        b_step: Elements from one term to the next.
        terms: Number of products that are summed.
        target: Output: consecutive complex vectors.
        target_begin: Index of the first sum.
        count: Number of sums.
    """
    builder, zero = emit.builder, emit.constant(0.0)
    one, other = emit.at(a.data, a_begin), emit.at(b.data, b_begin)
    write = emit.at(target.data, target_begin)
    with cgutils.for_range(builder, count) as loop:
        place = builder.mul(loop.index, index(2 * lanes))
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]
        with cgutils.for_range(builder, terms) as term:
            x = _load(emit, emit.at(one, place, builder.mul(term.index, a_step)), 0)
            y = _load(emit, emit.at(other, place, builder.mul(term.index, b_step)), 0)
            real, imaginary = (builder.load(total) for total in sums)
            for value, total in zip(_multiply_add(emit, x, y, (real, imaginary)), sums, strict=True):
                builder.store(value, total)
        _store(emit, (builder.load(sums[0]), builder.load(sums[1])), emit.at(write, place), 0)
