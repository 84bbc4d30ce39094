"""Validation of JSON that was read back, since anybody may have edited the file.

A shape is a `Kind` of a single value, None for null, a list `[shape]`, a mapping `{Kind: shape}` with any keys of that
kind, `Fields` of an object, or a tuple of shapes one of which must fit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

DEEPEST: Final = 40  # levels of nesting; convbench writes half a dozen
LARGEST_NUMBER: Final = 2**63
LARGEST_PROBLEM: Final = 1e30  # operations or bytes; far beyond any machine
MOST: Final = 1e20  # of any number, so that sums and squares stay within a float's range
LONGEST_QUOTE: Final = 40  # characters of a wrong value


@dataclass(frozen=True)
class Kind:
    """A kind of single value: its description, and a predicate."""

    words: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Fields:
    """An object: the shapes of known fields, and the names of those that must be there; others are ignored."""

    known: Mapping[str, Any]
    needed: Sequence[str] = field(default=())


@cache
def _described(descriptor: str) -> bool:
    """Whether a text describes a problem."""
    if not descriptor.isprintable():
        return False
    from convbench.problem import Problem

    try:
        problem = Problem.parse(descriptor)
    except ValueError:  # a RequestError, or a number with thousands of digits
        return False
    return max(problem.flops, problem.bytes) < LARGEST_PROBLEM


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


ANY: Final = Kind("anything", lambda _: True)
TEXT: Final = Kind("text", lambda value: isinstance(value, str))
NAME: Final = Kind("a name", lambda value: isinstance(value, str) and value != "" and value.isprintable())
EMPTY: Final = Kind("empty", lambda value: value in ("", {}))
FLAG: Final = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER: Final = Kind("a number", _number)
AMOUNT: Final = Kind("a number from 0 up", lambda value: _number(value) and value >= 0)
SECONDS: Final = Kind("a positive number of seconds", lambda value: _number(value) and 1e-12 <= value <= 1e9)
PERHAPS_SECONDS: Final = Kind("0 or a positive number of seconds", lambda value: value == 0 or SECONDS.fits(value))
RATE: Final = Kind("a positive rate", lambda value: _number(value) and 1e-3 <= value <= 1e30)
COUNT: Final = Kind("a whole number from 0 up", _whole(0, LARGEST_NUMBER))
CORES: Final = Kind("a whole number from 1 up", _whole(1, 1_000_000))
LOOPS: Final = Kind("a whole number from 1 up", _whole(1, LARGEST_NUMBER))
INTEGER: Final = Kind("a whole number", _whole(-LARGEST_NUMBER, LARGEST_NUMBER))
DIGITS: Final = Kind(
    "a number of cores", lambda value: isinstance(value, str) and bool(re.fullmatch("[1-9][0-9]{0,6}", value))
)
DESCRIPTOR: Final = Kind("a problem's descriptor", lambda value: isinstance(value, str) and _described(value))


def read(text: str | bytes) -> Any:
    """Parse JSON in which every number is finite and nothing is nested deeply.

    Raises:
        ValueError: It is something else; the message continues "it".
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is not JSON ({error})") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return value
    raise ValueError("is nested too deeply")


def check(value: Any, shape: Any, name: str) -> None:
    """Check that a value has a shape.

    Raises:
        ValueError: It has not; the message continues "it", and names the value by `name`.
    """
    if isinstance(shape, tuple):
        _check_one_of(value, shape, name)
    elif isinstance(shape, Kind):
        _demand(shape.fits(value), value, shape.words, name)
    elif shape is None:
        _demand(value is None, value, "null", name)
    elif isinstance(shape, list):
        _demand(isinstance(value, list), value, "a list", name)
        for part in value:
            check(part, shape[0], name)
    else:
        _demand(isinstance(value, dict), value, "an object", name)
        _check_object(value, shape, name)


def _check_object(value: dict[str, Any], shape: Fields | Mapping[Kind, Any], name: str) -> None:
    prefix = f"{name}." if name else ""
    if isinstance(shape, Fields):
        for field_name in shape.needed:
            if field_name not in value:
                raise ValueError(f"lacks {prefix}{field_name}")
        for field_name in shape.known.keys() & value.keys():
            check(value[field_name], shape.known[field_name], prefix + field_name)
        return
    [(keys, values)] = shape.items()
    for key, part in value.items():
        check(key, keys, name)
        check(part, values, prefix + key)


def _check_one_of(value: Any, shapes: tuple[Any, ...], name: str) -> None:
    """Check that one of the shapes fits; the error is the last shape's."""
    for shape in shapes[:-1]:
        try:
            check(value, shape, name)
        except ValueError:
            continue
        return
    check(value, shapes[-1], name)


def _demand(right: bool, value: Any, words: str, name: str) -> None:  # noqa: FBT001
    if not right:
        quote = " ".join(ascii(value).split())
        short = quote if len(quote) <= LONGEST_QUOTE else f"{quote[:LONGEST_QUOTE]}..."
        raise ValueError(f"has {short} for {name or 'its content'}, which is not {words}")


def _parts(value: Any) -> Sequence[Any]:
    """The parts of a value; a single number is checked instead."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("has a number that is infinite or none at all")
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError("has a number that is too large")
    return ()
