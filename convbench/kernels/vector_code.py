"""Intrinsics for vector code: Python functions that emit instructions, called from tiles with keyword arguments.

    @vector_code
    def add(emit: Vectors, lanes: Constant, source: Array, begin: ir.Value) -> None: ...

becomes a function that tiles call as `add(lanes=lanes, source=x, begin=begin)`, and whose code is part of theirs. An
argument's annotation determines how the emitter receives it: a `Constant`, known when the tile is compiled, as a Python
int; an `Array` (1-D) as the address of its first element and its size; any other as an LLVM value of type int64. The
names, their order and their types are defined by the emitter's signature alone.

`vector_function` makes a function of its own of the code instead. During a call the tile holds nothing in vector
registers (by the convention of Unix on x86-64); constants of a transform, say, that are loaded before a loop can
otherwise take so many that sums spill.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from convbench.kernels.vector import Vectors

Constant = int
"""A number that is known when a tile is compiled."""

MaybeConstant = int | ir.Value
"""A number that may be known when a tile is compiled."""


@dataclass(frozen=True)
class Array:
    """A 1-D array: the address of its first element, and its number of elements."""

    data: ir.Value
    size: ir.Value


def vector_code(emitter: Callable[..., None]) -> Any:
    """Turn a function that emits code into an intrinsic that emits it where it is called.

    Args:
        emitter: Called with a `Vectors` and the arguments. The dtype of the `Vectors` is that of the first array other
            than int64; its lanes are the constant argument `lanes`.
    """
    return _intrinsic(emitter, emitter)


def vector_function(emitter: Callable[..., None]) -> Any:
    """Turn a function that emits code into an intrinsic that calls a function of this code; see `vector_code`."""

    def call(emit: Vectors, **arguments: Any) -> None:
        """Call the function for these constants, which a tile's first call defines."""
        constants = {name: value for name, value in arguments.items() if isinstance(value, int)}
        sizes = (f"{key}={value}" for key, value in constants.items())
        name = ".".join([emitter.__module__, emitter.__name__, str(emit.real), *sizes])
        values = list(_values(arguments))
        function = emit.builder.module.globals.get(name)
        if function is None:
            function = _function(emit, name, emitter, arguments)
        emit.builder.call(function, values)

    return _intrinsic(emitter, call)


def _function(emit: Vectors, name: str, emitter: Callable[..., None], arguments: dict[str, Any]) -> ir.Function:
    """Define a function of the code, with the values of `arguments` that are not constants as parameters."""
    kinds = [value.type for value in _values(arguments)]
    function = ir.Function(emit.builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    builder, own = ir.IRBuilder(function.append_basic_block()), iter(function.args)
    given = {
        key: value if isinstance(value, int) else Array(next(own), next(own)) if isinstance(value, Array) else next(own)
        for key, value in arguments.items()
    }
    emitter(emit.into(builder), **given)
    builder.ret_void()
    return function


def _values(arguments: dict[str, Any]) -> Iterator[ir.Value]:
    """The LLVM values among arguments, those of an array one by one."""
    for value in arguments.values():
        if isinstance(value, Array):
            yield from (value.data, value.size)
        elif not isinstance(value, int):
            yield value


def _intrinsic(emitter: Callable[..., None], emit_call: Callable[..., None]) -> Any:
    """The intrinsic with the signature of `emitter` for which `emit_call` emits the code."""
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
            emit_call(emit, **arguments)
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
    """An argument as the emitter receives it."""
    if isinstance(kind, types.IntegerLiteral):
        return kind.literal_value
    if not isinstance(kind, types.Array):
        return value
    array = emit.context.make_array(kind)(emit.context, emit.builder, value)
    return Array(array.data, cgutils.unpack_tuple(emit.builder, array.shape)[0])
