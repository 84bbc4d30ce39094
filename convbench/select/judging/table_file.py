"""Reading of a table of times from a CSV file that anybody may have written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from convbench.errors import RequestError, shown
from convbench.problem import Problem
from convbench.select.judging.table import Table
from convbench.shape import DESCRIPTOR, SECONDS

PROBLEM: Final = "problem"
DELIMITERS: Final = (",", ";", "\t")
DECIMAL_COMMA: Final = (";", "\t")
"""Delimiters beside which a number may be written with a comma, as spreadsheets of many countries do."""
MOST_ROWS: Final = 20_000
MOST_CANDIDATES: Final = 200
MOST_BYTES: Final = 2**26
LONGEST_NAME: Final = 100  # characters of a candidate's name


def read_table(path: Path) -> Table:
    """Read a CSV file: a column `problem` in benchdnn's notation, and a column of seconds for each candidate.

    Columns are separated by commas, semicolons or tabs. A cell that is empty, `nan` or `inf` says that the candidate
    cannot compute the problem, or was not measured. Rows of the same problem are measurements of one row, of which each
    cell is the median. A row without any time is left out.

    Raises:
        RequestError: The file cannot be read; the error names the line and the column.
    """
    times: dict[Problem, dict[str, list[float]]] = {}
    candidates: tuple[str, ...] = ()
    for number, (problem, row) in enumerate(_rows(_text(path), path)):
        if number >= MOST_ROWS:
            raise RequestError(f"{path} has over {MOST_ROWS} rows; give a sample of them")
        candidates = candidates or tuple(row)
        known = times.setdefault(problem, {name: [] for name in row})
        for name, seconds in row.items():
            known[name] += [seconds] if math.isfinite(seconds) else []
    table = Table.of(times, candidates)
    if not table.problems:
        raise RequestError(f"{path} has no time; add a row for each problem, such as: mb1ic3ih9oc4kh3,0.002,0.003")
    return table


def _text(path: Path) -> str:
    """The content of the file."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); give a CSV file of times") from None
    if len(content) > MOST_BYTES:
        raise RequestError(f"{path} has over {MOST_BYTES} bytes; give a sample of its rows")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RequestError(f"{path} line {line} is not text in UTF-8; save it as CSV in UTF-8") from None


def _rows(text: str, path: Path) -> Iterator[tuple[Problem, dict[str, float]]]:
    """The problem of each row, and the seconds of each candidate."""
    delimiter = _delimiter(text)
    header: list[str] = []
    for line, fields in _lines(text, path, delimiter):
        where = f"{path} line {line}"
        if header:
            yield _row(header, fields, where, decimal_comma=delimiter in DECIMAL_COMMA)
        else:
            header = _header(fields, where)
    if not header:
        raise RequestError(f"{path} is empty; its first line names the columns: {PROBLEM}, and each candidate")


def _lines(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty, and the number of the line in which they begin."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        begin = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise RequestError(f"{path} line {begin} cannot be read as CSV ({error}); mend the line") from None
        if any(map(str.strip, fields)):
            yield begin, fields


def _delimiter(text: str) -> str:
    """The delimiter that the first line with anything in it has most of."""
    first = io.StringIO(text.lstrip()[:1_000_000], newline="").readline()
    return max(DELIMITERS, key=first.count)


def _header(fields: Sequence[str], where: str) -> list[str]:
    """Names of the columns."""
    names = [name.strip() for name in fields]
    names = [PROBLEM if name.casefold() == PROBLEM else name for name in names]
    if names.count(PROBLEM) != 1:
        raise RequestError(
            f"{where} has {names.count(PROBLEM) or 'no'} column{'s' * (names.count(PROBLEM) > 1)} {PROBLEM!r} among "
            f"{shown(', '.join(names))}; name the column of descriptors {PROBLEM!r}"
        )
    if not 2 <= len(names) <= MOST_CANDIDATES + 1:  # before what takes time where there are very many
        raise RequestError(f"{where} has {len(names) - 1} candidates; give 1 to {MOST_CANDIDATES}")
    for column, name in enumerate(names, 1):
        if not name or not name.isprintable() or len(name) > LONGEST_NAME:
            raise RequestError(
                f"{where} names column {column} {shown(name)}; name it in 1 to {LONGEST_NAME} printable characters, "
                "or delete it"
            )
        if names.count(name) > 1:
            raise RequestError(f"{where} has several columns {shown(name)}; give each candidate a name of its own")
    return names


def _row(
    header: Sequence[str], fields: Sequence[str], where: str, *, decimal_comma: bool
) -> tuple[Problem, dict[str, float]]:
    """One row."""
    if len(fields) != len(header):
        raise RequestError(
            f"{where} has {len(fields)} cells where the header has {len(header)}; mend the line "
            '(a descriptor with quotes is written as "...n""name""")'
        )
    cells = dict(zip(header, map(str.strip, fields), strict=True))
    problem = _problem(cells.pop(PROBLEM), where)
    return problem, {
        name: _seconds(text, f"{where}, column {name}", decimal_comma=decimal_comma) for name, text in cells.items()
    }


def _problem(text: str, where: str) -> Problem:
    try:
        problem = Problem.parse(text)
    except RequestError as error:
        raise RequestError(f"{where}, column {PROBLEM}: {error}") from None
    if not DESCRIPTOR.fits(str(problem)):
        raise RequestError(f"{where}, column {PROBLEM}: {shown(text)} is beyond any machine; give a smaller one")
    return problem


def _seconds(text: str, where: str, *, decimal_comma: bool) -> float:
    """Seconds; NaN where there are none."""
    try:
        seconds = _number(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        raise RequestError(f"{where}: {shown(text)} is no number; give seconds, or nothing where it cannot") from None
    if not math.isfinite(seconds) and seconds != -math.inf:
        return math.nan
    if not SECONDS.fits(seconds):
        raise RequestError(
            f"{where}: {shown(text)} is not allowed; give seconds from 1e-12 to 1e9, or nothing where it cannot"
        )
    return seconds


def _number(text: str) -> float:
    """The number that a cell holds; NaN if it holds nothing."""
    if "_" in text:  # which Python allows, and no other program writes
        raise ValueError(text)
    return float(text) if text else math.nan
