"""Vector code for tiles, emitted as LLVM vector instructions through Numba.

Automatic vectorisation of loops reaches at most half of the processor's peak: LLVM does not keep a block of sums in
registers, and it prefers half-wide vectors. `Vectors` therefore emits loads, stores and multiply-adds of whole vectors.
Their width is that of the processor that Numba compiles for, which is not always the host. LLVM allocates registers and
schedules instructions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from convbench.kernels.interleaving import five_by_halves, interleaving
from convbench.problem import ITEM_SIZE
from convbench.runtime.loading import run_to_completion

LINE: Final = 64  # bytes of a cache line

_PROBE = """
define void @probe(ptr %p) {
  %a = load <16 x float>, ptr %p
  %b = call <16 x float> @llvm.fmuladd.v16f32(<16 x float> %a, <16 x float> %a, <16 x float> %a)
  store <16 x float> %b, ptr %p
  ret void
}
declare <16 x float> @llvm.fmuladd.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""


@dataclass(frozen=True)
class InstructionSet:
    """The properties of a processor that vector code depends on.

    Attributes:
        name: Key in `tuning.TUNING`.
        bits: Width of a vector in bits.
        has_masks: Whether it loads and stores some lanes of a vector as fast as all of them.
        picks_from_two: Whether one instruction picks any lanes of two vectors.
    """

    name: str
    bits: int
    has_masks: bool = False
    picks_from_two: bool = False

    def lanes(self, dtype: str) -> int:
        """Elements of a vector."""
        return self.bits // 8 // ITEM_SIZE[dtype]


AVX512: Final = InstructionSet("AVX-512", 512, has_masks=True, picks_from_two=True)
AVX2: Final = InstructionSet("AVX2", 256)
NEON: Final = InstructionSet("NEON", 128, picks_from_two=True)
GENERIC: Final = InstructionSet("generic", 128)


@cache
def instruction_set() -> InstructionSet:
    """The instruction set that Numba compiles for: the host's, or that of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.

    It is detected from the registers that LLVM uses for a multiply-add of 16 floats: only LLVM knows the features of a
    processor name such as "haswell".
    """
    return run_to_completion(_instruction_set)


def _instruction_set() -> InstructionSet:
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)
    assembly = machine.emit_assembly(binding.parse_assembly(_PROBE))
    if "%zmm" in assembly:
        return AVX512
    if "%ymm" in assembly and "vfmadd" in assembly:
        return AVX2
    return NEON if "fmla" in assembly else GENERIC


