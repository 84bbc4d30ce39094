"""How fields of a request are read: functions of a name and what was given, and what this machine makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from convbench.arguments import LARGEST, entries_of, one_of, path, real_number, size, texts, whole_number, whole_numbers
from convbench.errors import RequestError, shown
from convbench.registry import Table

if TYPE_CHECKING:
    from pathlib import Path

    from convbench.networks import Suite
    from convbench.problem import Problem

__all__ = ["path", "size"]

Given = TypeVar("Given")
Held = TypeVar("Held")


def perhaps(read: Callable[[str, Given], Held]) -> Callable[[str, Given | None], Held | None]:
    """None, or what `read` reads."""
    return lambda name, value: None if value is None else read(name, value)


def names(
    table: Table[Any], default: Sequence[str] = (), *, none_allowed: bool = False
) -> Callable[[str, str | Iterable[str] | None], tuple[str, ...]]:
    """Names from a table, each once; `default` for None where there is one."""

    def read(name: str, value: str | Iterable[str] | None) -> tuple[str, ...]:
        if value is None and default:
            return tuple(default)
        found = each_once(name, tuple(map(table.check, texts(name, value))))
        if not found and not none_allowed:
            raise RequestError(f"{name} is empty; name at least one")
        return found

    return read


def name_or_nothing(table: Table[Any]) -> Callable[[str, str | None], str]:
    """A name from a table; nothing for None."""
    return lambda _, value: "" if value is None else table.check(value)


def word(allowed: Sequence[str]) -> Callable[[str, str], str]:
    """One of some words."""
    return lambda name, value: one_of(name, value, allowed)


def from_to(least: int, most: int = LARGEST) -> Callable[[str, int], int]:
    """A whole number in a range."""
    return lambda name, value: whole_number(name, value, least=least, most=most)


def text_or_nothing(name: str, value: str | None) -> str:
    """Text; nothing for None."""
    if not isinstance(value, str | None):
        raise RequestError(f"{name}={shown(value)} is no text; give an address such as 'tcp://HOST:PORT'")
    return value or ""


def path_or_nothing(name: str, value: str | Path | None) -> str:
    """A path as text; nothing for None."""
    return str(path(name, value)) if value else ""


def seconds(name: str, value: float) -> float:
    """A number of seconds from 0 up."""
    return real_number(name, value, least=0)


def text_of_path(name: str, value: object) -> str:
    """A path, or a word in its place, as text."""
    return str(path(name, value))


def problems(name: str, value: Problem | str | Iterable[Problem | str]) -> tuple[str, ...]:
    """Problems as descriptors; text stays as it is, so that records of a sweep are found by it."""
    from convbench.problem import Problem

    entries = (value,) if isinstance(value, str | Problem) else entries_of(value)
    if entries is None:
        raise RequestError(
            f"{name}={shown(value)} cannot be read; give a Problem, text in benchdnn's notation, or several"
        )
    return each_once(name, tuple(str(one if isinstance(one, str) else _problem(one)) for one in entries))


def _problem(value: object) -> Problem:
    from convbench.problem import Problem

    return value if isinstance(value, Problem) else Problem.parse(value)  # type: ignore[arg-type]  # refused there


def canonical_problems(descriptors: tuple[str, ...]) -> tuple[str, ...]:
    """The descriptors as problems write themselves."""
    from convbench.problem import Problem

    return each_once("problems", tuple(str(Problem.parse(one)) for one in descriptors))


def suites(name: str, value: str | Path | Suite | Iterable[str | Path | Suite]) -> tuple[Suite, ...]:
    """Networks by name, by the path of a file or folder, or as suites; they are read here, so that errors come at once.

    None is there twice.
    """
    from convbench.networks import suite

    entries = entries_of(value)
    found = tuple(suite(one) for one in ((value,) if entries is None else entries))  # type: ignore[arg-type]  # refused
    each_once(name, tuple(one.name for one in found))
    return found


def core_counts(name: str, value: int | str | Iterable[int] | None) -> tuple[int, ...]:
    """Core counts from 1 up, each once; 1, 2, 4, ... up to this machine's for None."""
    if value is None:
        from convbench import machine

        return machine.core_series()
    found = each_once(name, whole_numbers(name, value, least=1))
    if not found:
        raise RequestError(f"{name} is empty; name at least one")
    return found


def core_counts_here(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Those, where this machine can be asked for each; workers on a cluster may be on others."""
    from convbench import machine

    most = machine.most_cores()
    for count in counts:
        if count > most:
            raise RequestError(
                f"cores={count} is not allowed; every core asked for has a thread or process of its own, so at most "
                f"{most} can be asked for on this machine, which has {machine.usable_cores()}"
            )
    return counts


def bank_here(kernels: str | None) -> str:
    """What `filters.filter_bank` takes, wherever the current folder is then."""
    from convbench import filters

    return "gabor" if kernels is None else filters.resolved(kernels)


def each_once(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, none of which is there twice."""
    if len(set(values)) < len(values):
        listed = shown(",".join(map(str, values)))[1:-1]
        raise RequestError(f"{name}={listed} names one twice; name each once")
    return values
