"""Files and folders of problems, as benchdnn writes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from convbench.errors import RequestError, shown
from convbench.problem.batch import Batch, Include, holds_problems, read_batch

LARGEST_FILE: Final = 32 * 2**20  # bytes; the largest of benchdnn's has 3.5 million


def existing(place: Path) -> Path | None:
    """What a path leads to, without links in it; None where there is nothing, or nothing that may be seen."""
    try:
        return place.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # names that are too long, links in a circle, null characters
        return None


def read(place: Path) -> Batch:
    """The problems of a file and of those that it includes, or of a folder.

    Of a folder these are all files in it that hold problems, but no hidden ones and no folders. What a file includes
    from the same folder is one of them, so it is not read once more.

    An included file is looked for in the folder of the one that includes it, then in that of the first.

    Args:
        place: As `existing` returns it.

    Raises:
        RequestError: A file cannot be read, or a word in it is wrong.
    """
    if not place.is_dir():
        return read_batch(str(place), _text(place), _includer(place.parent))
    include = _outside(place)
    problems, skipped = [], Counter[str]()
    for file in _files_in(place):
        text = _text(file, or_nothing=True)
        if holds_problems(text):
            found = read_batch(str(file), text, include)
            problems += found.problems
            skipped += found.skipped
    return Batch(problems, skipped)


def _includer(first: Path) -> Include:
    """What finds included files, beside the including one or in the folder `first`."""

    def include(including: str, name: str) -> tuple[str, str]:
        for folder in (Path(including).parent, first):
            found = existing(folder / name)
            if found is not None:
                return str(found), _text(found)
        raise RequestError(f"--batch={shown(name)[1:-1]} is not there; give a file's path from {first}")

    return include


def _outside(folder: Path) -> Include:
    """The same for the files of a folder, in which included files of the folder are empty."""
    everywhere = _includer(folder)

    def include(including: str, name: str) -> tuple[str, str]:
        found, text = everywhere(including, name)
        return found, "" if Path(found).parent == folder else text

    return include


def _files_in(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise _unreadable(folder, error) from None
    return iter(found)


def _text(file: Path, *, or_nothing: bool = False) -> str:
    """What a file holds; with `or_nothing`, nothing where it is no text.

    Raises:
        RequestError: It cannot be read, is too large, or is no text.
    """
    try:
        if not file.is_file():
            raise RequestError(f"{str(file)!r} is no file; give a file with a problem in each line")
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    if len(content) > LARGEST_FILE:
        raise RequestError(f"{str(file)!r} has more than {LARGEST_FILE} bytes; divide it, and read a part at a time")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        return text
    if or_nothing:
        return ""
    raise RequestError(f"{str(file)!r} is no text in UTF-8; give a file with a problem in each line")


def _unreadable(place: Path, error: OSError) -> RequestError:
    return RequestError(f"{str(place)!r} cannot be read ({error.strerror}); give a file or folder that may be read")
