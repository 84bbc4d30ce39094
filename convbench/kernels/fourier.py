"""Fourier transforms of a fixed size as straight-line vector code: the transforms of `fft`.

A tile of real numbers is transformed in two passes. The vertical pass has adjacent columns in its lanes and computes
the odd frequencies, (j + 1/2) / size. For real input, all of these form conjugate pairs, so that half of them, the even
j, determine the rest. They are a complex transform of half the size: that of x[n] - i x[n + size/2], multiplied by
exp(-i pi n / size). The convolution is then negacyclic: products that wrap around change their sign, which has no
effect, because overlap-save discards them. The result is transposed in registers, so that the horizontal pass has
frequencies in its lanes and is a plain complex transform. The inverse transform reverses these steps.

A complex transform of more than eight numbers is split into transforms of at most eight, which fit the registers. Its
inputs are loaded when first needed, and results are stored as soon as they are computed, in the order of `order`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from convbench.kernels.vector import Vectors

FORWARD: Final = -1
BACKWARD: Final = 1
DIRECT: Final = 8  # largest size that is not split

Complex = tuple[ir.Value, ir.Value]


def operations(size: int) -> float:
    """Approximate number of additions and multiplications of a complex transform."""
    return 4 * size * math.log2(size) - 6 * size + 8 if size > 1 else 0


def order(size: int) -> list[int]:
    """The frequencies of a transform, in the order in which `fourier` yields them."""
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
    """The two factors of a transform's size."""
    if size <= DIRECT:
        return 1, size
    first = 2 ** (int(math.log2(size)) // 2)
    return first, size // first


def _small(emit: Vectors, values: Sequence[Complex], sign: int) -> list[Complex]:
    """A transform that is not split further: split-radix (Duhamel and Hollmann, Electronics Letters 20(1), 1984)."""
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
        up = builder.fsub(x, imaginary), builder.fadd(y, real)  # even + i * difference
        down = builder.fadd(x, imaginary), builder.fsub(y, real)  # even - i * difference
        result[k + quarter], result[k + 3 * quarter] = (up, down) if sign == BACKWARD else (down, up)
    return result


def root(k: int, size: int) -> complex:
    """exp(2 pi i k / size), accurate to about the last bit: the angle is reduced to at most pi / 4."""
    eighth, rest = divmod(8 * (k % size), size)
    if eighth % 2:  # angle from the next axis or diagonal, backwards
        rest = size - rest
    angle = math.pi * rest / (4 * size)
    x, y = math.cos(angle), math.sin(angle)
    if eighth in (1, 2, 5, 6):
        x, y = y, x
    return complex(x if eighth in (0, 1, 6, 7) else -x, y if eighth < 4 else -y)  # signs by quadrant


def roots(k: NDArray[Any], size: int) -> NDArray[np.complex128]:
    """`root` for an array of integers."""
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
