"""Measure briefly; and the worker of one run waits before one of its cells, until a file says that it may go on."""

import os
import sys
import time
from pathlib import Path

import briefly  # noqa: F401

if "convbench.measure.worker" in sys.orig_argv and "GATE" in os.environ:
    from convbench.measure.cell import Laboratory

    gate, (run, place) = Path(os.environ["GATE"]), map(int, os.environ["GATE_AT"].split(":"))
    measure = Laboratory.measure

    def measure_or_wait(self, order, cell):
        if (self._run, order) == (run, place) and not (gate / "open").exists():
            (gate / "unfinished").write_text(str(os.getpid()))
            (gate / "unfinished").rename(gate / "reached")
            while not (gate / "open").exists():
                time.sleep(0.02)
        return measure(self, order, cell)

    Laboratory.measure = measure_or_wait
