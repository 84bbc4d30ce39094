"""Remembering what was measured: appended to a file of raw samples, and summarised in one that is quick to read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from convbench.errors import UnavailableError
from convbench.problem import Problem
from convbench.select import known, written
from convbench.select.measuring import Times, settled
from convbench.shape import AMOUNT, DESCRIPTOR, NAME, SECONDS, TEXT, Fields, check, read

LARGEST: Final = 2**30  # bytes of measurements that are read, some hundred thousand problems
LINE: Final = Fields(
    {
        "problem": DESCRIPTOR,
        "samples": {NAME: [(None, SECONDS)]},
        "packing": {NAME: AMOUNT},
        "machine": Fields({}),
        "by": TEXT,
    },
    needed=("problem", "samples", "packing", "machine"),
)
"""The shape of a line of measured.jsonl."""


def remember(problem: Problem, times: Mapping[str, Times], by: str) -> dict[str, dict[str, float]]:
    """Append a measurement, and add it to the summary; what cannot be written holds for this process alone.

    Returns:
        Seconds of each contender, by problem.
    """
    try:
        append(line(problem, times, by))
        found = seconds(lines())
        known.save(known.KNOWN, written.seconds_to(found, known.fingerprint()))
    except UnavailableError:
        return {str(replace(problem, name="")): {name: each.seconds for name, each in times.items()}}
    return found


def line(problem: Problem, times: Mapping[str, Times], by: str) -> dict[str, Any]:
    """The line of a measurement."""
    return {
        "problem": str(replace(problem, name="")),
        "by": by,
        "samples": {name: each.samples for name, each in times.items()},
        "packing": {name: each.packing for name, each in times.items()},
        "machine": known.fingerprint(),
    }


def append(content: Mapping[str, Any]) -> None:
    """Append one line to measured.jsonl, in one piece.

    Raises:
        UnavailableError: It cannot be written.
    """
    path = known.folder() / known.MEASURED
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    try:
        known.make_folder_of(path)
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            torn = size > 0 and file.read(1) != b"\n"
            file.write(("\n" * torn + text + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written ({error.strerror or error})") from None


def lines() -> list[dict[str, Any]]:
    """The lines of measured.jsonl that were measured on this machine with these forms; damaged ones are left out."""
    path, found = known.folder() / known.MEASURED, []
    try:
        texts = known.content(path, LARGEST).splitlines()
    except (OSError, ValueError, MemoryError):
        return []
    for text in texts:
        try:
            data = read(text)
            check(data, LINE, "")
        except ValueError:
            continue
        if data["machine"] == known.fingerprint():
            found.append(data)
    return found


def seconds(measured: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds of each contender on each problem, from what `lines` returns; the latest measurement counts."""
    found: dict[str, dict[str, float]] = {}
    for one in measured:
        if times := settled(one["samples"]):
            found.setdefault(one["problem"], {}).update(times)
    return found


def packing(measured: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds of packing, likewise."""
    found: dict[str, dict[str, float]] = {}
    for one in measured:
        found.setdefault(one["problem"], {}).update(one["packing"])
    return found
