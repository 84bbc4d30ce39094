"""Intrinsics of vector code: Python functions that emit instructions, called from tiles by their arguments' names.

    @vector_code
    def add(emit: Vectors, lanes: Constant, source: Array, begin: ir.Value) -> None: ...

becomes a function that tiles call as `add(lanes=lanes, source=x, begin=begin)`. What an argument is follows from its
annotation: a `Constant` is known while the tile is compiled and reaches the emitter as a Python number, an `Array`
(1-D) as the address of its first element, anything else as a number of type int64. The names, their order and their
types stand in the emitter's signature and nowhere else.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from convbench.kernels.vector import Vectors

Constant = int
"""A number that is known while a tile is compiled."""

MaybeConstant = int | ir.Value
"""A number that may be known while a tile is compiled."""


@dataclass(frozen=True)
class Array:
    """A 1-D array: the address of its first element, and how many it has."""

    data: ir.Value
    size: ir.Value


def vector_code(emitter: Callable[..., None]) -> Any:
    """Make an intrinsic of a function that emits code.

    Args:
        emitter: Called with `Vectors` for the dtype of the first array of real numbers and the constant `lanes`, then
            with the arguments.
    """
    names = list(inspect.signature(emitter).parameters)[1:]
    hints = typing.get_type_hints(emitter)

    def define(typing_context: Any, *positional: Any, **named: Any) -> Any:
        given = dict(zip(names, positional, strict=False)) | named
        kinds = {name: _kind(hints[name], given[name]) for name in names}
        real = next(
            kind.dtype for kind in kinds.values() if isinstance(kind, types.Array) and kind.dtype != types.int64
        )

        def generate(context: Any, builder: ir.IRBuilder, _signature: Any, values: list[ir.Value]) -> ir.Value:
            emit = Vectors(context, builder, real, kinds["lanes"].literal_value)
            arguments = {
                name: _argument(emit, kind, value) for (name, kind), value in zip(kinds.items(), values, strict=True)
            }
            emitter(emit, **arguments)
            return context.get_dummy_value()

        return types.void(*kinds.values()), generate

    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ["typing_context", *names]
    ]
    define.__name__, define.__qualname__, define.__doc__ = emitter.__name__, emitter.__qualname__, emitter.__doc__
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(prefer_literal=True)(define)


def _kind(hint: Any, given: Any) -> Any:
    """Numba's type of an argument."""
    if hint is Constant or (hint == MaybeConstant and isinstance(given, types.IntegerLiteral)):
        return given
    return given if isinstance(given, types.Array) else types.int64


def _argument(emit: Vectors, kind: Any, value: ir.Value) -> Any:
    """An argument as the emitter gets it."""
    if isinstance(kind, types.IntegerLiteral):
        return kind.literal_value
    if not isinstance(kind, types.Array):
        return value
    array = emit.context.make_array(kind)(emit.context, emit.builder, value)
    return Array(array.data, cgutils.unpack_tuple(emit.builder, array.shape)[0])
