"""Fourier transforms of a fixed size as straight vector code: the transforms of `fft`.

A tile of real numbers is transformed in two passes. Vertically, lanes are neighbouring columns, and the frequencies are
the odd ones, (j + 1/2) / size: of real numbers these come in conjugate pairs without exception, so that half of them,
the even j, are all there is to know, and they are a complex transform of half the size (that of the numbers folded
into x[n] - i x[n + size/2], turned by exp(-i pi n / size)). What wraps around at the end of a tile comes back with its
sign changed, which does not matter, since nothing that wraps around is used. The result is transposed in registers, so
that horizontally the lanes are frequencies and a pass is a plain complex transform. On the way back all is reversed.

A complex transform of more than eight numbers is cut into transforms of at most eight, which fit the registers: numbers
are read when they are first needed, and results written as soon as they are there, in the order of `order`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from convbench.integers import ceil_div
from convbench.kernels.vector import Vectors, index

FORWARD: Final = -1
BACKWARD: Final = 1
DIRECT: Final = 8  # the largest transform that is done in one piece

Complex = tuple[ir.Value, ir.Value]


def operations(size: int) -> float:
    """About how many additions and multiplications a complex transform takes."""
    return 4 * size * math.log2(size) - 6 * size + 8 if size > 1 else 0


def order(size: int) -> list[int]:
    """The frequencies of a transform, in the order in which `fourier` comes to them."""
    first, second = _factors(size)
    return [low + first * high for low in range(first) for high in range(second)]


def fourier(emit: Vectors, read: Callable[[int], Complex], size: int, sign: int) -> Iterator[tuple[int, Complex]]:
    """Emit sum over n of read(n) * exp(sign * 2 pi i n k / size), for every k, as (k, sum); size is a power of two.

    Cooley and Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965, in two steps.
    """
    first, second = _factors(size)
    columns = []
    for b in range(second):
        found = _small(emit, [read(second * a + b) for a in range(first)], sign)
        columns.append([turn(emit, value, sign * b * k, size) for k, value in enumerate(found)])
    for low in range(first):
        for high, value in enumerate(_small(emit, [column[low] for column in columns], sign)):
            yield low + first * high, value


def _factors(size: int) -> tuple[int, int]:
    """How a transform is cut in two."""
    if size <= DIRECT:
        return 1, size
    first = 2 ** (int(math.log2(size)) // 2)
    return first, size // first


def _small(emit: Vectors, values: Sequence[Complex], sign: int) -> list[Complex]:
    """A transform in one piece: split-radix (Duhamel and Hollmann, Electronics Letters 20(1), 1984)."""
    size = len(values)
    if size == 1:
        return list(values)
    if size == 2:
        return [_add(emit, values[0], values[1]), _subtract(emit, values[0], values[1])]
    even = _small(emit, values[::2], sign)
    one, three = _small(emit, values[1::4], sign), _small(emit, values[3::4], sign)
    quarter = size // 4
    result: list[Complex] = [values[0]] * size
    for k in range(quarter):
        a = turn(emit, one[k], sign * k, size)
        b = turn(emit, three[k], sign * 3 * k, size)
        added, (real, imaginary) = _add(emit, a, b), _subtract(emit, a, b)
        result[k] = _add(emit, even[k], added)
        result[k + 2 * quarter] = _subtract(emit, even[k], added)
        (x, y), builder = even[k + quarter], emit.builder
        up = builder.fsub(x, imaginary), builder.fadd(y, real)  # plus i times the difference
        down = builder.fadd(x, imaginary), builder.fsub(y, real)
        result[k + quarter], result[k + 3 * quarter] = (up, down) if sign == BACKWARD else (down, up)
    return result


def root(k: int, size: int) -> complex:
    """exp(2 pi i k / size), correct to about the last bit: of an angle of an eighth of a turn at most."""
    eighth, rest = divmod(8 * (k % size), size)
    if eighth % 2:  # counted back from the next axis or diagonal
        rest = size - rest
    angle = math.pi * rest / (4 * size)
    x, y = math.cos(angle), math.sin(angle)
    if eighth in (1, 2, 5, 6):
        x, y = y, x
    return complex(x if eighth in (0, 1, 6, 7) else -x, y if eighth < 4 else -y)  # half a turn


def roots(k: NDArray[Any], size: int) -> NDArray[np.complex128]:
    """The same for an array of whole numbers."""
    table: NDArray[np.complex128] = np.array([root(number, size) for number in range(size)])
    found: NDArray[np.complex128] = table[k % size]
    return found


def turn(emit: Vectors, value: Complex, k: int, size: int) -> Complex:
    """Emit value * exp(2 pi i k / size)."""
    if k % size == 0:
        return value
    factor = root(k, size)
    cosine, sine = emit.constant(factor.real), factor.imag
    (x, y), builder = value, emit.builder
    return (
        emit.multiply_add(cosine, x, builder.fmul(emit.constant(-sine), y)),
        emit.multiply_add(cosine, y, builder.fmul(emit.constant(sine), x)),
    )


def _add(emit: Vectors, a: Complex, b: Complex) -> Complex:
    return emit.builder.fadd(a[0], b[0]), emit.builder.fadd(a[1], b[1])


def _subtract(emit: Vectors, a: Complex, b: Complex) -> Complex:
    return emit.builder.fsub(a[0], b[0]), emit.builder.fsub(a[1], b[1])


def _load(emit: Vectors, begin: ir.Value, number: int) -> Complex:
    """The complex vector at a place in a list of them, each a vector of real and one of imaginary parts."""
    place = emit.at(begin, 2 * number * emit.lanes)
    return emit.load(place), emit.load(emit.at(place, emit.lanes))


def _store(emit: Vectors, value: Complex, begin: ir.Value, number: int) -> None:
    place = emit.at(begin, 2 * number * emit.lanes)
    emit.store(value[0], place)
    emit.store(value[1], emit.at(place, emit.lanes))


def _store_transposed(emit: Vectors, values: Sequence[Complex], begin: ir.Value) -> None:
    """Write `lanes` complex vectors, lane l of vector v as lane v of vector l."""
    for part in (0, 1):
        for number, vector in enumerate(emit.transpose([value[part] for value in values])):
            emit.store(vector, emit.at(begin, (2 * number + part) * emit.lanes))


def _multiply_add(emit: Vectors, a: Complex, b: Complex, total: Complex) -> Complex:
    """Emit a * b + total."""
    (x, y), (u, v) = a, b
    real = emit.multiply_add(emit.builder.fneg(y), v, emit.multiply_add(x, u, total[0]))
    return real, emit.multiply_add(y, u, emit.multiply_add(x, v, total[1]))


@intrinsic(prefer_literal=True)
def down_to_frequencies(typing_context, size, width, lanes, source, source_begin, pitch, target, target_begin):  # type: ignore[no-untyped-def]
    """Transform `lanes` columns of real numbers and transpose the result.

    Args:
        size: Rows; a literal, like `width` and `lanes`.
        width: Columns of the tile.
        lanes: Columns here, and frequencies in a vector of the result.
        source: 1-D.
        source_begin: Where the first row's first column is.
        pitch: From one row to the next.
        target: 1-D; gets shape (size / 2 / lanes, width, 2, lanes) from all columns of a tile: parts of the
            frequencies in their `order`, columns, real and imaginary, lanes.
        target_begin: Where the first column of these goes.
    """
    rows, columns, count = (argument.literal_value for argument in (size, width, lanes))
    integer, half = types.int64, rows // 2

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, source.dtype, count)
        read = emit.at(emit.data(signature.args[3], arguments[3]), arguments[4])

        def folded(n: int) -> Complex:
            x, y = (emit.load(emit.at(read, builder.mul(index(row), arguments[5]))) for row in (n, n + half))
            return turn(emit, (x, builder.fneg(y)), -n, 2 * rows)

        found = fourier(emit, folded, half, FORWARD)
        write = emit.at(emit.data(signature.args[6], arguments[6]), arguments[7])
        for part in range(half // count):
            values = [value for _, value in islice(found, count)]
            _store_transposed(emit, values, emit.at(write, part * columns * 2 * count))
        return context.get_dummy_value()

    return types.void(size, width, lanes, source, integer, integer, target, integer), generate


@intrinsic(prefer_literal=True)
def across_to_frequencies(typing_context, size, lanes, source, source_begin, target, target_begin):  # type: ignore[no-untyped-def]
    """Transform `size` complex vectors that lie one behind the other; the result lies likewise."""
    columns, count = size.literal_value, lanes.literal_value
    integer = types.int64

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, source.dtype, count)
        read = partial(_load, emit, emit.at(emit.data(signature.args[2], arguments[2]), arguments[3]))
        write = emit.at(emit.data(signature.args[4], arguments[4]), arguments[5])
        for number, value in fourier(emit, read, columns, FORWARD):
            _store(emit, value, write, number)
        return context.get_dummy_value()

    return types.void(size, lanes, source, integer, target, integer), generate


@intrinsic(prefer_literal=True)
def across_from_frequencies(  # type: ignore[no-untyped-def]
    typing_context,
    size,
    outputs,
    lanes,
    added,
    a,
    a_begin,
    b,
    b_begin,
    sums,
    sums_begin,
    between,
    target,
    target_begin,
    step,
):
    """Multiply two times `size` complex vectors, add sums, transform back, and transpose the first of the result.

    Args:
        size: Columns of the tile; a literal, like `outputs`, `lanes` and `added`.
        outputs: How many columns are wanted; the rest is left away, in whole vectors.
        lanes: Frequencies in a vector, and columns in one of the result.
        added: Whether there are sums to add to the products.
        a: 1-D, complex vectors one behind the other.
        a_begin: Where the first is.
        b: Likewise.
        b_begin: Likewise.
        sums: Likewise.
        sums_begin: Likewise.
        between: 1-D, room for as many.
        target: 1-D; gets (outputs / lanes, `step`), in each of which as many complex vectors as there are lanes.
        target_begin: Where the first goes.
        step: From one vector of columns to the next.
    """
    columns, wanted, count, with_sums = (argument.literal_value for argument in (size, outputs, lanes, added))
    integer = types.int64

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, a.dtype, count)
        places = [emit.data(signature.args[number], arguments[number]) for number in (4, 6, 8, 10, 11)]
        one, other, total = (
            emit.at(place, arguments[number]) for place, number in zip(places, (5, 7, 9), strict=False)
        )
        zero = emit.constant(0.0)

        def product(n: int) -> Complex:
            start = _load(emit, total, n) if with_sums else (zero, zero)
            return _multiply_add(emit, _load(emit, one, n), _load(emit, other, n), start)

        for number, value in fourier(emit, product, columns, BACKWARD):
            _store(emit, value, places[3], number)
        write = emit.at(places[4], arguments[12])
        for part in range(ceil_div(wanted, count)):
            values = [_load(emit, places[3], part * count + number) for number in range(count)]
            _store_transposed(emit, values, emit.at(write, builder.mul(index(part), arguments[13])))
        return context.get_dummy_value()

    arrays = (a, integer, b, integer, sums, integer, between, target, integer, integer)
    return types.void(size, outputs, lanes, added, *arrays), generate


@intrinsic(prefer_literal=True)
def down_from_frequencies(typing_context, size, outputs, lanes, source, source_begin, target, target_begin, pitch):  # type: ignore[no-untyped-def]
    """Transform `size` / 2 complex vectors, in their `order`, back into real numbers, the first rows of `size`.

    Args:
        size: Rows of the tile; a literal, like `outputs` and `lanes`.
        outputs: How many rows are wanted.
        lanes: Columns.
        source: 1-D.
        source_begin: Where the first vector is.
        target: 1-D.
        target_begin: Where the first row's first column goes.
        pitch: From one row to the next.
    """
    rows, wanted, count = (argument.literal_value for argument in (size, outputs, lanes))
    integer, half = types.int64, rows // 2

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, source.dtype, count)
        begin = emit.at(emit.data(signature.args[3], arguments[3]), arguments[4])
        place_of = {frequency: place for place, frequency in enumerate(order(half))}
        write = emit.at(emit.data(signature.args[5], arguments[5]), arguments[6])
        for n, value in fourier(emit, lambda m: _load(emit, begin, place_of[m]), half, BACKWARD):
            upper, lower = turn(emit, value, n, 2 * rows)
            for row, vector in ((n, upper), (n + half, builder.fneg(lower))):
                if row < wanted:
                    emit.store(vector, emit.at(write, builder.mul(index(row), arguments[7])))
        return context.get_dummy_value()

    return types.void(size, outputs, lanes, source, integer, target, integer, integer), generate


@intrinsic(prefer_literal=True)
def multiply_points(typing_context, lanes, a, a_begin, a_step, b, b_begin, b_step, terms, target, target_begin, count):  # type: ignore[no-untyped-def]
    """Sum products of complex vectors, point by point.

    Args:
        lanes: Of a vector; a literal.
        a: 1-D, complex vectors one behind the other.
        a_begin: Where the first term's first vector is.
        a_step: From one term to the next.
        b: Likewise.
        b_begin: Likewise.
        b_step: Likewise.
        terms: How many products are summed.
        target: 1-D.
        target_begin: Where the first sum goes.
        count: How many sums.
    """
    width = lanes.literal_value
    integer = types.int64

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, a.dtype, width)
        one = emit.at(emit.data(signature.args[1], arguments[1]), arguments[2])
        other = emit.at(emit.data(signature.args[4], arguments[4]), arguments[5])
        write = emit.at(emit.data(signature.args[8], arguments[8]), arguments[9])
        zero = emit.constant(0.0)
        with cgutils.for_range(builder, arguments[10]) as loop:
            place = builder.mul(loop.index, index(2 * width))
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]
            for total in sums:
                builder.store(zero, total)
            with cgutils.for_range(builder, arguments[7]) as term:
                x = _load(emit, emit.at(one, place, builder.mul(term.index, arguments[3])), 0)
                y = _load(emit, emit.at(other, place, builder.mul(term.index, arguments[6])), 0)
                real, imaginary = (builder.load(total) for total in sums)
                for value, total in zip(_multiply_add(emit, x, y, (real, imaginary)), sums, strict=True):
                    builder.store(value, total)
            _store(emit, (builder.load(sums[0]), builder.load(sums[1])), emit.at(write, place), 0)
        return context.get_dummy_value()

    arrays = (lanes, a, integer, integer, b, integer, integer, integer, target, integer, integer)
    return types.void(*arrays), generate
