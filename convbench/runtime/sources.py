"""A digest of this package's sources, to distinguish states of the code with the same version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ENDINGS: Final = (".py", ".cu", ".cuh")


@cache
def digest(*places: str) -> str:
    """Digest of the sources in files and folders of the package, named relative to it; of all sources by default."""
    package, found = resources.files("convbench"), hashlib.sha256()
    for place in places or ("",):
        for name, file in _sources(place, package / place if place else package):
            found.update(f"{name}\0".encode() + file.read_bytes())
    return found.hexdigest()[:16]


def _sources(name: str, place: Traversable) -> Iterator[tuple[str, Traversable]]:
    if place.is_dir():
        for part in sorted(place.iterdir(), key=lambda part: part.name):
            yield from _sources(f"{name}/{part.name}", part)
    elif place.name.endswith(ENDINGS):
        yield name, place
