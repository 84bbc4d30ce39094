"""Whole-number arithmetic that Python has no word for."""

from __future__ import annotations


def ceil_div(a: int, b: int) -> int:
    """A / b rounded up."""
    return -(-a // b)


def round_up(number: int, multiple: int) -> int:
    """The least multiple of `multiple` that is `number` or more."""
    return -(-number // multiple) * multiple
