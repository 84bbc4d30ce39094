"""Tuned sizes for each instruction set: register blocks and cache budgets, in one table.

Register blocks follow BLIS (Van Zee and van de Geijn, 2015): a block's sums, its vectors and a weight must fit the
registers. Budgets are shares of a second-level cache of 1 to 2 MiB, which should hold a unit's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from convbench.kernels.vector import instruction_set


@dataclass(frozen=True)
class Tuning:
    """Sizes for one instruction set.

    Attributes:
        register_blocks: (filters, vectors), the best first; blocks of few filters serve problems of few filters.
        far_blocks: The same where blocks read input that is not in the first-level cache; empty for no others.
        filter_blocks: (vectors, most pixels), likewise for filters in the lanes.
        band_bytes: Maximum size of the band that a unit of `direct` or `unrolled` copies to scratch.
        panels_bytes: Maximum size of the panels of the unrolled matrix that exist at a time.
        points_bytes: Maximum size of the transformed input of a unit of `winograd`.
        spectra_bytes: Maximum size of the transformed input of a unit of `fft`.
        filter_sums: Vectors of sums of a register block with filters in the lanes.
        sum_vectors: Maximum vectors of filters of such a block.
        stream_bytes: Minimum size of an output that is written with non-temporal stores.
        part_taps: Taps that a register block with filters in the lanes adds before the next one does, so that their
            weights stay in the first-level cache; 0 for all.
        line_terms: Maximum terms of a product of `winograd` with tiles in the lanes that are in a straight line, not in
            a loop; 0 for none.
        prefetch_terms: Prefetch distance of the weights in a product of `winograd`, in terms; 0 for a whole product.
        multiply_adds: Multiply-adds of whole vectors that begin in a cycle.
        loads: Loads that begin in a cycle; as measured where most of them are broadcast.
        registers: Vector registers.
        prefetch_rows: Rows, times channels of a group, by which columns of vectors ask for lines of their input and
            output ahead; 0 for not.
        prefetch_steps: Maximum columns from one output to the next at which those of one channel do so.
        fetches_output: Whether a register block asks for lines of the output before it adds taps.
        terms_at_once: Minimum terms of a product of `winograd` that asks for lines of a large output, which pixels are
            written to from registers; 0 where all rows go through scratch.
        kernel_rows: Maximum number of kernel rows of a depthwise convolution whose weights are in registers.
    """

    register_blocks: tuple[tuple[int, int], ...]
    filter_blocks: tuple[tuple[int, int], ...]
    band_bytes: int = 2**19
    panels_bytes: int = 2**18
    points_bytes: int = 10 * 2**16
    spectra_bytes: int = 2**18
    stream_bytes: int = 2**25
    filter_sums: int = 28
    sum_vectors: int = 4
    part_taps: int = 0
    far_blocks: tuple[tuple[int, int], ...] = ()
    line_terms: int = 0
    prefetch_terms: int = 8
    multiply_adds: int = 1
    loads: float = 2.0
    registers: int = 16
    prefetch_rows: int = 0
    prefetch_steps: int = 2
    fetches_output: bool = False
    terms_at_once: int = 0
    kernel_rows: int = 5


TUNING: Final = {  # by the name of an instruction set, see `vector.InstructionSet`
    "AVX-512": Tuning(  # 24 sums + 3 vectors + 1 weight of 32 registers
        ((8, 3), (12, 2), (4, 6), (2, 8), (1, 12)),
        ((2, 14), (1, 14), (4, 3)),
        registers=32,
        kernel_rows=7,
        prefetch_rows=8,
        prefetch_steps=1,
        terms_at_once=8,
    ),
    "AVX2": Tuning(  # 12 + 3 + 1 of 16
        ((4, 3), (2, 5), (1, 6)),
        ((2, 6), (3, 4), (1, 12)),
        filter_sums=12,
        sum_vectors=2,
        prefetch_terms=0,
        part_taps=96,
        far_blocks=((6, 2), (4, 3), (2, 5), (1, 6)),
        line_terms=40,
        multiply_adds=2,
        loads=1.5,
        prefetch_rows=16,
        fetches_output=True,
        terms_at_once=1,
    ),
    "NEON": Tuning(  # 24 + 3 + 1 of 32
        ((8, 3), (12, 2), (4, 6), (2, 8), (1, 12)), ((2, 14), (4, 6), (1, 14)), registers=32, kernel_rows=7
    ),
    "generic": Tuning(((4, 2), (2, 4), (1, 6)), ((2, 6), (1, 12), (4, 2)), filter_sums=8),  # 8 + 2 + 1 of 16
}


def tuning() -> Tuning:
    """The sizes for the processor that Numba compiles for."""
    return TUNING[instruction_set().name]
