"""Labels of problems, different for each problem of a report, in words and as parts of file names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from convbench.problem import Problem

FIELDS: Final = (
    *("batch", "dtype", "direction", "channels", "height", "width", "out_channels", "kernel_height", "kernel_width"),
    *("groups", "stride", "padding", "dilation"),
)
LONGEST_SLUG: Final = 60  # characters of a problem in a file name


def labels(problems: Iterable[Problem]) -> dict[Problem, str]:
    """Each problem's label, followed by what distinguishes it where several have the same label."""
    alike: dict[str, list[Problem]] = {}
    for problem in dict.fromkeys(problems):
        alike.setdefault(problem.label, []).append(problem)
    return {
        problem: label if len(several) == 1 else f"{label} ({_difference(problem, several)})"
        for label, several in alike.items()
        for problem in several
    }


def slugs(named: dict[Problem, str]) -> dict[Problem, str]:
    """Each label as part of a file name; with a checksum of the descriptor if it is cut or not unique."""
    plain = {problem: slug(label) for problem, label in named.items()}
    shared = list(plain.values())
    return {
        problem: text
        if shared.count(text) == 1 and len(text) <= LONGEST_SLUG and text
        else slug(text[:LONGEST_SLUG], f"{zlib.crc32(str(problem).encode()):08x}")
        for problem, text in plain.items()
    }


def slug(*words: str) -> str:
    """Words as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def _difference(problem: Problem, several: Sequence[Problem]) -> str:
    """Fields in which several problems differ, such as "batch 32, float64"."""
    different = [field for field in FIELDS if len({getattr(one, field) for one in several}) > 1]
    return ", ".join(_in_words(field, getattr(problem, field)) for field in different) or str(problem)


def _in_words(field: str, value: Any) -> str:
    if field in ("dtype", "direction"):
        return str(value).replace("_", " ")
    if isinstance(value, tuple):
        value = " x ".join(str(part).strip("()").replace(", ", "+") for part in value)
    return f"{field.replace('_', ' ')} {value}"
