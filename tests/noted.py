"""A set-up of processes that compute, which leaves a note; workers import this module."""

from __future__ import annotations

import os
from pathlib import Path

NOTES = "CONVBENCH_TEST_NOTES"  # names the file


def note() -> None:
    """Note that this process was set up."""
    with Path(os.environ[NOTES]).open("a") as notes:
        notes.write(f"{os.getpid()}\n")
