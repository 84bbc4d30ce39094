"""The directory of a sweep: sweep.json has the request and the machine, results.jsonl the records.

Records are appended and flushed one at a time, so that an interrupted sweep keeps all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from convbench.errors import RequestError
from convbench.results.header import SHAPE
from convbench.results.record import SCHEMA, Cell, Record
from convbench.shape import check, read

HEADER: Final = "sweep.json"
RECORDS: Final = "results.jsonl"
MISSING_RUNS: Final = 1000  # of a file from which lines were deleted, at most


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was read back.

    Attributes:
        directory: Where it lies.
        header: The content of sweep.json: "spec", "machine", "versions", "started".
        records: In the order in which they were measured.
        faults: Lines that could not be read, in words, one each.
    """

    directory: Path
    header: Mapping[str, Any]
    records: tuple[Record, ...]
    faults: tuple[str, ...] = ()


def load(directory: str | Path) -> Sweep:
    """Read a sweep; a torn last line is ignored, any other line that cannot be used is named in `faults`.

    Of several lines for one cell of one run the first is used.

    Raises:
        RequestError: The directory holds no sweep, or one of another version.
    """
    directory = Path(directory)
    header = _read_header(directory)
    try:
        lines = (directory / RECORDS).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = [b""]
    except OSError as error:
        raise RequestError(f"{directory / RECORDS} cannot be read ({error.strerror}); make it readable") from None
    records, first, faults = list[Record](), dict[tuple[int, Cell], int](), list[str]()
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = Record.from_json(line)
        except ValueError as error:
            fault = str(error)
        else:
            place = first.setdefault((record.run, record.cell), number)
            if place != number:
                fault = f"is of the same cell and run as line {place}, which is used"
            elif record.run >= len(lines) + MISSING_RUNS:  # every run before it has a line
                fault = f"is of run {record.run}, and so many there cannot be"
            else:
                records.append(record)
                continue
        faults.append(f"{directory / RECORDS} line {number} cannot be used: it {fault}")
    return Sweep(directory, header, tuple(records), tuple(faults))


def newest(directory: Path) -> Path:
    """The latest sweep below a directory.

    Raises:
        RequestError: There is none.
    """
    found = sorted(directory.glob(f"*/{HEADER}"), key=lambda header: header.stat().st_mtime)
    if not found:
        raise RequestError(f"{directory}/ holds no sweep; run convbench sweep first, or give the sweep's directory")
    return found[-1].parent


def holds_sweep(directory: Path) -> bool:
    """Whether a directory holds a sweep, finished or not."""
    return (directory / HEADER).exists() or (directory / RECORDS).exists()


def holds_records(directory: Path) -> bool:
    """Whether a directory holds a sweep with records."""
    try:
        return holds_sweep(directory) and (directory / RECORDS).stat().st_size > 0
    except OSError:
        return False


class Store:
    """A sweep's directory, open for appending; one process at a time.

    Use it as a context manager. `create` starts a new sweep, `reopen` continues one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file: FileIO
        try:
            self._file = (directory / RECORDS).open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(directory, error) from None
        _lock(self._file, directory)

    @classmethod
    def create(cls, directory: str | Path, header: Mapping[str, Any]) -> Self:
        """Start a sweep in a directory, which is created if missing.

        Raises:
            RequestError: The directory holds a sweep, or cannot be written.
        """
        directory = Path(directory)
        taken = RequestError(
            f"{directory} holds another sweep; choose another --output, or go on with that one by --resume"
        )
        if holds_sweep(directory):
            raise taken
        made = not directory.exists()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(directory, error) from None
        store = cls(directory)  # which locks it
        try:
            if (directory / HEADER).exists():
                raise taken
            _write_header(directory, header)
        except OSError as error:
            (directory / RECORDS).unlink(missing_ok=True)  # it is empty, and without a header no sweep
            if made:
                with contextlib.suppress(OSError):  # another program has put a file there
                    directory.rmdir()
            store.close()
            raise _unwritable(directory, error) from None
        except RequestError:
            store.close()
            raise
        return store

    @classmethod
    def reopen(cls, directory: str | Path) -> tuple[Self, Sweep]:
        """Continue a sweep: cut off a torn last line, and return the store and the sweep so far.

        Raises:
            RequestError: The directory holds no sweep, or another process is writing to it.
        """
        directory = Path(directory)
        _read_header(directory)
        store = cls(directory)
        content = (directory / RECORDS).read_bytes()
        store._file.truncate(content.rfind(b"\n") + 1)
        return store, load(directory)

    def write_header(self, header: Mapping[str, Any]) -> None:
        """Replace the header.

        Raises:
            RequestError: It cannot be written; the old one stays.
        """
        try:
            _write_header(self.directory, header)
        except OSError as error:
            raise _unwritable(self.directory, error) from None

    def append(self, record: Record) -> None:
        """Write one record and flush it to disk.

        Raises:
            RequestError: It cannot be written, as on a full disk; earlier records stay.
        """
        line = record.to_json().encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fdatasync(self._file.fileno()) if hasattr(os, "fdatasync") else os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise RequestError(
                f"{self.directory / RECORDS} cannot be written ({error.strerror}); what was measured before is in it: "
                "make room and go on with --resume"
            ) from None

    def close(self) -> None:
        """Flush to disk and unlock."""
        with self._file:
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_header(directory: Path, header: Mapping[str, Any]) -> None:
    """Write the header atomically."""
    draft = directory / f"{HEADER}.draft"
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"schema": SCHEMA, **header}, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(directory / HEADER)
    finally:
        draft.unlink(missing_ok=True)


def _read_header(directory: Path) -> Mapping[str, Any]:
    where = directory / HEADER
    try:
        header = read(where.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(
            f"{directory} holds no sweep ({HEADER} is missing); give the directory that convbench sweep wrote"
        ) from None
    except OSError as error:
        raise RequestError(f"{where} cannot be read ({error.strerror}); make it readable") from None
    except ValueError as error:
        raise RequestError(f"{where} cannot be read: it {error}; measure again into another directory") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA or "spec" not in header:
        raise RequestError(f"{where} is not of schema {SCHEMA}; use the convbench that wrote it")
    try:
        check(header, SHAPE, "")
    except ValueError as error:
        raise RequestError(f"{where} cannot be used: it {error}; mend it, or measure into another directory") from None
    return header


def _lock(file: FileIO, directory: Path) -> None:
    """Lock out other processes; the system releases the lock when this process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system, which has no such lock
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise RequestError(f"{directory} is being written by another sweep; wait for it, or choose another") from None


def _unwritable(directory: Path, error: OSError) -> RequestError:
    if directory.is_file():
        return RequestError(f"{directory} is a file; give a directory as --output")
    return RequestError(f"{directory} cannot be written ({error.strerror}); choose another --output")
