"""Integer arithmetic: division rounded up, and multiples."""

from __future__ import annotations


def ceil_div(a: int, b: int) -> int:
    """A / b rounded up."""
    return -(-a // b)


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple
