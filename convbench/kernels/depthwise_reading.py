"""What the micro-kernel of depthwise convolution reads: weights, lines of the input, and the pixels of each tap."""

from __future__ import annotations

import copy
from collections.abc import Callable

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import Vectors, index


class Weights:
    """The weights of a filter, each in all lanes of a vector.

    Args:
        emit: Emits the code.
        first: Address of the first weight.
        size: Rows and columns of the kernel.
        is_resident: See `depthwise_column`.
    """

    def __init__(self, emit: Vectors, first: ir.Value, size: tuple[int, int], *, is_resident: bool) -> None:
        self.emit, self.first = emit, first
        self.rows, columns = size
        places = [(a, b) for b in range(columns) for a in range(self.rows)]
        self.vectors = {place: self._vector(first, *place) for place in places} if is_resident else {}

    def of_step(self) -> Callable[[int, int], ir.Value]:
        """A function that gives the weight of a kernel row and column, for one step."""
        if self.vectors:
            return lambda a, b: self.vectors[a, b]
        first = hidden(
            self.emit.builder, self.first
        )  # otherwise LLVM loads all weights before the loop, and spills them
        return lambda a, b: self._vector(first, a, b)

    def _vector(self, first: ir.Value, a: int, b: int) -> ir.Value:
        return self.emit.splat(self.emit.builder.load(self.emit.at(first, b * self.rows + a)))


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
        image: Address of the channel's first row, at the column of the first pixel.
        zeros: Address of zeros; None if all lines are inside of the image.
        size: Rows and columns of the image.
        row: Input row of the first line.
        step: Input rows of a line.
    """

    def __init__(
        self,
        emit: Vectors,
        image: ir.Value,
        zeros: ir.Value | None,
        size: tuple[ir.Value, ir.Value],
        row: ir.Value,
        step: ir.Value,
    ) -> None:
        builder, (height, width) = emit.builder, size
        self.emit, self.zeros, self.height, self.step = emit, zeros, height, step
        self.row = cgutils.alloca_once_value(builder, row)
        self.address = cgutils.alloca_once_value(builder, emit.at(image, builder.mul(row, width)))
        self.address_step = builder.mul(step, width)

    def next(self) -> ir.Value:
        """The address of a line's first pixel, or of zeros; the next call has the line below it."""
        builder = self.emit.builder
        address, row = builder.load(self.address), builder.load(self.row)
        builder.store(self.emit.at(address, self.address_step), self.address)
        builder.store(builder.add(row, self.step), self.row)
        if self.zeros is None:
            return address
        return builder.select(builder.icmp_unsigned("<", row, self.height), address, self.zeros)


def hidden(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The same value, of which LLVM knows nothing."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)
