"""The micro-kernel: a block of sums in registers, to which each tap adds weights times inputs.

    sums[k, v] = sum over taps t of weights[t, k] * x[offset of t + v * vector_step ...]

with k over a few kernels and v over a few vectors of output pixels. It serves every algorithm: for `direct` the taps
are shifts of the input, for a matrix product they are its inner index.

The block decides the speed (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008; Van Zee
and van de Geijn, "BLIS", 2015). A tap costs `kernels * vectors` multiply-adds and `kernels + vectors` loads; the sums,
the vectors and a weight must fit into the registers, and there must be enough sums to hide a multiply-add's latency.
"""

from __future__ import annotations

import math
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from convbench.kernels.vector import Vectors, index, instruction_set

BLOCKS: Final = {  # instruction set: (kernels, vectors), the best first; narrow ones serve problems of few kernels
    "AVX-512": ((8, 3), (12, 2), (4, 6), (2, 8), (1, 12)),  # 24 sums + 3 vectors + 1 weight of 32 registers, ...
    "AVX2": ((4, 3), (2, 5), (1, 6)),  # 12 + 3 + 1 of 16
    "NEON": ((8, 3), (12, 2), (4, 6), (2, 8), (1, 12)),  # 24 + 3 + 1 of 32
    "generic": ((4, 2), (2, 4), (1, 6)),  # 8 + 2 + 1 of 16
}

LOOP: Final = 2  # steps that a tap costs beside them

AHEAD: Final = 16  # taps whose weights are asked for before they are needed

PART: Final = 0
WHOLE: Final = 1


