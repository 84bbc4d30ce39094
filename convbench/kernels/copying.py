"""Copies of contiguous parts of 1-D arrays as vector code."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import INDEX, LINE, Vectors, index, instruction_set
from convbench.kernels.vector_code import Array, Constant, vector_code


@vector_code
def copy_vectors(
    emit: Vectors,
    vectors: Constant,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
) -> None:
    """Copy `vectors` * `lanes` contiguous elements."""
    read, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    for vector in [emit.load(emit.at(read, number * lanes)) for number in range(vectors)]:
        emit.store(vector, write)
        write = emit.at(write, lanes)


@vector_code
def ask_for(
    emit: Vectors,
    lines: Constant,
    lanes: Constant,
    offsets: Array,
    offsets_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
) -> None:
    """Ask for `lines` lines of the target that will be written later, at int64 offsets from `target_begin`."""
    first, later = emit.at(offsets.data, offsets_begin), emit.at(target.data, target_begin)
    for number in range(lines):
        emit.prefetch(emit.at(later, emit.builder.load(emit.at(first, number))), writes=True)


@vector_code
def pad_row(
    emit: Vectors,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    count: ir.Value,
    left: ir.Value,
    target: Array,
    target_begin: ir.Value,
    padded: ir.Value,
) -> None:
    """Write `padded` elements: `left` zeros, `count` elements of the source, and zeros; nothing else is touched."""
    builder = emit.builder
    if not instruction_set().has_masks:
        read, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
        _pad_row_in_pieces(emit, read, count, left, write, padded)
        return
    read, write = emit.at(source.data, builder.sub(source_begin, left)), emit.at(target.data, target_begin)
    end = builder.add(left, count)
    with cgutils.for_range_slice(builder, index(0), padded, index(lanes), inc=True) as (place, _):
        zeros, rest = emit.lanes_below(builder.sub(left, place)), emit.lanes_below(builder.sub(end, place))
        inside = builder.and_(rest, builder.not_(zeros))
        vector = emit.load_lanes(emit.at(read, place), inside)
        emit.store_lanes(vector, emit.at(write, place), emit.lanes_below(builder.sub(padded, place)))


def _pad_row_in_pieces(
    emit: Vectors, read: ir.Value, count: ir.Value, left: ir.Value, write: ir.Value, padded: ir.Value
) -> None:
    """Emit the same by whole vectors, the last of which overlaps the one before, and single elements."""
    builder, zero = emit.builder, ir.Constant(emit.real, 0.0)
    inside, lanes = emit.at(write, left), index(emit.lanes)
    end = builder.add(left, count)
    for begin, stop in ((index(0), left), (end, padded)):
        with cgutils.for_range(builder, builder.sub(stop, begin)) as loop:
            builder.store(zero, emit.at(write, begin, loop.index))
    with builder.if_else(builder.icmp_signed(">=", count, lanes)) as (long, short):
        with long:
            _put_overlapping(emit, read, inside, count)
        with short, cgutils.for_range(builder, count) as loop:
            builder.store(builder.load(emit.at(read, loop.index)), emit.at(inside, loop.index))


@vector_code
def stream(
    emit: Vectors,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
    count: ir.Value,
) -> None:
    """Copy `count` contiguous elements with non-temporal stores; call `fence` after the last copy."""
    builder, step = emit.builder, index(lanes)
    read, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    unaligned = builder.urem(builder.udiv(builder.ptrtoint(write, INDEX), index(emit.item_size)), step)
    head = builder.urem(builder.sub(step, unaligned), step)
    head = builder.select(builder.icmp_signed("<", head, count), head, count)
    emit.store_lanes(emit.load(read), write, emit.lanes_below(head))
    body = builder.sub(count, builder.urem(builder.sub(count, head), step))  # end of the whole vectors
    with cgutils.for_range_slice(builder, head, body, step, inc=True) as (place, _):
        emit.stream(emit.load(emit.at(read, place)), emit.at(write, place))
    rest = emit.lanes_below(builder.sub(count, body))
    emit.store_lanes(emit.load(emit.at(read, body)), emit.at(write, body), rest)


@vector_code
def stream_rows(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    source_step: ir.Value,
    rows: ir.Value,
    columns: ir.Value,
    target: Array,
    target_begin: ir.Value,
) -> None:
    """Copy rows to contiguous elements with non-temporal stores; call `fence` after the last copy.

    Args:
        emit: Emits the code.
        lanes: Elements of a vector.
        source: Source; up to a vector before and after each row is read, and not used.
        source_begin: Index of the first row's first element.
        source_step: Elements from one row to the next.
        rows: Number of rows, at least 1.
        columns: Elements of a row, at least `lanes`.
        target: Target.
        target_begin: Index of the first element.
    """
    builder, step = emit.builder, index(lanes)
    write = emit.at(target.data, target_begin)
    unaligned = builder.urem(builder.udiv(builder.ptrtoint(write, INDEX), index(emit.item_size)), step)
    head = builder.urem(builder.sub(step, unaligned), step)  # elements of a row before its first whole vector
    read = emit.at(source.data, source_begin)
    emit.store_lanes(emit.load(read), write, emit.lanes_below(head))
    first = cgutils.alloca_once_value(builder, head)
    with cgutils.for_range(builder, rows) as row:
        own, place = emit.at(read, builder.mul(row.index, source_step)), emit.at(write, builder.mul(row.index, columns))
        begin = builder.load(first)
        end = builder.sub(columns, builder.urem(builder.sub(columns, begin), step))
        with cgutils.for_range_slice(builder, begin, end, step, inc=True) as (column, _):
            emit.stream(emit.load(emit.at(own, column)), emit.at(place, column))
        left = builder.sub(columns, end)
        last, tail = emit.load(emit.at(own, end)), emit.lanes_below(left)
        with builder.if_else(builder.icmp_signed("<", builder.add(row.index, index(1)), rows)) as (inner, outer):
            with inner:  # the vector across the end of the row, which begins with its last `left` elements
                following = emit.load(emit.at(own, builder.sub(source_step, left)))
                emit.stream(builder.select(tail, last, following), emit.at(place, end))
                builder.store(builder.sub(step, left), first)
            with outer:
                emit.store_lanes(last, emit.at(place, end), tail)


@vector_code
def put(
    emit: Vectors,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
    count: ir.Value,
) -> None:
    """Copy `count` contiguous elements; up to a vector after them is read, and not used."""
    read, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    if instruction_set().has_masks:
        _put_with_masks(emit, read, write, count)
        return
    builder = emit.builder
    with builder.if_else(builder.icmp_signed(">=", count, index(lanes))) as (long, short):
        with long:
            _put_overlapping(emit, read, write, count)
        with short:
            _put_with_masks(emit, read, write, count)


def _put_with_masks(emit: Vectors, read: ir.Value, write: ir.Value, count: ir.Value) -> None:
    """Emit a copy by whole vectors, and some lanes of one."""
    builder, step = emit.builder, index(emit.lanes)
    whole = builder.sub(count, builder.urem(count, step))
    with cgutils.for_range_slice(builder, index(0), whole, step, inc=True) as (place, _):
        emit.store(emit.load(emit.at(read, place)), emit.at(write, place))
    rest = emit.lanes_below(builder.sub(count, whole))
    emit.store_lanes(emit.load(emit.at(read, whole)), emit.at(write, whole), rest)


def _put_overlapping(emit: Vectors, read: ir.Value, write: ir.Value, count: ir.Value) -> None:
    """Emit a copy of at least a vector by whole vectors, the last of which overlaps the one before."""
    builder, step = emit.builder, index(emit.lanes)
    last = builder.sub(count, step)
    with cgutils.for_range_slice(builder, index(0), last, step, inc=True) as (place, _):
        emit.store(emit.load(emit.at(read, place)), emit.at(write, place))
    emit.store(emit.load(emit.at(read, last)), emit.at(write, last))


@vector_code
def prefetch(emit: Vectors, lanes: Constant, source: Array, begin: ir.Value, count: ir.Value) -> None:
    """Ask for the cache lines of `count` contiguous elements; they need not be inside of the array."""
    first = emit.at(source.data, begin)
    line = index(LINE // emit.item_size)
    with cgutils.for_range_slice(emit.builder, index(0), count, line, inc=True) as (place, _):
        emit.prefetch(emit.at(first, place))
