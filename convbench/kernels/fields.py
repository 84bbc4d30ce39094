"""Parameters of a tile as named fields: one `NamedTuple`, from which packing and unpacking follow.

A tile receives its parameters as one array of int64. The fields are integers, tables (1-D arrays of int64) or
`NamedTuple`s of these. The array holds the integers of all levels, then the size of each table, then the tables.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from convbench.kernels.tile import borrowed

Table = NDArray[np.int64]
"""A field that is a 1-D array."""


def pack(record: tuple[Any, ...]) -> Table:
    """Pack a record's fields into an array, int64, 1-D."""
    leaves = list(_leaves(record))
    tables = [np.asarray(leaf, np.int64) for leaf in leaves if not isinstance(leaf, int | np.integer)]
    numbers = [int(leaf) for leaf in leaves if isinstance(leaf, int | np.integer)]
    return np.concatenate([np.array([*numbers, *(table.size for table in tables)], np.int64), *tables])


def unpacker(record: type[tuple[Any, ...]]) -> Any:
    """A compiled function that restores a record from the array of `pack`; its tables are views."""
    source = _Source()
    made = source.constructor(record)
    count = source.numbers
    lines = [f"begin = {count + source.tables}"]
    for table in range(source.tables):
        lines += [
            f"table{table} = packed[begin : begin + packed[{count + table}]]",
            f"begin += packed[{count + table}]",
        ]
    code = "\n    ".join(["def unpack(owned):", "packed = borrowed(owned)", *lines, f"return {made}"])
    exec(code, source.names)  # noqa: S102  # dataclasses and namedtuple generate code likewise
    return numba.njit(inline="always")(source.names["unpack"])


def splitter(record: type[tuple[Any, ...]]) -> Any:
    """A compiled function that splits memory, 1-D, into consecutive pieces.

    It takes the memory and a record of sizes, integers, and returns a record of the same type that holds views.
    """
    lines, begin = ["borrowed_memory = borrowed(memory)"], "0"
    for field in record._fields:  # type: ignore[attr-defined]
        lines += [f"{field} = borrowed_memory[{begin} : {begin} + sizes.{field}]"]
        begin += f" + sizes.{field}"
    names: dict[str, Any] = {record.__name__: record, "borrowed": borrowed}
    made = f"return {record.__name__}({', '.join(record._fields)})"  # type: ignore[attr-defined]
    exec("\n    ".join(["def split(memory, sizes):", *lines, made]), names)  # noqa: S102  # see `unpacker`
    return numba.njit(inline="always")(names["split"])


def _leaves(record: tuple[Any, ...]) -> Iterator[Any]:
    """The integers and tables of a record and of its nested records."""
    for value in record:
        if isinstance(value, tuple):
            yield from _leaves(value)
        else:
            yield value


class _Source:
    """Generates the source of a function that reads a record from an array."""

    def __init__(self) -> None:
        self.numbers = self.tables = 0
        self.names: dict[str, Any] = {"borrowed": borrowed}

    def constructor(self, record: type[tuple[Any, ...]]) -> str:
        """The expression that constructs a record; enters the record's type in `names`."""
        name = f"{record.__name__}_{len(self.names)}"
        self.names[name] = record
        parts = [self._part(kind) for kind in typing.get_type_hints(record).values()]
        return f"{name}({', '.join(parts)})"

    def _part(self, kind: Any) -> str:
        if kind is int:
            self.numbers += 1
            return f"packed[{self.numbers - 1}]"
        if isinstance(kind, type) and issubclass(kind, tuple):
            return self.constructor(kind)
        self.tables += 1
        return f"table{self.tables - 1}"