def best_block(
    kernels: int, rows: int, columns: int, lanes: int, *, stack: bool = False, fetch: bool = False
) -> tuple[int, int, int]:
    """The register block that wastes least on an output of so many kernels, rows and columns.

    A tap of a block costs a step for each two multiply-adds or each two loads, whichever are more; a vector that is not
    aligned counts as two loads.

    Args:
        kernels: Of the output.
        rows: Of the output.
        columns: Of the output.
        lanes: Of a vector.
        stack: At the right edge, a block's vectors may lie below each other, in as many rows.
        fetch: Every block reads other input, which the nearest cache does not hold; narrow blocks fetch less of it.

    Returns:
        (kernels, vectors, edge) for the processor that Numba compiles for: a block's vectors lie side by side up to the
        column `edge`, and below each other from there on. Of equals, the first of `BLOCKS`.
    """

    def cost(candidate: tuple[int, int, int]) -> float:
        block_kernels, vectors, edge = candidate
        blocks = math.ceil(edge / (vectors * lanes)) * rows
        blocks += math.ceil((columns - edge) / lanes) * math.ceil(rows / vectors)
        tap = max(block_kernels * vectors, block_kernels + 2 * vectors) + LOOP
        return math.ceil(kernels / block_kernels) * blocks * (tap + 2 * vectors if fetch else tap)

    candidates = []
    for block_kernels, vectors in BLOCKS[instruction_set().name]:
        width = vectors * lanes
        edges = {columns, columns // width * width} if stack else {columns}
        candidates += [(block_kernels, vectors, edge) for edge in sorted(edges, reverse=True)]
    return min(candidates, key=cost)


@intrinsic(prefer_literal=True)
def micro_kernel(  # type: ignore[no-untyped-def]
    typing_context,
    kernels,
    vectors,
    lanes,
    x,
    x_begin,
    x_step,
    x_ahead,
    outer_offsets,
    inner_offsets,
    weights,
    weights_begin,
    out,
    out_begin,
    kernel_step,
    vector_step,
    extent,
    kernels_used,
    vectors_used,
    lanes_used,
    lane_step,
):
    """Compute one register block and write it.

    Args:
        kernels: Kernels in the block; a literal, like `vectors` and `lanes`.
        vectors: Vectors of pixels in the block.
        lanes: Pixels in a vector.
        x: Input, 1-D.
        x_begin: Where in `x` the first vector's first pixel reads at offset 0.
        x_step: From one vector's pixels to the next one's, in `x`.
        x_ahead: What to ask the caches for meanwhile: input so much further on. The literal 0 asks for nothing.
        outer_offsets: int64, 1-D; tap (o, i) reads at `outer_offsets[o] + inner_offsets[i]`.
        inner_offsets: int64, 1-D.
        weights: 1-D; tap after tap, `kernels` numbers for each.
        weights_begin: Where in `weights` the first tap's begin.
        out: Output, 1-D.
        out_begin: Where in `out` the first kernel's first pixel goes.
        kernel_step: From one kernel's pixels to the next one's, in `out`.
        vector_step: From one vector's pixels to the next one's, in `out`.
        extent: WHOLE, or PART to write only:
        kernels_used: so many kernels,
        vectors_used: so many vectors,
        lanes_used: and so many lanes of the first vector, less `lane_step` in each that follows.
        lane_step: `lanes` if vectors lie side by side in a row, 0 if they lie below each other.
    """
    size, width = (kernels.literal_value, vectors.literal_value), lanes.literal_value
    integer = types.int64
    signature = types.void(
        *(kernels, vectors, lanes, x, integer, integer, x_ahead, outer_offsets, inner_offsets),
        *(weights, integer, out, integer, integer, integer, integer, integer, integer, integer, integer),
    )

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
        emit = Vectors(context, builder, x.dtype, width)
        named = dict(zip(NAMES, arguments, strict=True))
        for name in ("x", "weights", "out"):
            named[name] = emit.data(signature.args[NAMES.index(name)], named[name])
        sums = _accumulate(emit, size, named, signature)
        _write(emit, sums, named)
        return context.get_dummy_value()

    return signature, generate


NAMES: Final = (
    *("kernels", "vectors", "lanes", "x", "x_begin", "x_step", "x_ahead", "outer_offsets", "inner_offsets"),
    *("weights", "weights_begin", "out", "out_begin", "kernel_step", "vector_step"),
    *("extent", "kernels_used", "vectors_used", "lanes_used", "lane_step"),
)


def _accumulate(
    emit: Vectors, size: tuple[int, int], named: dict[str, ir.Value], signature: Any
) -> list[list[ir.Value]]:
    """Emit the loops over taps; returns where the sums are, which LLVM turns into registers."""
    builder, (kernels, vectors) = emit.builder, size
    offsets, counts = [], []
    for name in ("outer_offsets", "inner_offsets"):
        array_type = signature.args[NAMES.index(name)]
        array = emit.context.make_array(array_type)(emit.context, builder, named[name])
        offsets.append(array.data)
        counts.append(cgutils.unpack_tuple(builder, array.shape)[0])
    sums = [[cgutils.alloca_once(builder, emit.type) for _ in range(vectors)] for _ in range(kernels)]
    for row in sums:
        for place in row:
            builder.store(emit.constant(0.0), place)
    weight = cgutils.alloca_once_value(builder, emit.at(named["weights"], named["weights_begin"]))
    with cgutils.for_range(builder, counts[0]) as outer:
        row_offset = builder.load(emit.at(offsets[0], outer.index))
        row_begin = emit.at(named["x"], named["x_begin"], row_offset)
        with cgutils.for_range(builder, counts[1]) as inner:
            begin = emit.at(row_begin, builder.load(emit.at(offsets[1], inner.index)))
            steps = [builder.mul(index(v), named["x_step"]) for v in range(vectors)]
            pixels = [emit.load(emit.at(begin, step)) for step in steps]
            if not isinstance(signature.args[NAMES.index("x_ahead")], types.IntegerLiteral):
                for step in steps:
                    emit.prefetch(emit.at(begin, step, named["x_ahead"]))
            tap = builder.load(weight)
            emit.prefetch(emit.at(tap, AHEAD * kernels))
            for k, row in enumerate(sums):
                factor = emit.splat(builder.load(emit.at(tap, k)))
                for place, pixel in zip(row, pixels, strict=True):
                    builder.store(emit.multiply_add(factor, pixel, builder.load(place)), place)
            builder.store(emit.at(tap, kernels), weight)
    return sums


def _write(emit: Vectors, sums: list[list[ir.Value]], named: dict[str, ir.Value]) -> None:
    """Emit the two ways to write the block."""
    builder = emit.builder

    def places() -> Any:
        for k, row in enumerate(sums):
            for v, place in enumerate(row):
                step = builder.add(
                    builder.mul(index(k), named["kernel_step"]), builder.mul(index(v), named["vector_step"])
                )
                yield k, v, builder.load(place), emit.at(named["out"], named["out_begin"], step)

    with builder.if_else(builder.icmp_signed("==", named["extent"], index(WHOLE))) as (whole, part):
        with whole:
            for _, _, value, address in places():
                emit.store(value, address)
        with part:
            steps = [builder.mul(index(v), named["lane_step"]) for v in range(len(sums[0]))]
            masks = [emit.lanes_below(builder.sub(named["lanes_used"], step)) for step in steps]
            for k, v, value, address in places():
                used = builder.and_(
                    builder.icmp_signed("<", index(k), named["kernels_used"]),
                    builder.icmp_signed("<", index(v), named["vectors_used"]),
                )
                with builder.if_then(used):
                    emit.store_lanes(value, address, masks[v])
