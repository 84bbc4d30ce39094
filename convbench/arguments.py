"""Checks of callers' arguments: each is converted, or refused in an error of one line that names the value."""

from __future__ import annotations

import contextlib
import itertools
import math
import numbers
import operator
import os
import re
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, Literal

from convbench.errors import RequestError, shown
from convbench.integers import ceil_div

Sides = tuple[tuple[int, int], tuple[int, int]]

LARGEST: Final = 2**63 - 1  # of int64, which compiled code counts with; no array has more bytes
LARGEST_STEP: Final = 2**31 - 1  # of stride, dilation and padding: int in other libraries
LONGEST_NAME: Final = 200  # characters; names become parts of file names
LONGEST_LIST: Final = 10_000  # entries; iterators may be endless
PREFIXES: Final = ("", "k", "m", "g", "t")
UNITS: Final = {
    **{f"{prefix}b": 1000**power for power, prefix in enumerate(PREFIXES)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate(PREFIXES) if power},
    **{prefix: 1024**power for power, prefix in enumerate(PREFIXES)},
}
"""Bytes of each unit of a size, in small letters: KiB and K are 1024 of them, kB 1000."""


def whole_number(name: str, value: object, *, least: int, most: int = LARGEST) -> int:
    """`value`, of any integer type, as a Python int.

    Raises:
        RequestError: The value is not an integer (booleans and floats are refused), or is out of range.
    """
    number = _integer(value, least, most)
    if number is None:
        allowed = _range(least, most) if _integer(value, least, 2**10_000) is None else f"from {least} to {most}"
        raise RequestError(f"{name}={shown(value)} is not allowed; give a whole number {allowed}")
    return number


def real_number(name: str, value: object, *, least: float = -math.inf, wanted: str = "a number") -> float:
    """`value`, of any real type, as a Python float; `wanted` describes valid values in an error.

    Raises:
        RequestError: The value is not a real number, is NaN, or is less than `least`.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:  # an integer beyond the range of float
        number = math.nan
    if not number >= least:
        limit = "" if least == -math.inf else f" from {least:g} up"
        raise RequestError(f"{name}={shown(value)} is not allowed; give {wanted}{limit}")
    return number


def share(name: str, value: object) -> float:
    """A share between 0 and 1, written as 0.01 or "1%".

    Raises:
        RequestError: The value is anything else.
    """
    number, text = value, value.strip() if isinstance(value, str) else ""
    with contextlib.suppress(ValueError):
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if text else value
    found = real_number(name, number, wanted="a share such as 1% or 0.01")
    if not 0 < found < 1:
        raise RequestError(f"{name}={shown(value)} is not allowed; give a share such as 1% or 0.01")
    return found


def truth(name: str, value: object) -> bool:
    """`value`, a bool of Python or NumPy, as a Python bool.

    Raises:
        RequestError: The value is of another type.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise RequestError(f"{name}={shown(value)} is not allowed; give True or False")
    return bool(value)