class Vectors:
    """Emits vector instructions into a function that Numba is compiling.

    Args:
        context: Numba's code-generation context.
        builder: llvmlite's builder, positioned where instructions are to be inserted.
        real: Numba's type of an element, float32 or float64.
        lanes: Elements of a vector.
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, real: types.Float, lanes: int) -> None:
        self.context = context
        self.builder = builder
        self.lanes = lanes
        self.real = ir.FloatType() if real.bitwidth == 32 else ir.DoubleType()
        self.type = ir.VectorType(self.real, lanes)
        self._suffix = f"v{lanes}f{real.bitwidth}"

    def of(self, real: ir.Type, lanes: int) -> Vectors:
        """An emitter of vectors of other elements, float or double, and of another number of lanes."""
        return Vectors(self.context, self.builder, types.float32 if real == ir.FloatType() else types.float64, lanes)

    def into(self, builder: ir.IRBuilder) -> Vectors:
        """An emitter of the same vectors into another function."""
        return Vectors(self.context, builder, types.float32 if self.item_size == 4 else types.float64, self.lanes)

    def at(self, address: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        """The address plus offsets in elements."""
        for offset in offsets:
            address = self.builder.gep(address, [index(offset)])
        return address

    def load(self, address: ir.Value) -> ir.Value:
        """Load a vector from an address that need not be aligned."""
        return self.builder.load(self._as_vector(address), align=self.item_size)

    def load_lanes(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        """Load the lanes that are set in `mask`; the others become zero, and their memory is not accessed."""
        source = self._as_vector(address)
        int32 = ir.IntType(32)
        signature = ir.FunctionType(self.type, [source.type, int32, mask.type, self.type])
        name = f"llvm.masked.load.{self._suffix}.p0"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [source, ir.Constant(int32, self.item_size), mask, self.constant(0.0)])

    def splat(self, scalar: ir.Value) -> ir.Value:
        """Broadcast a scalar to all lanes."""
        return self._splat(scalar, self.real, self.lanes)

    def constant(self, number: float) -> ir.Value:
        """A vector with a constant in all lanes."""
        return ir.Constant(self.type, [number] * self.lanes)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """Compute a * b + c, fused where the processor has such an instruction."""
        signature = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.fmuladd.{self._suffix}")
        return self.builder.call(function, [a, b, c])

    def floor(self, relu: ir.Value) -> ir.Value:
        """The lower limit of outputs, for `at_least`: zero if `relu` (an int64) is not 0, otherwise minus infinity."""
        is_asked = self.builder.icmp_signed("!=", relu, index(0))
        lowest = self.builder.select(is_asked, ir.Constant(self.real, 0.0), ir.Constant(self.real, -math.inf))
        return self.splat(lowest)

    def at_least(self, vector: ir.Value, floor: ir.Value) -> ir.Value:
        """The larger of `vector` and `floor` in each lane; NaN in `vector` stays NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", vector, floor), floor, vector)

    def interleave(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """As many vectors, whose concatenation holds lane 0 of each of `vectors`, then lane 1 of each, ..."""
        registers, picks_from_two = list(vectors), instruction_set().picks_from_two
        by_halves = (len(vectors), self.lanes) == (5, 8) and not picks_from_two
        steps, results = five_by_halves() if by_halves else interleaving(len(vectors), self.lanes)
        for one, other, picks in steps:
            registers.append(self._shuffle(registers[one], registers[other], list(picks)))
        return [registers[number] for number in results]

    def transpose(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """Transpose blocks of as many vectors as a power of two that divides the lanes, side by side.

        Lane b * n + l of vector v becomes lane b * n + v of vector l, for n vectors.
        """
        rows, step = list(vectors), 1
        while step < len(rows):  # swap off-diagonal blocks of size 1, 2, 4, ...
            for one in range(len(rows)):
                if not one & step:
                    a, b = rows[one], rows[one | step]
                    lanes = range(self.lanes)
                    rows[one] = self._shuffle(a, b, [self.lanes + n - step if n & step else n for n in lanes])
                    rows[one | step] = self._shuffle(a, b, [self.lanes + n if n & step else n + step for n in lanes])
            step *= 2
        return rows

    def transposed_rows(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """The lanes of at most `lanes` vectors as rows: a vector for each lane, with that lane of each of `vectors`.

        The rows have the smallest power of two of lanes that is not less than the number of vectors; the lanes in
        excess are undefined.
        """
        count = 1 << (len(vectors) - 1).bit_length()
        undefined = ir.Constant(self.type, ir.Undefined)
        blocks = self.transpose(vectors + [undefined] * (count - len(vectors)))
        if count == self.lanes:
            return blocks
        rows = []
        for lane in range(self.lanes):
            block, row = divmod(lane, count)
            rows.append(self._shuffle(blocks[row], undefined, list(range(block * count, (block + 1) * count))))
        return rows

    def prefetch(self, address: ir.Value, *, writes: bool = False) -> None:
        """Prefetch the cache line of an address for reading, or for writing; any address will do."""
        byte = self.builder.bitcast(address, ir.IntType(8).as_pointer())
        int32 = ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [byte.type, int32, int32, int32])
        function = cgutils.get_or_insert_function(self.builder.module, signature, "llvm.prefetch.p0")
        self.builder.call(function, [byte, *(ir.Constant(int32, number) for number in (int(writes), 3, 1))])

    def store(self, vector: ir.Value, address: ir.Value) -> None:
        """Store a vector to an address that need not be aligned."""
        self.builder.store(vector, self._as_vector(address), align=self.item_size)

    def stream(self, vector: ir.Value, address: ir.Value) -> None:
        """Store a vector non-temporally; the address must be aligned to the vector size."""
        stored = self.builder.store(vector, self._as_vector(address), align=self.item_size * self.lanes)
        hint = self.builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        stored.set_metadata("nontemporal", hint)

    def store_lanes(self, vector: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        """Store the lanes of a vector, of any number of lanes, that are set in `mask`."""
        target = self.builder.bitcast(address, vector.type.as_pointer())
        int32 = ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [vector.type, target.type, int32, mask.type])
        name = f"llvm.masked.store.v{vector.type.count}f{8 * self.item_size}.p0"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        self.builder.call(function, [vector, target, ir.Constant(int32, self.item_size), mask])

    def store_first(self, vector: ir.Value, address: ir.Value, count: int) -> None:
        """Store the first `count` lanes of a vector in pieces; without masks, a masked store takes 12 cycles.

        Six lanes are stored as four and two.
        """
        begin, undefined = 0, ir.Constant(vector.type, ir.Undefined)
        while begin < count:
            size = 1 << ((count - begin).bit_length() - 1)
            piece = self._shuffle(vector, undefined, list(range(begin, begin + size)))
            target = self.builder.bitcast(self.at(address, begin), piece.type.as_pointer())
            self.builder.store(piece, target, align=self.item_size)
            begin += size

    def lanes_below(self, count: ir.Value, lanes: int = 0) -> ir.Value:
        """The mask of lanes with index < count, of a vector of `lanes`, by default of all."""
        lanes = lanes or self.lanes
        lane = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
        return self.builder.icmp_signed("<", lane, self._splat(count, INDEX, lanes))

    def lanes_between(self, begin: ir.Value, end: ir.Value) -> ir.Value:
        """The mask of lanes with begin <= index < end; both limits may be out of range."""
        kind = ir.IntType(32)
        lane = ir.Constant(ir.VectorType(kind, self.lanes), list(range(self.lanes)))
        first, last = (
            self._splat(self.builder.trunc(self._clamped(limit), kind), kind, self.lanes) for limit in (begin, end)
        )
        above = self.builder.icmp_signed(">=", lane, first)
        return self.builder.and_(above, self.builder.icmp_signed("<", lane, last))

    def deinterleave(self, one: ir.Value, other: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The even and the odd lanes of two vectors that follow each other."""
        even = list(range(0, 2 * self.lanes, 2))
        return self._shuffle(one, other, even), self._shuffle(one, other, [lane + 1 for lane in even])

    @property
    def item_size(self) -> int:
        """Bytes of an element."""
        return 4 if isinstance(self.real, ir.FloatType) else 8

    def _clamped(self, lane: ir.Value) -> ir.Value:
        """The nearest number between 0 and the number of lanes."""
        builder = self.builder
        for sign, limit in (("<", 0), (">", self.lanes)):
            lane = builder.select(builder.icmp_signed(sign, lane, index(limit)), index(limit), lane)
        return lane

    def _as_vector(self, address: ir.Value) -> ir.Value:
        return self.builder.bitcast(address, self.type.as_pointer())

    def _shuffle(self, one: ir.Value, other: ir.Value, picks: list[int]) -> ir.Value:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(picks)), picks)
        return self.builder.shuffle_vector(one, other, mask)

    def _splat(self, scalar: ir.Value, kind: ir.Type, lanes: int) -> ir.Value:
        undefined = ir.Constant(ir.VectorType(kind, lanes), ir.Undefined)
        lane = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
        return self.builder.shuffle_vector(lane, undefined, first)


INDEX: Final = ir.IntType(64)


def index(number: ir.Value | int) -> ir.Value:
    """A number of elements as an LLVM value, int64."""
    return ir.Constant(INDEX, number) if isinstance(number, int) else number


@intrinsic
def fence(typing_context):  # type: ignore[no-untyped-def]
    """Memory fence: all earlier stores, non-temporal ones included, become visible before any later one."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate
