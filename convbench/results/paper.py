"""The multicore experiment's published times as records, for the same tables and figures as ours.

Pandey, Nagwani and Verma: 128 kernels of 11 x 11 over a 1280 x 720 grayscale image in Java threads, one to eight cores
of a 2.4 GHz Opteron 6136, ten runs each.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from convbench.problem import Problem
from convbench.results.record import Record
from convbench.results.store import Sweep

PROBLEM: Final = Problem(height=720, width=1280, out_channels=128, kernel_height=11, kernel_width=11, name="multicore")
ALGORITHM: Final = "paper"
EXECUTOR: Final = "Java threads"

ERRATA: Final = (
    "The paper prints an average of 49.0664 s on two cores; its ten runs add up to 490.634 s, not 490.664 s, so the "
    "average is 49.0634 s.",
    "After that slip it prints a speedup of 1.934 from two to four cores; from its runs it is 1.933.",
    "It prints 3.385 from one to four cores, cut off rather than rounded; it is 3.3855.",
)


def multicore_experiment() -> Sweep:
    """The paper's table of execution times as a sweep of forty records."""
    with Path(__file__).with_name("multicore_experiment.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    records = tuple(
        Record(
            run=int(row["run"]) - 1,
            order=order,
            problem=str(PROBLEM),
            algorithm=ALGORITHM,
            executor=EXECUTOR,
            cores=int(column.removeprefix("cores_")),
            status="ok",
            samples=(float(seconds),),
        )
        for row in rows
        for order, (column, seconds) in enumerate((c, s) for c, s in row.items() if c.startswith("cores_"))
    )
    return Sweep(Path(__file__).parent, {}, records)
