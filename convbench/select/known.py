"""What is known of this machine: its model and what was measured, read from the user's data folder.

For each kind of machine there is a folder with three files:

- measured.jsonl: every measurement, a line each, appended as it is made;
- known.json: seconds of each contender on each measured problem, a summary of the former;
- model.json: the model that was fitted to it.

Files are data of whoever can write them: a file that is damaged, of another schema or of another machine is named in a
warning, and the model that comes with the package is used. Nothing in them is ever executed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import platformdirs

from convbench import machine
from convbench.errors import UnavailableError
from convbench.kernels.tile import MADE_OF
from convbench.kernels.vector import instruction_set
from convbench.runtime.sources import digest
from convbench.select import written
from convbench.select.contenders import ON_HOST, candidate_of
from convbench.select.model import Model

MODEL: Final = "model.json"
KNOWN: Final = "known.json"
MEASURED: Final = "measured.jsonl"
DEFAULT: Final = Path(__file__).with_name("default.json")
LARGEST: Final = 2**25  # bytes of a file that is read
LEARNED: Final = "the model that comes with convbench, learned on other machines; convbench tune learns this one"
SAFE: Final = "direct"  # its work is that of the problem itself, whatever its shape
NO_WAITING: Final = getattr(os, "O_NONBLOCK", 0)  # for whoever might write to a pipe

Seconds = Mapping[str, Mapping[str, float]]
"""Seconds of each contender, by problem and by name."""


@dataclass(frozen=True)
class Known:
    """What a choice can rest upon.

    Attributes:
        model: The model; None where there is none at all.
        is_default: Whether the model is the one that comes with the package, learned on other machines.
        seconds: What was measured here.
        further: A model of other machines, for candidates that `model` does not know.
        learned: Where the default model comes from, and how to get a better one.
        safe: The form that is preferred outside of what was measured.
    """

    model: Model | None
    is_default: bool
    seconds: Seconds = field(default_factory=dict)
    further: Model | None = None
    learned: str = LEARNED
    safe: str = SAFE


@cache
def fingerprint() -> dict[str, Any]:
    """What a measurement depends on: the processor as it is compiled for, its caches, and the code that computes."""
    return {
        "cpu": machine.cpu_name(),
        "vectors": instruction_set().name,
        "caches": machine.caches(),
        "forms": digest(*MADE_OF, "executors"),
    }


def folder() -> Path:
    """The folder of this machine in the user's data folder; it need not exist."""
    facts = {name: value for name, value in fingerprint().items() if name != "forms"}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return _home() / f"machine-{name}"


def _home() -> Path:
    """The folder of all machines."""
    return platformdirs.user_data_path("convbench", appauthor=False)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def load(complain: Callable[[str], None] = _warn) -> Known:
    """What is known of this machine; `complain` is called for each file that cannot be used."""
    if not os.path.isdir(_home()):  # noqa: PTH112  # nothing was measured; unlike `Path.is_dir`, it never raises
        return Known(usable(DEFAULT, written.model_from, complain, own=False), is_default=True)
    place = folder()
    seconds = usable(place / KNOWN, written.seconds_from, complain) or {}
    model = usable(place / MODEL, written.model_from, complain)
    if model is not None and not _lacks_executor(model):
        return Known(model, is_default=False, seconds=seconds)
    default = usable(DEFAULT, written.model_from, complain, own=False)
    if model is None:
        return Known(default, is_default=True, seconds=seconds)
    return Known(model, is_default=False, seconds=seconds, further=default)


def _lacks_executor(model: Model) -> bool:
    """Whether nothing was measured on one of the executors, as where one core was allowed."""
    known = {candidate.executor for name in model.rates if (candidate := candidate_of(name)) is not None}
    return not known >= set(ON_HOST)


def usable(path: Path, read: Any, complain: Callable[[str], None], *, own: bool = True) -> Any:
    """What `read` makes of a file; None if it is not there, or if it is not usable, which `complain` is told."""
    try:
        return read(content(path, LARGEST), fingerprint() if own else None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        what = "" if isinstance(error, OSError) else str(error)
        reason = getattr(error, "strerror", "") or type(error).__name__
        complain(f"{path} is not used: it {what or f'cannot be read ({reason})'}; convbench tune writes a new one")
        return None


def content(path: Path, most: int) -> bytes:
    """The content of a file of the user's data folder.

    Raises:
        OSError: It cannot be read.
        ValueError: It has more than `most` bytes, or is a pipe or a device, which might have no end; the message
            continues "it".
    """
    _check_absolute(path)
    # Path.open takes no opener.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAITING)) as file:
        if not stat.S_ISREG((status := os.fstat(file.fileno())).st_mode):
            raise ValueError("is no regular file")
        if status.st_size > most:
            raise ValueError(f"has more than {most} bytes")
        return file.read(most)


def make_folder_of(path: Path) -> None:
    """Make the folder of a file of the user's data folder.

    Raises:
        OSError: It cannot be made.
    """
    _check_absolute(path)
    path.parent.mkdir(parents=True, exist_ok=True)


def _check_absolute(path: Path) -> None:
    """A user without a home folder has no data folder; "~" would be looked for in the current folder."""
    if not path.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "the path is relative; set HOME or XDG_DATA_HOME to an absolute path")


def save(name: str, content: Mapping[str, Any]) -> Path:
    """Write a JSON file of this machine's folder, at once or not at all.

    Raises:
        UnavailableError: It cannot be written.
    """
    path = folder() / name
    try:
        make_folder_of(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{name}-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(content, file, separators=(",", ":"), allow_nan=False)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written ({error.strerror or error})") from None
    return path
