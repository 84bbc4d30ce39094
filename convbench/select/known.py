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
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
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
from convbench.select.model import Model

MODEL: Final = "model.json"
KNOWN: Final = "known.json"
MEASURED: Final = "measured.jsonl"
DEFAULT: Final = Path(__file__).with_name("default.json")
LARGEST: Final = 2**25  # bytes of a file that is read

Seconds = Mapping[str, Mapping[str, float]]
"""Seconds of each contender, by problem and by name."""


@dataclass(frozen=True)
class Known:
    """What a choice can rest upon.

    Attributes:
        model: The model; None where there is none at all.
        is_default: Whether the model is the one that comes with the package, learned on other machines.
        seconds: What was measured here.
    """

    model: Model | None
    is_default: bool
    seconds: Seconds = field(default_factory=dict)


@cache
def fingerprint() -> dict[str, Any]:
    """What a measurement depends on: the processor as it is compiled for, its caches, and the code of the forms."""
    return {
        "cpu": machine.cpu_name(),
        "vectors": instruction_set().name,
        "caches": machine.caches(),
        "forms": digest(*MADE_OF),
    }


def folder() -> Path:
    """The folder of this machine in the user's data folder; it need not exist."""
    facts = {name: value for name, value in fingerprint().items() if name != "forms"}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return _home() / f"machine-{name}"


def _home() -> Path:
    """The folder of all machines."""
    return platformdirs.user_data_path("convbench", appauthor=False)


def load() -> Known:
    """What is known of this machine; files that cannot be used are named in a warning."""
    if not _home().is_dir():  # nothing was ever measured; the fingerprint takes milliseconds
        return Known(_usable(DEFAULT, written.model_from, own=False), is_default=True)
    place = folder()
    seconds = _usable(place / KNOWN, written.seconds_from) or {}
    if (model := _usable(place / MODEL, written.model_from)) is not None:
        return Known(model, is_default=False, seconds=seconds)
    return Known(_usable(DEFAULT, written.model_from, own=False), is_default=True, seconds=seconds)


def _usable(path: Path, read: Any, *, own: bool = True) -> Any:
    """What `read` makes of a file; None if it is not there, or not usable."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"has more than {LARGEST} bytes")  # noqa: TRY301
        return read(path.read_bytes(), fingerprint() if own else None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        warnings.warn(
            f"{path} is not used: it {what or 'cannot be read'}; convbench tune writes a new one",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def save(name: str, content: Mapping[str, Any]) -> Path:
    """Write a JSON file of this machine's folder, at once or not at all.

    Raises:
        UnavailableError: It cannot be written.
    """
    path = folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
