"""The processor's own clock, for tiles: where a call's time goes is told by the very calls that are timed.

A reading costs some ten nanoseconds, so a tile can afford one wherever it goes from one stage of its algorithm to the
next. Readings are ticks of a constant but unknown rate, to be compared with those of the same processor.
"""

from __future__ import annotations

from typing import Any, Final

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

STAGES: Final = 8
"""How many stages a tile can tell apart: as many counts of ticks as fit a cache line."""

_ARM_CLOCK: Final = "mrs $0, cntvct_el0"  # what LLVM's own intrinsic reads there is closed to programs


@intrinsic
def ticks(typing_context):  # type: ignore[no-untyped-def]
    """The processor's clock now; always zero where it has none that a program may read."""

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
    """Count the time from `since` to now for a stage, and return now."""
    now = ticks()
    clock[stage] += now - since
    return now


@numba.njit(cache=True)
def read_ticks():  # type: ignore[no-untyped-def]
    """`ticks` for callers that are not compiled."""
    return ticks()
