"""The processor's cycle counter for tiles: the timed calls themselves record the time of each stage.

A reading takes about ten nanoseconds, cheap enough for one at each change of stage in a tile. Readings are ticks at a
constant but unknown rate; compare them only with readings of the same processor.
"""

from __future__ import annotations

from typing import Any, Final

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convbench.kernels.cached import cached

STAGES: Final = 8
"""Maximum number of stages of a tile: the tick counts that fit a cache line."""

_ARM_CLOCK: Final = "mrs $0, cntvct_el0"  # LLVM's intrinsic reads a counter that user programs may not access


@intrinsic
def ticks(typing_context):  # type: ignore[no-untyped-def]
    """Read the cycle counter; zero where the processor has none that user programs may read."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        reading = ir.FunctionType(ir.IntType(64), ())
        target = builder.module.triple.partition("-")[0]
        if target in ("x86_64", "i686"):
            return builder.call(builder.module.declare_intrinsic("llvm.readcyclecounter", (), reading), ())
        if target in ("aarch64", "arm64"):
            return builder.asm(reading, _ARM_CLOCK, "=r", (), side_effect=True)
        return ir.Constant(ir.IntType(64), 0)

    return types.int64(), generate


@numba.njit(inline="always")
def lap(clock, stage, since):  # type: ignore[no-untyped-def]
    """Add the ticks from `since` to now to a stage's count, and return now."""
    now = ticks()
    clock[stage] += now - since
    return now


@cached()
def read_ticks():  # type: ignore[no-untyped-def]
    """`ticks` for interpreted callers."""
    return ticks()
