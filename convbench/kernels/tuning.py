"""What was tuned for each instruction set: register blocks and shares of the caches, in one table.

Register blocks follow BLIS (Van Zee and van de Geijn, 2015): a block's sums, its vectors and a weight must fit the
registers. Budgets are shares of a second-level cache of 1 to 2 MiB, which a unit's data should not leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from convbench.kernels.vector import instruction_set


@dataclass(frozen=True)
class Tuning:
    """Sizes for one instruction set.

    Attributes:
        register_blocks: (filters, vectors), the best first; narrow ones serve problems of few filters.
        band_bytes: Of the input that a unit of `direct` or `unrolled` copies to its scratch.
        panels_bytes: Of the unrolled matrix that exists at a time.
        points_bytes: Of transformed input in a unit of `winograd`.
        spectra_bytes: Of transformed input in a unit of `fft`.
        stream_bytes: Of output; a larger one does not stay in a cache, so it is written past it.
    """

    register_blocks: tuple[tuple[int, int], ...]
    band_bytes: int = 2**19
    panels_bytes: int = 2**18
    points_bytes: int = 10 * 2**16
    spectra_bytes: int = 2**18
    stream_bytes: int = 2**25


TUNING: Final = {  # by the name of an instruction set, see `vector.InstructionSet`
    "AVX-512": Tuning(
        ((8, 3), (12, 2), (4, 6), (2, 8), (1, 12))
    ),  # 24 sums + 3 vectors + 1 weight of 32 registers, ...
    "AVX2": Tuning(((4, 3), (2, 5), (1, 6))),  # 12 + 3 + 1 of 16
    "NEON": Tuning(((8, 3), (12, 2), (4, 6), (2, 8), (1, 12))),  # 24 + 3 + 1 of 32
    "generic": Tuning(((4, 2), (2, 4), (1, 6))),  # 8 + 2 + 1 of 16
}


def tuning() -> Tuning:
    """The sizes for the processor that Numba compiles for."""
    return TUNING[instruction_set().name]
