"""Products of small constant matrices with vectors, as straight-line vector code: the transforms of `winograd`.

Where two columns of a matrix differ only in signs, the sum and the difference of their inputs are computed first, and
each row uses one of the two. Where two rows differ only in signs, their common part and the part that changes sign are
computed once. The points of `toom_cook` form pairs of opposite sign, so that this halves the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from llvmlite import ir
from numba.core import cgutils

from convbench.kernels.toom_cook import Matrix, toom_cook
from convbench.kernels.vector import Vectors, index, instruction_set
from convbench.kernels.vector_code import Array, Constant, vector_code, vector_function

INPUT: Final = 0
OUTPUT: Final = 1


def linear_map(emit: Vectors, matrix: Matrix, inputs: Sequence[ir.Value]) -> list[ir.Value]:
    """Emit the product of `matrix` and a column of vectors; returns one vector for each row of the matrix."""
    rows = [list(row) for row in matrix]
    inputs = list(inputs)
    _merge_columns(emit, rows, inputs)
    pairs = _opposite_rows(rows)
    outputs: dict[int, ir.Value] = {}
    for one, other in pairs:
        same = [a if a == b else Fraction(0) for a, b in zip(rows[one], rows[other], strict=True)]
        changed = [a if a != b else Fraction(0) for a, b in zip(rows[one], rows[other], strict=True)]
        common, signed = _sum(emit, same, inputs), _sum(emit, changed, inputs)
        outputs[one], outputs[other] = emit.builder.fadd(common, signed), emit.builder.fsub(common, signed)
    return [outputs[number] if number in outputs else _sum(emit, row, inputs) for number, row in enumerate(rows)]


def column_of_ones(matrix: Matrix) -> int | None:
    """Index of the input that has factor 1 in every output, so that what is added to it is added to all; or None."""
    return next((place for place in range(len(matrix[0])) if all(row[place] == 1 for row in matrix)), None)


def operations(matrix: Matrix) -> int:
    """Number of vector operations that `linear_map` emits for a matrix."""
    counter = _Counter()
    linear_map(counter, matrix, [None] * len(matrix[0]))  # type: ignore[arg-type]  # stands in for Vectors
    return counter.count


class _Counter:
    """Replaces `Vectors` and its builder; counts operations instead of emitting them."""

    def __init__(self) -> None:
        self.count = 0
        self.builder = self

    def constant(self, number: float) -> None:
        """Not counted."""

    def fadd(self, *_: object) -> None:
        """Count one operation, as do all methods below."""
        self.count += 1

    fsub = fmul = multiply_add = fadd


def _merge_columns(emit: Vectors, rows: list[list[Fraction]], inputs: list[ir.Value]) -> None:
    """Replace pairs of inputs whose columns differ only in signs by their sum and difference."""
    paired: set[int] = set()
    for one in range(len(inputs)):
        for other in range(one + 1, len(inputs)):
            column, partner = [row[one] for row in rows], [row[other] for row in rows]
            signs = {_sign(a, b) for a, b in zip(column, partner, strict=True)} - {0}
            if not {one, other} & paired and signs == {1, -1}:
                paired |= {one, other}
                added = emit.builder.fadd(inputs[one], inputs[other])
                inputs[one], inputs[other] = added, emit.builder.fsub(inputs[one], inputs[other])
                for row in rows:
                    row[one], row[other] = (
                        (row[one], Fraction(0)) if row[one] == row[other] else (Fraction(0), row[one])
                    )


def _opposite_rows(rows: list[list[Fraction]]) -> list[tuple[int, int]]:
    """Pairs of rows that differ only in signs: some equal, some opposite."""
    pairs: list[tuple[int, int]] = []
    for one in range(len(rows)):
        for other in range(one + 1, len(rows)):
            signs = {_sign(a, b) for a, b in zip(rows[one], rows[other], strict=True)} - {0}
            if signs == {1, -1} and not any({one, other} & set(pair) for pair in pairs):
                pairs.append((one, other))
    return pairs


def _sign(a: Fraction, b: Fraction) -> int | None:
    """1 if equal, -1 if opposite, 0 if both are zero, None otherwise."""
    if a == b:
        return int(a != 0)
    return -1 if a == -b else None


def _sum(emit: Vectors, row: Sequence[Fraction], inputs: Sequence[ir.Value]) -> ir.Value:
    """Emit the sum of row[i] * inputs[i]; factors of 1 and -1 need no multiplication."""
    terms = sorted(((a, x) for a, x in zip(row, inputs, strict=True) if a), key=lambda term: abs(term[0]) != 1)
    terms.sort(key=lambda term: term[0] != 1)  # begin with a term of factor 1, if there is one
    if not terms:
        return emit.constant(0.0)
    (factor, total), *rest = terms
    if factor != 1:
        total = emit.builder.fmul(emit.constant(float(factor)), total)
    for factor, term in rest:
        if factor == 1:
            total = emit.builder.fadd(total, term)
        elif factor == -1:
            total = emit.builder.fsub(total, term)
        else:
            total = emit.multiply_add(emit.constant(float(factor)), term, total)
    return total


def _matrix(which: int, outputs: int, taps: int) -> Matrix:
    algorithm = toom_cook(outputs, taps)
    return algorithm.input if which == INPUT else algorithm.output


@vector_code
def transform(
    emit: Vectors,
    which: Constant,
    outputs: Constant,
    taps: Constant,
    lanes: Constant,  # read by `vector_code` for `emit`
    source: Array,
    source_begin: ir.Value,
    source_step: Array | ir.Value,
    target: Array,
    target_begin: ir.Value,
    target_step: ir.Value,
) -> None:
    """Multiply vectors by the INPUT or OUTPUT matrix of `toom_cook(outputs, taps)`.

    Args:
        emit: Emits the code.
        which: INPUT or OUTPUT.
        outputs: m of `toom_cook`.
        taps: r of `toom_cook`.
        lanes: Elements of a vector.
        source: Input.
        source_begin: Index of the first vector.
        source_step: Elements from one vector to the next, or the offset of each vector from `source_begin` (int64).
        target: Output.
        target_begin: Index of the first result.
        target_step: Elements from one result to the next.
    """
    builder, matrix = emit.builder, _matrix(which, outputs, taps)
    begin = emit.at(source.data, source_begin)
    if isinstance(source_step, Array):
        offsets = [builder.load(emit.at(source_step.data, number)) for number in range(len(matrix[0]))]
    else:
        offsets = [builder.mul(index(number), source_step) for number in range(len(matrix[0]))]
    results = linear_map(emit, matrix, [emit.load(emit.at(begin, offset)) for offset in offsets])
    write = emit.at(target.data, target_begin)
    for number, result in enumerate(results):
        emit.store(result, emit.at(write, builder.mul(index(number), target_step)))


@vector_function
def transform_rows(  # over 40 lines: the documentation of its arguments
    emit: Vectors,
    outputs: Constant,
    taps: Constant,
    vectors: Constant,
    lanes: Constant,
    rows: Constant,
    source: Array,
    source_begin: ir.Value,
    row_step: ir.Value,
    source_step: ir.Value,
    biases: Array,
    bias_begin: ir.Value,
    target: Array,
    target_begin: ir.Value,
    target_step: ir.Value,
    relu: ir.Value,
) -> None:
    """Multiply the vectors of some rows by the OUTPUT matrix, and store the results, plus a bias, as rows of pixels.

    Lane l of vector v belongs to tile t = v * lanes + l of a row, whose result j is pixel `t * outputs + j`. So many
    pixels behind these as `pixels_overwritten` are overwritten.

    Args:
        emit: Emits the code.
        outputs: m of `toom_cook`.
        taps: r of `toom_cook`.
        vectors: Vectors of tiles, which follow one another.
        lanes: Elements of a vector.
        rows: Number of rows.
        source: Input.
        source_begin: Index of the first vector.
        row_step: Elements from one row's vectors to the next one's.
        source_step: Elements from the vectors of one point to those of the next.
        biases: Numbers, one of which is added to all results.
        bias_begin: Index of that number.
        target: Output.
        target_begin: Index of the first row's first pixel.
        target_step: Elements from one row of pixels to the next.
        relu: Whether negative results become zero.
    """
    builder, matrix = emit.builder, _matrix(OUTPUT, outputs, taps)
    first, write = emit.at(source.data, source_begin), emit.at(target.data, target_begin)
    steps = [builder.mul(index(number), source_step) for number in range(len(matrix[0]))]
    bias, floor = emit.splat(builder.load(emit.at(biases.data, bias_begin))), emit.floor(relu)
    with cgutils.for_range(builder, index(rows)) as row:
        read, own = (
            emit.at(*at)
            for at in ((first, builder.mul(row.index, row_step)), (write, builder.mul(row.index, target_step)))
        )
        for vector in range(vectors):
            inputs = [emit.load(emit.at(read, vector * lanes, step)) for step in steps]
            results = [emit.at_least(result, floor) for result in _with_bias(emit, matrix, inputs, bias)]
            _store_interleaved(emit, results, emit.at(own, vector * lanes * outputs))


def _with_bias(emit: Vectors, matrix: Matrix, inputs: list[ir.Value], bias: ir.Value) -> list[ir.Value]:
    """Emit the product of a matrix and vectors, to all rows of which a bias is added: to one input, if that does it."""
    ones = column_of_ones(matrix)
    if ones is None:
        return [emit.builder.fadd(result, bias) for result in linear_map(emit, matrix, inputs)]
    return linear_map(emit, matrix, [emit.builder.fadd(x, bias) if n == ones else x for n, x in enumerate(inputs)])


def pixels_overwritten(outputs: int, lanes: int) -> int:
    """Pixels behind those that `transform_rows` stores which it overwrites."""
    interleaved = instruction_set().picks_from_two or outputs == 5 or not lanes // 2 < outputs < lanes
    return 0 if interleaved else lanes - outputs


def _store_interleaved(emit: Vectors, vectors: list[ir.Value], address: ir.Value) -> None:
    """Store lane 0 of each of `vectors`, then lane 1 of each, and so on.

    Where one instruction does not pick lanes of two vectors, six or seven vectors of eight lanes would take many
    shuffles and blends; fewer make a vector of each lane, which is stored over what is too much of the one before.
    """
    count = len(vectors)
    if not pixels_overwritten(count, emit.lanes):
        for number, run in enumerate(emit.interleave(vectors)):
            emit.store(run, emit.at(address, number * emit.lanes))
    else:
        for lane, row in enumerate(emit.transposed_rows(vectors)):
            emit.store(row, emit.at(address, lane * count))
