"""What was measured while the machine was slower than at its best."""

from __future__ import annotations

from collections.abc import Sequence

from convbench.results.record import DRIFT, Record


def drifted(records: Sequence[Record]) -> list[bool]:
    """For each record of a sweep, whether a fixed piece of work took too long before it.

    That is over `DRIFT` times as long as the fastest before any of the records: a run that is slow from its first cell
    to its last does not see it in its own. Records that have no `calibration` are not said to.
    """
    fastest = min((record.calibration for record in records if record.calibration > 0), default=0.0)
    return [record.calibration > DRIFT * fastest for record in records]
