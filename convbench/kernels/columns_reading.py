"""What the micro-kernel of depthwise convolution reads: weights, lines of the input, and the pixels of each tap."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import Vectors, index


class Weights:
    """The weights of some filters for a channel, each in all lanes of a vector.

    Args:
        emit: Emits the code.
        first: Address of the first weight.
        size: Rows and columns of the kernel, and filters.
        is_resident: See `column_of_vectors`.
    """

    def __init__(self, emit: Vectors, first: ir.Value, size: tuple[int, int, int], *, is_resident: bool) -> None:
        self.emit, self.first = emit, first
        self.rows, self.columns, self.filters = size
        places = itertools.product(range(self.rows), range(self.columns), range(self.filters))
        self.vectors = {place: self._vector(first, *place) for place in places} if is_resident else {}

    def of_channel(self, channel: ir.Value) -> Callable[[int, int, int], ir.Value]:
        """A function that gives the weight of a kernel row, kernel column and filter, for one step and channel."""
        if self.vectors:
            return lambda a, b, f: self.vectors[a, b, f]
        builder, size = self.emit.builder, self.rows * self.columns * self.filters
        first = hidden(builder, self.first)  # otherwise LLVM loads all weights before the loop, and spills them
        first = self.emit.at(first, builder.mul(channel, index(size)))
        return lambda a, b, f: self._vector(first, a, b, f)

    def _vector(self, first: ir.Value, a: int, b: int, f: int) -> ir.Value:
        place = (b * self.rows + a) * self.filters + f
        return self.emit.splat(self.emit.builder.load(self.emit.at(first, place)))


class Taps:
    """Loads the pixels that each kernel column reads in a line.

    Args:
        emit: Emits the code.
        count: Kernel columns.
        step: Columns of the input from one output to the next.
        dilation: Columns of the input from one kernel column to the next.
        column: Column of the first pixel.
    """

    def __init__(self, emit: Vectors, count: int, step: int, dilation: ir.Value, column: ir.Value) -> None:
        builder = emit.builder
        self.emit, self.count, self.step, self.column = emit, count, step, column
        self.offsets = {
            (tap, part): builder.add(builder.mul(index(tap), dilation), index(part * emit.lanes))
            for tap in range(0, count, step)
            for part in range(step)
        }
        self.masks: dict[tuple[int, int], ir.Value] = {}

    def within(self, width: ir.Value) -> Taps:
        """The same, with zeros for pixels that are not inside of an image of so many columns."""
        masked, builder = copy.copy(self), self.emit.builder
        masked.masks = {}
        for place, offset in self.offsets.items():
            at = builder.add(self.column, offset)
            masked.masks[place] = self.emit.lanes_between(builder.neg(at), builder.sub(width, at))
        return masked

    def are_inside(self, width: ir.Value) -> ir.Value:
        """Whether all pixels are inside of an image of so many columns."""
        builder = self.emit.builder
        end = builder.add(builder.add(self.column, list(self.offsets.values())[-1]), index(self.emit.lanes))
        return builder.and_(builder.icmp_signed(">=", self.column, index(0)), builder.icmp_signed("<=", end, width))

    def load(self, line: ir.Value) -> list[ir.Value]:
        """The pixels of each kernel column, from the address of a line's first pixel."""
        emit = self.emit
        places = {place: emit.at(line, offset) for place, offset in self.offsets.items()}
        loaded = {
            place: emit.load_lanes(address, self.masks[place]) if self.masks else emit.load(address)
            for place, address in places.items()
        }
        if self.step == 1:
            return list(loaded.values())
        pairs = [emit.deinterleave(loaded[tap, 0], loaded[tap, 1]) for tap in range(0, self.count, self.step)]
        return [pixels for pair in pairs for pixels in pair][: self.count]


class Lines:
    """Walks down the lines of a column.

    Args:
        emit: Emits the code.
        image: Address of the first channel's first row, at the column of the first pixel.
        zeros: Address of zeros; None if all lines are inside of the image.
        size: Rows and columns of the image.
        row: Input row of the first line.
        step: Input rows of a line.
        ahead: Lines by which one is asked for ahead, 0 for not, and its vectors.
    """

    def __init__(
        self,
        emit: Vectors,
        image: ir.Value,
        zeros: ir.Value | None,
        size: tuple[ir.Value, ir.Value],
        row: ir.Value,
        step: ir.Value,
        ahead: tuple[int, int],
    ) -> None:
        builder, (height, width) = emit.builder, size
        self.emit, self.zeros, self.height, self.step, self.ahead = emit, zeros, height, step, ahead
        self.row = cgutils.alloca_once_value(builder, row)
        self.address = cgutils.alloca_once_value(builder, emit.at(image, builder.mul(row, width)))
        self.address_step = builder.mul(step, width)

    def next(self) -> Callable[[ir.Value], ir.Value]:
        """A function that gives the address of a line's first pixel, or of zeros, by a channel's offset in elements.

        The next call has the line below it.
        """
        builder = self.emit.builder
        address, row = builder.load(self.address), builder.load(self.row)
        builder.store(self.emit.at(address, self.address_step), self.address)
        builder.store(builder.add(row, self.step), self.row)
        is_inside = None if self.zeros is None else builder.icmp_unsigned("<", row, self.height)

        def of_channel(offset: ir.Value) -> ir.Value:
            found = self.emit.at(address, offset)
            self._ask(found)
            return found if is_inside is None else builder.select(is_inside, found, self.zeros)

        return of_channel

    def _ask(self, address: ir.Value) -> None:
        """Ask for the line that is `ahead` of one."""
        lines, vectors = self.ahead
        for vector in range(1, vectors + 1) if lines else ():
            later = self.emit.builder.mul(index(lines), self.address_step)
            self.emit.prefetch(self.emit.at(address, later, vector * self.emit.lanes))


def hidden(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The same value, of which LLVM knows nothing."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)
