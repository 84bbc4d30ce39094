"""The choice of a register block with filters in the lanes of vectors, by an estimate of cycles."""

from __future__ import annotations

import math
from typing import Final

from convbench.kernels.filter_lanes import MIN_STREAMED, PREFETCH_PIXELS, streams
from convbench.kernels.micro_kernel import BLOCK, FAR_RATE, TAP
from convbench.kernels.tuning import tuning
from convbench.kernels.vector import instruction_set

PIXELS: Final = (14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)  # of a block; each that is taken is compiled
LATENCY: Final = 4  # cycles of a multiply-add, which fewer sums than that wait for
FAR: Final = 5  # cycles by which a vector of parts of cache lines takes longer where the output leaves the caches


def best_block(
    filters: int, columns: int, lanes: int, taps: int, *, far: bool, spare: int = 0, rests: bool = True
) -> tuple[int, int, float]:
    """The register block of least estimated cost for rows of outputs.

    Args:
        filters: Number of filters.
        columns: Output columns.
        lanes: Elements of a vector.
        taps: Taps of a filter.
        far: Whether the output is larger than the caches.
        spare: Registers that are needed beside sums, a pixel and a vector of weights for each of the block.
        rests: Whether the last block of a row may be smaller; otherwise it computes some pixels again.

    Returns:
        (vectors, pixels), and the cycles that a row takes of a processor that executes a store in a cycle.
    """
    alone = rests and columns < PREFETCH_PIXELS

    def block(vectors: int, pixels: int) -> float:
        waiting = _waiting(vectors, pixels, taps, any_step=spare > 0) if alone else LATENCY
        return _cycles(vectors, pixels, lanes, taps, far, waiting)

    def cycles(vectors: int, pixels: int) -> float:
        rest = columns % pixels if rests else 0
        row = (columns // pixels if rest else math.ceil(columns / pixels)) * block(vectors, pixels)
        if rest:
            row += block(vectors, rest)
        return math.ceil(filters / (vectors * lanes)) * row

    candidates = [
        (vectors, pixels)
        for vectors, most in tuning().filter_blocks
        for pixels in PIXELS
        if pixels <= min(most, columns) and vectors * (pixels + 1) + 1 + spare <= tuning().registers
    ]
    vectors, pixels = min(candidates, key=lambda one: cycles(*one))
    return vectors, pixels, cycles(vectors, pixels)


def _cycles(vectors: int, pixels: int, lanes: int, taps: int, far: bool, waiting: float) -> float:  # noqa: FBT001
    """Cycles of a block: its taps, `waiting` at least each, and the transposition and stores of its sums."""
    tap = TAP + max(vectors * pixels / tuning().multiply_adds, (vectors + pixels) / tuning().loads, waiting)
    wide = min(lanes, 1 << (pixels - 1).bit_length())
    masks = instruction_set().has_masks
    pieces = math.ceil(pixels / wide) if masks else pixels // wide + (pixels % wide).bit_count()
    shuffles = math.ceil(pixels / wide) * wide * math.log2(wide)
    store = vectors * (pieces * lanes + shuffles + FAR * far * pixels)
    return taps * tap + store + BLOCK


def _waiting(vectors: int, pixels: int, taps: int, *, any_step: bool) -> float:
    """Cycles that a tap of a map of few pixels waits for sums, or for weights, which come from far."""
    at_once = streams(vectors, pixels, any_step=any_step) if taps >= MIN_STREAMED else 1
    return max(LATENCY / at_once, vectors * instruction_set().bits / 8 / FAR_RATE)
