"""The micro-kernel of depthwise convolution for any kernel: a block of one channel's output pixels in registers.

    sums[i, v] = bias + sum over (a, b) of weights[a, b] * x[row i * row_step + a * tap_step, columns of v, tap b]

A block is `rows` rows below each other of `vectors` adjacent vectors. It reads the input where it lies: columns outside
of the image are masked, rows outside are replaced by zeros. For each kernel column the input rows pass by once, and
each loaded vector serves all sums that need it: `rows * taps` multiply-adds for about `rows + taps` loads.

With a column step of 2, even and odd columns are separated by shuffles; two neighbouring kernel columns share them.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_code


@vector_code
def columns_block(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    rows: Constant,
    vectors: Constant,
    taps: Constant,
    rest: Constant,
    row_step: Constant,
    tap_step: Constant,
    column_step: Constant,
    lanes: Constant,
    x: Array,
    plane: ir.Value,
    height: ir.Value,
    width: ir.Value,
    row: ir.Value,
    column: ir.Value,
    line_step: ir.Value,
    group_step: ir.Value,
    tap_groups: ir.Value,
    kernel_columns: ir.Value,
    pairs: ir.Value,
    dilation: ir.Value,
    weights: Array,
    weights_begin: ir.Value,
    bias: ir.Value,
    zeros: ir.Value,
    out: Array,
    out_begin: ir.Value,
    out_step: ir.Value,
    rows_used: ir.Value,
    lanes_used: ir.Value,
    relu: ir.Value,
) -> None:
    """Compute one register block and write it.

    Args:
        emit: Emits the code.
        rows: Rows of the block.
        vectors: Vectors in a row of the block.
        taps: Kernel rows of a group, which are unrolled; the kernel has `tap_groups * taps + rest` rows.
        rest: Kernel rows after the last group.
        row_step: Lines from one output row to the next, a line being `line_step` rows of the input.
        tap_step: Lines from one kernel row to the next.
        column_step: Columns of the input from one output to the next, 1 or 2.
        lanes: Elements of a vector.
        x: Input.
        plane: Index in `x` of the channel's first element.
        height: Rows of the input.
        width: Columns of the input.
        row: Input row that the first output row reads with the first kernel row; may be outside of the image.
        column: Input column that the first output reads with the first kernel column; likewise.
        line_step: Input rows of a line.
        group_step: Input rows from one group of kernel rows to the next.
        tap_groups: Groups of kernel rows.
        kernel_columns: Columns of the kernel.
        pairs: Pairs of kernel columns that share loaded vectors: at most half of the columns, with a column step of 2
            and dilation 1; otherwise 0.
        dilation: Columns of the input from one kernel column to the next.
        weights: Weights in the order in which they are used: by group, kernel column, kernel row. Also bias and zeros.
        weights_begin: Index in `weights` of the first weight.
        bias: Index in `weights` of the bias.
        zeros: Index in `weights` of `(kernel_columns - 1) * dilation + column_step * vectors * lanes` zeros.
        out: Output.
        out_begin: Index in `out` of the block's first pixel.
        out_step: Elements of `out` from one row to the next.
        rows_used: Rows with index < rows_used are stored.
        lanes_used: Pixels of a row with index < lanes_used are stored.
        relu: Whether negative sums become zero before they are stored.
    """
    builder = emit.builder
    start = emit.splat(builder.load(emit.at(weights.data, bias)))
    sums = [[cgutils.alloca_once_value(builder, start) for _ in range(vectors)] for _ in range(rows)]
    block = _Block(
        emit=emit,
        sums=sums,
        steps=(row_step, tap_step, column_step),
        image=emit.at(x.data, plane),
        size=(height, width),
        column=column,
        line_step=line_step,
        columns=(kernel_columns, pairs, dilation),
        zeros=emit.at(weights.data, zeros),
        weights=cgutils.alloca_once_value(builder, emit.at(weights.data, weights_begin)),
    )
    with cgutils.for_range(builder, tap_groups) as group:
        block.add_group(taps, builder.add(row, builder.mul(group.index, group_step)))
    if rest:
        block.add_group(rest, builder.add(row, builder.mul(tap_groups, group_step)))
    _store(emit, sums, emit.at(out.data, out_begin), out_step, (rows_used, lanes_used), relu)


@dataclass(frozen=True)
class _Block:
    """Emits the multiply-adds of a block; for its attributes see `columns_block`.

    Attributes:
        emit: Emits the code.
        sums: Stack slots of the sums, by row and vector.
        steps: Row step, tap step, column step.
        image: Address of the channel's first element.
        size: Rows and columns of the image.
        column: Input column of the first output and tap.
        line_step: Input rows of a line.
        columns: Kernel columns, pairs of them, dilation.
        zeros: Address of the zeros.
        weights: Stack slot of the address of the next weight.
    """

    emit: Vectors
    sums: list[list[ir.Value]]
    steps: tuple[int, int, int]
    image: ir.Value
    size: tuple[ir.Value, ir.Value]
    column: ir.Value
    line_step: ir.Value
    columns: tuple[ir.Value, ir.Value, ir.Value]
    zeros: ir.Value
    weights: ir.Value

    def add_group(self, taps: int, row: ir.Value) -> None:
        """Emit the multiply-adds of `taps` kernel rows, the first of which reads `row` for the first output row."""
        builder = self.emit.builder
        row_step, tap_step, _ = self.steps
        uses: dict[int, list[tuple[int, int]]] = {}  # by line: the output and the kernel rows that meet in it
        for output in range(len(self.sums)):
            for tap in range(taps):
                uses.setdefault(output * row_step + tap * tap_step, []).append((output, tap))
        lines = [(self._address(line, row), uses[line]) for line in sorted(uses)]
        kernel_columns, pairs, _ = self.columns
        if self.steps[2] > 1:
            with cgutils.for_range(builder, pairs) as pair:
                self._add_columns(lines, builder.mul(pair.index, index(2)), taps, 2)
        first = builder.mul(pairs, index(2))
        with cgutils.for_range(builder, builder.sub(kernel_columns, first)) as single:
            self._add_columns(lines, builder.add(first, single.index), taps, 1)

    def _address(self, line: int, row: ir.Value) -> ir.Value:
        """The address of the first column of a line; that of zeros outside of the image."""
        builder, (height, width) = self.emit.builder, self.size
        row = builder.add(row, builder.mul(index(line), self.line_step))
        inside = builder.icmp_unsigned("<", row, height)
        return builder.select(inside, self.emit.at(self.image, builder.mul(row, width), self.column), self.zeros)

    def _add_columns(
        self, lines: list[tuple[ir.Value, list[tuple[int, int]]]], tap: ir.Value, taps: int, count: int
    ) -> None:
        """Emit the multiply-adds of `count` adjacent kernel columns from `tap` on, and advance the weights."""
        emit, builder, step = self.emit, self.emit.builder, self.steps[2]
        offset = builder.mul(tap, self.columns[2])
        begin = builder.add(self.column, offset)
        vectors = len(self.sums[0])
        masks = [self._mask(builder.add(begin, index(v * emit.lanes))) for v in range(vectors * step)]
        address = builder.load(self.weights)
        splats = [emit.splat(builder.load(emit.at(address, number))) for number in range(count * taps)]
        builder.store(emit.at(address, count * taps), self.weights)
        for line, uses in lines:
            for v in range(vectors):
                pixels = self._pixels(emit.at(line, offset), v, masks)
                for b in range(count):
                    for output, a in uses:
                        place = self.sums[output][v]
                        total = emit.multiply_add(splats[b * taps + a], pixels[b], builder.load(place))
                        builder.store(total, place)

    def _pixels(self, line: ir.Value, vector: int, masks: list[ir.Value]) -> tuple[ir.Value, ...]:
        """The inputs of a vector of outputs, for one kernel column, or for two if the column step is 2."""
        emit, step = self.emit, self.steps[2]
        loaded = [
            emit.load_lanes(emit.at(line, part * emit.lanes), masks[part])
            for part in range(vector * step, (vector + 1) * step)
        ]
        return emit.deinterleave(*loaded) if step > 1 else tuple(loaded)

    def _mask(self, column: ir.Value) -> ir.Value:
        """The lanes of a vector at a column that are inside of the image."""
        builder = self.emit.builder
        return self.emit.lanes_between(builder.neg(column), builder.sub(self.size[1], column))


def _store(
    emit: Vectors,
    sums: list[list[ir.Value]],
    target: ir.Value,
    step: ir.Value,
    used: tuple[ir.Value, ir.Value],
    relu: ir.Value,
) -> None:
    """Emit the stores of the rows and lanes that are used."""
    builder, (rows_used, lanes_used) = emit.builder, used
    floor = emit.floor(relu)
    for v in range(len(sums[0])):
        lanes = builder.sub(lanes_used, index(v * emit.lanes))
        mask = emit.lanes_between(index(0), lanes)
        with builder.if_else(builder.icmp_signed(">=", lanes, index(emit.lanes))) as (whole, part):
            for branch, is_whole in ((whole, True), (part, False)):
                with branch:
                    for i, row in enumerate(sums):
                        with builder.if_then(builder.icmp_signed("<", index(i), rows_used)):
                            finished = emit.at_least(builder.load(row[v]), floor)
                            place = emit.at(target, builder.mul(index(i), step), v * emit.lanes)
                            if is_whole:
                                emit.store(finished, place)
                            else:
                                emit.store_lanes(finished, place, mask)
