"""The micro-kernel of depthwise and grouped convolution: a column of vectors, from the top of the image down.

Each step loads the next lines of the input, as many as the vertical stride, adds their products to the sums of all
output rows that need them, and stores the row that is complete:

    sums[j] += sum over b of weights[phase + j * row_step, b] * x[line, columns of tap b],  j = 0 .. newest to oldest

so each vector is loaded once for each kernel column and channel, and serves several filters of a group. Columns outside
of the image are masked, unless the input has zeros beside its rows; lines outside of it are skipped, or replaced by
zeros where a step has others beside them. With a column step of 2, even and odd columns are separated by shuffles; two
neighbouring kernel columns share them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from llvmlite import ir
from numba.core import cgutils

from convbench.integers import ceil_div
from convbench.kernels.columns_reading import Lines, Taps, Weights, hidden
from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_code


@vector_code
def column_of_vectors(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    filters: Constant,
    several: Constant,
    kernel_rows: Constant,
    kernel_columns: Constant,
    row_step: Constant,
    column_step: Constant,
    resident: Constant,
    masked: Constant,
    padded: Constant,
    ahead: Constant,
    lanes: Constant,
    x: Array,
    plane: ir.Value,
    channels: ir.Value,
    height: ir.Value,
    width: ir.Value,
    row: ir.Value,
    column: ir.Value,
    line_step: ir.Value,
    dilation: ir.Value,
    weights: Array,
    weights_begin: ir.Value,
    bias: ir.Value,
    zeros: ir.Value,
    out: Array,
    out_begin: ir.Value,
    filter_step: ir.Value,
    out_step: ir.Value,
    above: ir.Value,
    inside: ir.Value,
    steps: ir.Value,
    lanes_used: ir.Value,
    relu: ir.Value,
) -> None:
    """Compute a vector of columns of some output rows and write them.

    Args:
        emit: Emits the code.
        filters: Filters that are computed side by side.
        several: Whether a group may have several channels.
        kernel_rows: Rows of the kernel.
        kernel_columns: Columns of the kernel.
        row_step: Lines from one output row to the next, a line being `line_step` rows of the input.
        column_step: Columns of the input from one output to the next, 1 or 2.
        resident: Whether the weights stay in registers; otherwise each multiply-add reads its own, which is as fast
            where a load can broadcast.
        masked: Whether all vectors are loaded and stored with masks; otherwise only those at the edges are.
        padded: Whether the input has zeros beside its rows, so that vectors at the edges are loaded without masks.
        ahead: By how many lines of the input, and rows of the output, these are asked for ahead; 0 for not.
        lanes: Elements of a vector.
        x: Input.
        plane: Index in `x` of the group's first element.
        channels: Channels of the group; 1 unless there may be several.
        height: Rows of the input.
        width: Columns of the input.
        row: Input row that the first output row reads with the first kernel row; may be outside of the image.
        column: Input column that the first output reads with the first kernel column; likewise.
        line_step: Input rows of a line, and so from one kernel row to the next.
        dilation: Columns of the input from one kernel column to the next; 1 if the column step is 2.
        weights: Weights by channel, kernel column, kernel row and filter; also biases and zeros.
        weights_begin: Index in `weights` of the first weight.
        bias: Index in `weights` of the first filter's bias.
        zeros: Index in `weights` of `(kernel_columns - 1) * dilation + column_step * lanes` zeros.
        out: Output.
        out_begin: Index in `out` of the first filter's first row's first pixel.
        filter_step: Elements of `out` from one filter to the next.
        out_step: Elements of `out` from one of the output rows to the next.
        above: Steps all of whose lines are above the image.
        inside: Steps before the first one all of whose lines are below the image.
        steps: All steps: the output rows, and `ceil(kernel_rows / row_step) - 1`.
        lanes_used: Pixels of a row with index < lanes_used are stored.
        relu: Whether negative sums become zero before they are stored.
    """
    builder = emit.builder
    starts = [emit.splat(builder.load(emit.at(weights.data, bias, f))) for f in range(filters)]
    taps = Taps(emit, kernel_columns, column_step, dilation, column)
    column_of_vectors = _Column(
        emit=emit,
        weights=Weights(
            emit,
            emit.at(weights.data, weights_begin),
            (kernel_rows, kernel_columns, filters),
            is_resident=resident > 0,
        ),
        starts=starts,
        sums=[
            [cgutils.alloca_once_value(builder, start) for start in starts]
            for _ in range(ceil_div(kernel_rows, row_step))
        ],
        channels=channels if several else None,
        plane_step=builder.mul(height, width),
        row_step=row_step,
        taps=taps,
        lines=Lines(
            emit,
            image=emit.at(x.data, plane, column),
            zeros=None if row_step == 1 else emit.at(weights.data, zeros),
            size=(height, width),
            row=builder.add(row, builder.mul(above, builder.mul(index(row_step), line_step))),
            step=line_step,
            ahead=(ahead, column_step),
        ),
        floor=emit.floor(relu),
        mask=None,
        target=cgutils.alloca_once_value(builder, emit.at(out.data, out_begin)),
        filter_step=filter_step,
        out_step=out_step,
        ahead=ahead,
        limits=(above, inside, steps),
    )
    if masked:
        column_of_vectors.within(width, lanes_used).run()
        return
    whole = builder.icmp_signed(">=", lanes_used, index(lanes))
    if not padded:
        whole = builder.and_(taps.are_inside(width), whole)
    with builder.if_else(whole) as (then, otherwise):
        with then:
            column_of_vectors.run()
        with otherwise:
            column_of_vectors.within(None if padded else width, lanes_used).run()


def least(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    """The smaller of two numbers."""
    return builder.select(builder.icmp_signed("<", one, other), one, other)


def most(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    """The larger of two numbers."""
    return builder.select(builder.icmp_signed(">", one, other), one, other)


@dataclass(frozen=True)
class _Column:
    """Emits the steps down a column of vectors.

    Attributes:
        emit: Emits the code.
        weights: The weights in vectors.
        starts: The bias of each filter.
        sums: Stack slots of the sums of each filter, the newest output row first.
        channels: Channels of the group; None for one.
        plane_step: Elements of the input from one channel to the next.
        row_step: Lines of a step.
        taps: Loads pixels.
        lines: Finds lines.
        floor: Lower limit of outputs.
        mask: Lanes that are stored; None for all.
        target: Stack slot of the address that the next output row is stored to.
        filter_step: Elements from one filter's outputs to the next one's.
        out_step: Elements from one output row to the next.
        ahead: See `column_of_vectors`.
        limits: Steps above the image, before those below it, and all.
    """

    emit: Vectors
    weights: Weights
    starts: list[ir.Value]
    sums: list[list[ir.Value]]
    channels: ir.Value | None
    plane_step: ir.Value
    row_step: int
    taps: Taps
    lines: Lines
    floor: ir.Value
    mask: ir.Value | None
    target: ir.Value
    filter_step: ir.Value
    out_step: ir.Value
    ahead: int
    limits: tuple[ir.Value, ir.Value, ir.Value]

    def within(self, width: ir.Value | None, lanes_used: ir.Value) -> _Column:
        """The same, with masks for a vector that is not all inside of the output, or of an image of such a width."""
        mask = self.emit.lanes_between(index(0), lanes_used)
        return replace(self, taps=self.taps if width is None else self.taps.within(width), mask=mask)

    def run(self) -> None:
        """Emit all steps."""
        builder, (above, inside, steps) = self.emit.builder, self.limits
        done = index(len(self.sums) - 1)  # the first step that completes a row
        self.repeat(done, above, adds=False, stores=True)
        self.repeat(above, least(builder, inside, done), adds=True, stores=False)
        self.repeat(inside, done, adds=False, stores=False)
        self.repeat(most(builder, above, done), inside, adds=True, stores=True)
        self.repeat(most(builder, inside, done), steps, adds=False, stores=True)

    def repeat(self, begin: ir.Value, end: ir.Value, *, adds: bool, stores: bool) -> None:
        """Emit the steps [begin, end).

        Args:
            begin: The first step.
            end: The step after the last one.
            adds: Whether the steps have lines inside of the image.
            stores: Whether each step completes an output row.
        """
        builder = self.emit.builder
        with _times(builder, builder.sub(end, begin)):
            if adds:
                self._add()
            if stores:
                self._store()
            for newer, older in reversed(list(itertools.pairwise(self.sums))):
                for source, target in zip(newer, older, strict=True):
                    builder.store(builder.load(source), target)
            for start, target in zip(self.starts, self.sums[0], strict=True):
                builder.store(start, target)

    def _add(self) -> None:
        """Emit the multiply-adds of a step."""
        builder = self.emit.builder
        lines = [self.lines.next() for _ in range(self.row_step)]
        if self.channels is None:
            self._add_channel(lines, index(0))
            return
        with cgutils.for_range(builder, self.channels) as channel:
            self._add_channel(lines, channel.index)

    def _add_channel(self, lines: list[Callable[[ir.Value], ir.Value]], channel: ir.Value) -> None:
        """Emit the multiply-adds of a channel."""
        builder = self.emit.builder
        weights, offset = self.weights.of_channel(channel), builder.mul(channel, self.plane_step)
        for phase, line in enumerate(lines):
            rows = range(phase, self.weights.rows, self.row_step)
            for b, loaded in enumerate(self.taps.load(line(offset))):
                for a, sums in zip(rows, self.sums, strict=False):
                    for f, total in enumerate(sums):
                        builder.store(self.emit.multiply_add(weights(a, b, f), loaded, builder.load(total)), total)

    def _store(self) -> None:
        """Emit the stores of the row that is complete."""
        builder, emit = self.emit.builder, self.emit
        row = builder.load(self.target)
        builder.store(emit.at(row, self.out_step), self.target)
        for f, total in enumerate(self.sums[-1]):
            finished, target = emit.at_least(builder.load(total), self.floor), row
            if f:
                target = emit.at(row, builder.mul(index(f), self.filter_step))
            if self.ahead:
                end = builder.add(builder.mul(index(self.ahead), self.out_step), index(emit.lanes - 1))
                emit.prefetch(emit.at(target, end), writes=True)  # the vector beside had the line that this begins in
            if self.mask is None:
                emit.store(finished, target)
            else:
                emit.store_lanes(finished, target, self.mask)


@contextlib.contextmanager
def _times(builder: ir.IRBuilder, count: ir.Value) -> Iterator[None]:
    """A loop of `count` iterations that LLVM does not unroll: few rows make short loops, whose remainders cost most."""
    left = cgutils.alloca_once_value(builder, count)
    head, body, end = (builder.append_basic_block(f"steps.{name}") for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    builder.cbranch(builder.icmp_signed(">", builder.load(left), index(0)), body, end)
    builder.position_at_end(body)
    yield
    less = builder.sub(builder.load(left), index(1))
    builder.store(hidden(builder, less), left)
    builder.branch(head)
    builder.position_at_end(end)