def size(name: str, value: object) -> int:
    """A size in bytes: a whole number, or text such as "64MiB", "64M" or "1.5 GB", rounded down to whole bytes.

    Raises:
        RequestError: The value is anything else, or out of range.
    """
    if not isinstance(value, str):
        return whole_number(name, value, least=0)
    match = re.fullmatch(r"([0-9]{1,19}(?:\.[0-9]{1,19})?) ?([A-Za-z]{0,3})", value.strip(), re.ASCII)
    if match is None or match[2].lower() not in UNITS:
        raise RequestError(f"{name}={shown(value)} is no size; give bytes, or a number with a unit such as 64MiB")
    whole, _, part = match[1].partition(".")
    return whole_number(name, int(whole + part) * UNITS[match[2].lower()] // 10 ** len(part), least=0)


def written_size(number: int) -> str:
    """Bytes in the largest binary unit that leaves a whole one, rounded up to a tenth, such as "64 MiB"."""
    power = min(max(0, (number.bit_length() - 1) // 10), len(PREFIXES) - 1)
    whole, tenths = divmod(ceil_div(10 * number, 1024**power), 10)
    return f"{whole}{f'.{tenths}' if tenths else ''} {PREFIXES[power].upper()}{'iB' if power else 'B'}"


def whole_numbers(name: str, value: object, *, least: int) -> tuple[int, ...]:
    """A whole number, several, or text such as "1,2,4,8" as a tuple.

    Raises:
        RequestError: The value is anything else, or a number is less than `least`.
    """
    if isinstance(value, str):
        words = [word.strip() for word in value.split(",")]
        for word in words:
            if not re.fullmatch("-?[0-9]{1,19}", word):
                raise RequestError(
                    f"{name}={shown(word)} is not a number; give whole numbers from {least} up, such as 1,2,4,8"
                )
        return tuple(whole_number(name, int(word), least=least) for word in words)
    entries = entries_of(value)
    return tuple(whole_number(name, entry, least=least) for entry in ((value,) if entries is None else entries))


def texts(name: str, value: object) -> tuple[str, ...]:
    """Names separated by commas, or several names, as a tuple.

    Raises:
        RequestError: The value is anything else.
    """
    entries: Iterable[object] | None = value.split(",") if isinstance(value, str) else entries_of(value)
    if entries is None:
        raise RequestError(f"{name}={shown(value)} cannot be read; give names, or text such as 'one,two'")
    found = []
    for entry in entries:
        if not isinstance(entry, str):
            raise RequestError(f"{shown(entry)} in {name} is no text; give names")
        found.append(str(entry).strip())
    return tuple(found)


def entries_of(value: Any) -> tuple[object, ...] | None:
    """The entries of a collection in its order; None where `value` is not a collection, or has no order."""
    if isinstance(value, str | bytes | Mapping | AbstractSet):
        return None
    try:
        return tuple(itertools.islice(iter(value), LONGEST_LIST + 1))
    except TypeError:
        return None


def path(name: str, value: object) -> Path:
    """Text or a path as a `Path`.

    Raises:
        RequestError: The value is anything else, is empty, or contains a null character.
    """
    where = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(where, str) or not where or "\0" in where:
        raise RequestError(f"{name}={shown(value)} is not allowed; give the path of a file or directory")
    return Path(where)


def sides(padding: object) -> tuple[tuple[int, int] | Literal["same"], tuple[int, int] | Literal["same"]]:
    """A padding in any of its notations as ((top, bottom), (left, right)), with "same" in place of a pair.

    Raises:
        RequestError: The padding is in no known notation, or a number is out of range.
    """
    if isinstance(padding, str) and padding in ("same", "valid"):
        return ("same", "same") if padding == "same" else ((0, 0), (0, 0))
    axes = _two(padding)
    vertical, horizontal = (_two(axis) for axis in axes) if axes is not None else (None, None)
    if vertical is None or horizontal is None:
        raise RequestError(
            f"padding={shown(padding)} cannot be read; write n, (vertical, horizontal), "
            "((top, bottom), (left, right)), 'valid' or 'same'"
        )
    top, bottom, left, right = (_step("padding", padding, side, least=0) for side in (*vertical, *horizontal))
    return ((top, bottom), (left, right))


def pair(field: str, value: object) -> tuple[int, int]:
    """A number, or (vertical, horizontal), as a pair of numbers from 1 up.

    Raises:
        RequestError: The value is anything else, or a number is out of range.
    """
    both = _two(value)
    if both is None:
        raise RequestError(f"{field}={shown(value)} cannot be read; write n or (vertical, horizontal)")
    return (_step(field, value, both[0], least=1), _step(field, value, both[1], least=1))


def _two(value: Any) -> tuple[Any, Any] | None:
    """The entries of a sequence of two, or a single value twice; None for any other collection."""
    if isinstance(value, str | bytes | Mapping | AbstractSet):
        return None
    try:
        length = len(value)
    except TypeError:  # not a collection
        return (value, value)
    try:
        return (value[0], value[1]) if length == 2 else None
    except (TypeError, LookupError):  # not a sequence
        return None


def _step(field: str, given: object, value: object, *, least: int) -> int:
    """`value` as an int; `given` is the argument that it is part of, for errors."""
    number = _integer(value, least, LARGEST_STEP)
    if number is None:
        numbers = "a whole number" if given is value else "whole numbers"
        raise RequestError(f"{field}={shown(given)} is not allowed; give {numbers} {_range(least, LARGEST_STEP)}")
    return number


def _integer(value: Any, least: int, most: int) -> int | None:
    """An integer of any type as a Python int; None for other types, and where it is out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return None if isinstance(value, bool) or not least <= number <= most else number


def _range(least: int, most: int) -> str:
    return f"from {least} up" if most == LARGEST else f"from {least} to {most}"


def one_of(field: str, value: object, allowed: Collection[str]) -> str:
    """`value` if it is one of the names allowed.

    Raises:
        RequestError: It is not; the error lists them.
    """
    if not isinstance(value, str) or value not in allowed:
        raise RequestError(f"{field}={shown(value)} is not known; choose from {', '.join(allowed)}")
    return str(value)


def checked_name(name: object) -> str:
    """`name` if a problem may have it.

    Raises:
        RequestError: It is not text, is too long, or contains a character that is not allowed.
    """
    if (
        not isinstance(name, str)
        or len(name) > LONGEST_NAME
        or re.search(r"""[\s"']""", name)
        or not name.isprintable()
    ):
        raise RequestError(
            f"name={shown(name)} is not allowed; give at most {LONGEST_NAME} characters, none of them a space, "
            "a quotation mark or unprintable"
        )
    return str(name)
