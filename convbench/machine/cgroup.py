"""What the control groups of this process, version 1 or 2, grant it of CPUs and memory, and what they took from it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

_OWN: Final = Path("/proc/self/cgroup")
_ROOT: Final = Path("/sys/fs/cgroup")


def cpu_quota() -> float | None:
    """Cores' worth of time that the process may use: the least that a group above it grants; None without a limit."""
    return min((quota for group in _groups("cpu") if (quota := _quota(group)) is not None), default=None)


def throttled_seconds() -> float | None:
    """CPU time that the quotas have held back so far, as the groups count it; None where they do not."""
    found = [seconds for group in _groups("cpu") if (seconds := _throttled(group)) is not None]
    return sum(found) if found else None


def free_memory() -> int | None:
    """Bytes that the process may still take: the least that a group above it leaves; None without a limit.

    What the system caches of files that nobody uses counts as free: it is given back before anything is refused.
    """
    return min((free for group in _groups("memory") if (free := _free(group)) is not None), default=None)


@cache
def _groups(controller: str) -> Iterable[Path]:
    """The directories of the groups that the process is in and that rule a resource, from its own up to the root."""
    try:
        lines = [line.split(":", 2) for line in _OWN.read_text().splitlines() if line.count(":") >= 2]
    except (OSError, ValueError):
        lines = []
    found: dict[Path, None] = {}  # each once, in this order
    for _, controllers, path in [*lines, ("", "", "/"), ("", controller, "/")]:
        if controllers == "" or controller in controllers.split(","):
            root = _ROOT / controllers
            group = root / path.strip("/")
            found |= dict.fromkeys(place for place in (group, *group.parents) if place.is_relative_to(root))
    return found


def _quota(group: Path) -> float | None:
    for name, *more in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            allowance, period = " ".join((group / each).read_text() for each in (name, *more)).split()
            if allowance.isdecimal() and int(period) > 0:
                return int(allowance) / int(period)
            return None
        except (OSError, ValueError):
            continue
    return None


def _free(group: Path) -> int | None:
    for limit, usage, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            allowed, used = ((group / name).read_text().strip() for name in (limit, usage))
        except OSError:
            continue
        if allowed.isdecimal():  # and not "max"
            return max(0, int(allowed) - int(used) + int(_counts(group / "memory.stat").get(cached, 0)))
    return None


def _throttled(group: Path) -> float | None:
    counts = _counts(group / "cpu.stat")
    try:
        if "throttled_usec" in counts:
            return int(counts["throttled_usec"]) / 1e6
        return int(counts["throttled_time"]) / 1e9 if "throttled_time" in counts else None
    except ValueError:
        return None


def _counts(file: Path) -> dict[str, str]:
    """The lines of a file of names and numbers; none where it cannot be read."""
    try:
        return dict(line.split() for line in file.read_text().splitlines() if line.strip())
    except (OSError, ValueError):
        return {}
