"""The most memory that this process has held since a moment: what its page tables say, where the system tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_RESET_PEAK: Final = "5"  # see proc_pid_clear_refs(5)
_LINE: Final = r"^{}:\s*(\d+) kB$"


class Peak:
    """Begins to watch this process where it is made; processes cannot watch one another so."""

    def __init__(self) -> None:
        try:
            (_PROC / "self/clear_refs").write_text(_RESET_PEAK)
            self._known = True
        except OSError:  # no such file, or not to be written to
            self._known = False

    def bytes(self, pids: Iterable[int] = ()) -> int | None:
        """The most bytes that lay in memory since, and what the processes `pids` have for themselves now.

        None where the system does not tell it.
        """
        peak = status("self", "VmHWM") if self._known else None
        return None if peak is None else peak + sum(status(pid, "RssAnon") or 0 for pid in pids)


def status(process: int | str, name: str) -> int | None:
    """An amount of memory in a process's status, in bytes; None if it is not there."""
    try:
        text = (_PROC / str(process) / "status").read_text()
    except OSError:
        return None
    match = re.search(_LINE.format(name), text, re.MULTILINE)
    return None if match is None else int(match[1]) * 1024
