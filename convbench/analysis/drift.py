"""Records that were measured while the machine was slower than at its best."""

from __future__ import annotations

from collections.abc import Sequence

from convbench.results.record import DRIFT, Record


def drifted(records: Sequence[Record]) -> list[bool]:
    """For each record of a sweep, whether the fixed piece of work before it took too long.

    That is over `DRIFT` times as long as the fastest of all the records: a run that is slow from its first cell to its
    last cannot tell from its own. Records without `calibration` have not drifted.
    """
    fastest = min((record.calibration for record in records if record.calibration > 0), default=0.0)
    return [record.calibration > DRIFT * fastest for record in records]
