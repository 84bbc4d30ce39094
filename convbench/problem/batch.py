"""Reader of batch files as benchdnn reads them: options and descriptors, divided by blanks and ends of lines.

An option holds for all descriptors after it, also where it stands in a file that `--batch=FILE` includes. `--dir`,
`--dt` and `--mb` may have several values, and then a descriptor is a problem for each. A comment begins with # where a
word could, and a backslash at the end of a word joins the next one to it. After benchdnn's `common.cpp` (`batch`),
`conv/bench_conv.cpp` and `utils/parser.hpp`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from convbench.arguments import LONGEST_NAME
from convbench.errors import RequestError, shown
from convbench.problem.batch_options import Options, with_option
from convbench.problem.notation import DTYPE_OF, DescriptorError, NotFlatError, read_shape
from convbench.problem.problem import Problem

Include = Callable[[str, str], tuple[str, str]]

MOST_PROBLEMS: Final = 200_000
MOST_WORDS: Final = 2_000_000
DEEPEST: Final = 20  # files that include one another
MOST_TIMES: Final = 10**9  # that a layer occurs

_WORD = re.compile(r"\S+")
_DESCRIPTOR = re.compile(r"((g|mb|[io]c|[iok][dhw]|[sdp][dhw])[0-9]+_?){3}")


class BatchError(RequestError):
    """What is wrong in a batch file, with file, line and column."""


@dataclass
class Batch:
    """What files hold.

    Attributes:
        problems: In the order of the files; one that is listed twice is here twice.
        skipped: How many problems were left out for each reason.
    """

    problems: list[Problem] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def read_batch(source: str, text: str, include: Include) -> Batch:
    """The problems of a file and of those that it includes.

    Args:
        source: The name of the file, for errors, and for `include`.
        text: What it holds.
        include: Finds a file that another one includes: takes the including file's name and the name that stands there,
            and returns the file's name, one for each file whatever it is called, and its text. Raises `RequestError`.

    Raises:
        BatchError: A word is wrong; the error begins with FILE:LINE:COLUMN.
    """
    reader = _Reader(include)
    reader.read(source, text)
    return reader.batch


def holds_problems(text: str) -> bool:
    """Whether a word of a text is like a descriptor, right or wrong."""
    return any(_DESCRIPTOR.match(word.text) for word in _words(text))


@dataclass(frozen=True)
class _Word:
    text: str
    line: int
    column: int


def _words(text: str) -> Iterator[_Word]:
    """The words of a text, without comments; those that a backslash joins are one, which is where the first is."""
    pieces: list[str] = []
    place, joined = (0, 0), False
    for number, line in enumerate(text.split("\n"), 1):
        for found in _WORD.finditer(line):
            piece = found[0]
            if piece.startswith("#"):
                break
            if not joined and piece != "\\":
                if pieces:
                    yield _Word("".join(pieces), *place)
                pieces, place = [], (number, found.start() + 1)
            joined = piece.endswith("\\")
            pieces.append(piece.removesuffix("\\"))
    if pieces:
        yield _Word("".join(pieces), *place)


class _Reader:
    """Reads files one after the other, and those that they include; options go on from one to the next."""

    def __init__(self, include: Include) -> None:
        self.batch = Batch()
        self._include = include
        self._options = Options()
        self._open: list[str] = []
        self._words = 0

    def read(self, source: str, text: str) -> None:
        """Read a file."""
        self._open.append(source)
        for word in _words(text):
            try:
                self._take(word.text)
            except BatchError:  # in a file that this one includes
                raise
            except RequestError as error:
                column = word.column + (error.position if isinstance(error, DescriptorError) else 0)
                raise BatchError(f"{source}:{word.line}:{column}: {error}") from None
        self._open.pop()

    def _take(self, word: str) -> None:
        self._words += 1
        if self._words > MOST_WORDS:
            raise RequestError(
                f"more than {MOST_WORDS} words, with those of included files; read fewer files at a time"
            )
        if word.startswith("--batch="):
            self._read_included(word.removeprefix("--batch="))
        elif word.startswith("-"):
            self._options = with_option(self._options, word)
        else:
            self._add(word)

    def _read_included(self, name: str) -> None:
        option = f"--batch={shown(name)[1:-1]}"
        if not name or "\0" in name:
            raise RequestError(f"{option} names no file; give --batch=FILE")
        if len(self._open) == DEEPEST:
            raise RequestError(f"{option} is included through {DEEPEST} others; nest files less deeply")
        source, text = self._include(self._open[-1], name)
        if source in self._open:
            raise RequestError(f"{option} includes itself, maybe through others; leave it out")
        self.read(source, text)

    def _add(self, word: str) -> None:
        """The problems of a descriptor, one for each value of each option."""
        try:
            shape = read_shape(word)
        except NotFlatError:
            self.batch.skipped["3-D; 2-D and 1-D ones are measured"] += 1
            return
        shape["name"], own = _short(shape["name"]), shape.pop("batch")
        for dtype in self._options.dtypes:
            if dtype not in DTYPE_OF.values():
                self.batch.skipped[f"of another data type; {' and '.join(DTYPE_OF)} are measured"] += 1
                continue
            for direction in self._options.directions:
                for batch in self._options.batches:
                    how: dict[str, Any] = {"dtype": dtype, "direction": direction, "batch": batch or own}
                    self._keep(Problem(**shape, **how))

    def _keep(self, problem: Problem) -> None:
        pattern = self._options.pattern
        if pattern is not None and not pattern.search(str(problem)):
            return
        if len(self.batch.problems) == MOST_PROBLEMS:
            raise RequestError(f"more than {MOST_PROBLEMS} problems; read fewer files at a time")
        if problem.count > MOST_TIMES:
            raise RequestError(f"name={shown(problem.name)} says more than {MOST_TIMES} times; name at most as many")
        self.batch.problems.append(problem)


def _short(name: str) -> str:
    """A name of a length that problems may have, with its multiplicity."""
    if len(name) <= LONGEST_NAME:
        return name
    _, star, count = name.rpartition("*")
    end = star + count if len(count) <= len(str(MOST_TIMES)) else ""
    return name[: LONGEST_NAME - len(end)] + end
