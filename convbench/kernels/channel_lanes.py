"""Rows of several planes as vectors with a plane in each lane, transposed as many at a time as there are lanes."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.vector import Vectors, index
from convbench.kernels.vector_code import Array, Constant, vector_code


@vector_code
def planes_to_lanes(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    lanes: Constant,
    source: Array,
    source_begin: ir.Value,
    plane_step: ir.Value,
    planes: ir.Value,
    first: ir.Value,
    width: ir.Value,
    target: Array,
    target_begin: ir.Value,
    count: ir.Value,
) -> None:
    """Transpose a row of `lanes` planes: element i of plane l becomes lane l of vector i.

    Args:
        emit: Emits the code.
        lanes: Elements of a vector.
        source: The planes.
        source_begin: Index of the first plane's element 0 in the row.
        plane_step: Elements from one plane to the next.
        planes: Number of planes, at least 1; further lanes hold the last plane again.
        first: The element that becomes vector 0; may be negative.
        width: Elements of the row; those before and after it are zero.
        target: Output.
        target_begin: Index of vector 0.
        count: Number of vectors, rounded up to a multiple of `lanes`.
    """
    builder = emit.builder
    last = builder.sub(planes, index(1))
    rows = []
    for plane in range(lanes):
        own = builder.select(builder.icmp_signed("<", index(plane), planes), index(plane), last)
        rows.append(emit.at(source.data, source_begin, builder.mul(own, plane_step)))
    with cgutils.for_range_slice(builder, index(0), count, index(lanes), inc=True) as (place, _):
        begin = builder.add(first, place)
        inside = builder.and_(
            emit.lanes_below(builder.sub(width, begin)), builder.not_(emit.lanes_below(builder.neg(begin)))
        )
        write = emit.at(target.data, target_begin, builder.mul(place, index(lanes)))
        for row in rows:
            emit.prefetch(emit.at(row, begin, width))  # the next row
        vectors = emit.transpose([emit.load_lanes(emit.at(row, begin), inside) for row in rows])
        for number, vector in enumerate(vectors):
            emit.store(vector, emit.at(write, number * lanes))
