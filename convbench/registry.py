"""Explicit, ordered tables of named objects, one table for each kind (algorithms, executors, report sections, ...).

A table holds the location of each object and imports it on first use, so that listing names costs no import. A new
object is a new file and one line in its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from convbench.errors import RequestError, shown
from convbench.runtime.loading import load

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A line of a table.

    Attributes:
        name: The name that users write.
        location: "module:attribute" of the object.
        summary: One line for help texts.
        by_default: Whether the object is used where no names are given.
    """

    name: str
    location: str
    summary: str
    by_default: bool = True


class Table(Generic[T]):
    """An ordered, read-only mapping from names to objects that are imported on first use.

    `table[name]` raises a `RequestError` that lists the names if there is no such name.
    """

    def __init__(self, kind: str, entries: Sequence[Entry]) -> None:
        self.kind = kind
        self.entries = tuple(entries)
        self._entry_of = {entry.name: entry for entry in entries}
        if len(self._entry_of) != len(self.entries):
            names = [entry.name for entry in entries]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"{kind} {', '.join(twice)} is listed twice; give each {kind} a name of its own")

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the table's order."""
        return tuple(entry.name for entry in self.entries)

    @property
    def defaults(self) -> tuple[str, ...]:
        """The names that are used where none are given, in the table's order."""
        return tuple(entry.name for entry in self.entries if entry.by_default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entry_of

    def __len__(self) -> int:
        return len(self.entries)

    def check(self, name: str) -> str:
        """Return `name`.

        Raises:
            RequestError: The table does not have it; the error lists the names.
        """
        if name not in self:
            raise RequestError(f"unknown {self.kind} {shown(name)}; choose from {', '.join(self.names)}")
        return name

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self._entry_of[self.check(name)].location.partition(":")
        return cast(T, getattr(load(module), attribute))
