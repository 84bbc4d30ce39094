"""Reader of batch files as benchdnn reads them: options and descriptors, divided by blanks and ends of lines.

An option holds for all descriptors after it, also where it stands in a file that `--batch=FILE` includes. `--dir`,
`--dt` and `--mb` may have several values, and then a descriptor is a problem for each. A comment begins with # where a
word could, and a backslash at the end of a word joins the next one to it. After benchdnn's `common.cpp` (`batch`),
`conv/bench_conv.cpp` and `utils/parser.hpp`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from convbench.arguments import LONGEST_NAME
from convbench.errors import RequestError, shown
from convbench.problem.notation import (
    DIRECTION_OF,
    DTYPE_OF,
    DescriptorError,
    NotFlatError,
    look_up,
    one_type,
    read_shape,
)
from convbench.problem.problem import Problem

T = TypeVar("T")
Include = Callable[[str, str], tuple[str, str]]

MOST_PROBLEMS: Final = 200_000
MOST_WORDS: Final = 2_000_000
DEEPEST: Final = 20  # files that include one another
MOST_TIMES: Final = 10**9  # that a layer occurs

OTHER_TYPES: Final = (
    *("bf16", "f16", "s32", "s8", "u8", "s4", "u4", "f8_e5m2", "f8_e4m3", "f4_e2m1", "f4_e3m0", "e8m0", "boolean"),
    *("undef", "tf32", "f64", "f32"),
)
IGNORED: Final = frozenset(
    (
        *("conv", "bia-dt", "stag", "wtag", "dtag", "strides", "alg", "impl", "skip-impl", "perf-template", "ctx-init"),
        *("ctx-exe", "attr-scales", "attr-zero-points", "attr-post-ops", "attr-scratchpad", "attr-fpmath", "attr-acc-mode"),
        *("attr-rounding-mode", "attr-deterministic", "attr-dropout", "attr-precomputed-reductions", "attr-same-pd-check"),
        *("allow-enum-tags-only", "buffer-prefix", "canonical", "check-ref-impl", "cold-cache", "cpu-isa-hints", "engine"),
        *("execution-mode", "fast-ref", "fast-ref-gpu", "fix-times-per-prb", "max-ms-per-prb", "mem-check", "memory-kind"),
        *("mode", "mode-modifier", "num-streams", "repeats-per-prb", "start", "stream-kind", "summary", "verbose"),
    )
)
"""Options that change neither shape nor dtype: layouts, what is computed besides, and how benchdnn measures."""

_WORD = re.compile(r"\S+")
_NUMBER = re.compile("[0-9]{1,18}")


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


_DESCRIPTOR = re.compile(r"((g|mb|[io]c|[iok][dhw]|[sdp][dhw])[0-9]+_?){3}")


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


@dataclass(frozen=True)
class _Options:
    """What holds for the descriptors that follow; benchdnn's defaults.

    Attributes:
        directions: Of `--dir`, each once.
        types: Of `--dt`, each once: a dtype of ours, or benchdnn's word for one that is not measured.
        batches: Of `--mb`; 0 leaves a descriptor's own.
        pattern: Of `--match`; None takes every problem.
    """

    directions: tuple[str, ...] = ("forward",)
    types: tuple[str, ...] = ("float32",)
    batches: tuple[int, ...] = (0,)
    pattern: re.Pattern[str] | None = None


class _Reader:
    """Reads files one after the other, and those that they include; options go on from one to the next."""

    def __init__(self, include: Include) -> None:
        self.batch = Batch()
        self._include = include
        self._options = _Options()
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
            raise RequestError(f"more than {MOST_WORDS} words with those of included files; read fewer files at a time")
        if not word.startswith("-"):
            self._add(word)
            return
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in _READ:
            self._options = _READ[name](self, value)
        elif not (word.startswith("--") and name in IGNORED) and not re.fullmatch("-v[0-9]*", word):
            raise RequestError(
                f"option {shown(word)} is not known; give --{', --'.join(_READ)}, or one that benchdnn's --conv has"
            )

    def _add(self, word: str) -> None:
        """The problems of a descriptor, one for each value of each option."""
        try:
            shape = read_shape(word)
        except NotFlatError:
            self.batch.skipped["3-D; problems are measured that are 2-D or 1-D"] += 1
            return
        name = _short(shape.pop("name"))
        own = shape.pop("batch")
        options = self._options
        for dtype in options.types:
            if dtype not in DTYPE_OF.values():
                self.batch.skipped[f"data type {dtype}; {' and '.join(DTYPE_OF)} are measured"] += 1
                continue
            for direction in options.directions:
                for batch in options.batches:
                    how = {"dtype": dtype, "direction": direction, "batch": batch or own, "name": name}
                    self._keep(Problem(**shape, **how))

    def _keep(self, problem: Problem) -> None:
        pattern = self._options.pattern
        if pattern is not None and not pattern.search(str(problem)):
            return
        if len(self.batch.problems) == MOST_PROBLEMS:
            raise RequestError(f"more than {MOST_PROBLEMS} problems; read fewer files at a time")
        if problem.count > MOST_TIMES:
            raise RequestError(f"name={problem.name!r} says more than {MOST_TIMES} times; name at most as many")
        self.batch.problems.append(problem)

    def _dir(self, value: str) -> _Options:
        directions = [look_up("--dir", one.upper(), DIRECTION_OF) for one in _values(value, "FWD_B")]
        return replace(self._options, directions=_each_once(directions))

    def _dt(self, value: str) -> _Options:
        return replace(self._options, types=_each_once(map(_type, _values(value, "f32"))))

    def _mb(self, value: str) -> _Options:
        batches = _values(value, "0")
        for batch in batches:
            if not _NUMBER.fullmatch(batch):
                raise RequestError(f"--mb={shown(batch)[1:-1]} is no number; give whole numbers from 0 up, such as 1,16")
        return replace(self._options, batches=_each_once(map(int, batches)))

    def _match(self, value: str) -> _Options:
        return replace(self._options, pattern=_pattern(value) if value else None)

    def _reset(self, _: str) -> _Options:
        return _Options()

    def _batch(self, value: str) -> _Options:
        if not value or "\0" in value:
            raise RequestError(f"--batch={shown(value)[1:-1]} names no file; give --batch=FILE")
        if len(self._open) == DEEPEST:
            raise RequestError(f"--batch={shown(value)[1:-1]} is nested more than {DEEPEST} deep; include fewer files")
        source, text = self._include(self._open[-1], value)
        if source in self._open:
            raise RequestError(f"--batch={shown(value)[1:-1]} is read already, by itself or through others; leave it out")
        self.read(source, text)
        return self._options


_READ: Final[Mapping[str, Callable[[_Reader, str], _Options]]] = {
    "batch": _Reader._batch,
    "dir": _Reader._dir,
    "dt": _Reader._dt,
    "cfg": _Reader._dt,  # the older name
    "mb": _Reader._mb,
    "match": _Reader._match,
    "reset": _Reader._reset,
}


def _values(value: str, default: str) -> list[str]:
    return (value or default).split(",")


def _each_once(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _type(word: str) -> str:
    """A dtype of ours, or the word for another type that benchdnn has."""
    same = one_type(word.removesuffix("_wino"))  # as --cfg had it
    if same in DTYPE_OF:
        return DTYPE_OF[same]
    for one in word.split(":"):
        look_up("--dt", one, dict.fromkeys(OTHER_TYPES))
    return word


def _short(name: str) -> str:
    """A name of a length that problems may have, with its multiplicity."""
    if len(name) <= LONGEST_NAME:
        return name
    _, star, count = name.rpartition("*")
    end = star + count if len(count) <= len(str(MOST_TIMES)) else ""
    return name[: LONGEST_NAME - len(end)] + end


def _pattern(value: str) -> re.Pattern[str]:
    """A basic regular expression as Python's, if it is simple enough to take little time on any text."""
    plain = value.removeprefix(".*").removesuffix(".*")
    if re.search(r"\\|\*.*\*|\[[^]]*(\[|--|&&|~~|\|\|)", plain):
        raise RequestError(
            f"--match={shown(value)[1:-1]} is not understood; give a pattern without \\, with one * and plain brackets"
        )
    try:
        return re.compile(re.sub(r"[(){}+?|]", r"\\\g<0>", plain))
    except re.error as error:
        raise RequestError(f"--match={shown(value)[1:-1]} is no regular expression ({error})") from None
