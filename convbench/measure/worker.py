"""What a fresh process of a sweep runs: a run's cells in the given order, or the limits of the cores or of the GPU.

Started by `interpreter.command`. The first line of its input is the job as JSON; every line of its output is a record,
or the limits. It ends as soon as its input is closed, so that it never outlives the sweep, and before it has measured
every cell if the GPU is lost to this process: then another process measures the rest.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TextIO

DROPPED_METADATA = ("hostname", "python_executable", "python_cflags", "python_config_args", "python_compiler")


LIMITS: Final = {
    "peaks": "convbench.measure.peaks:measure_peaks",
    "gpu_peaks": "convbench.measure.gpu_peaks:measure_gpu_peaks",
}
"""Jobs that are answered in one line: their name, which has the arguments, and the function that measures."""


def main() -> None:
    """Measure the job on standard input."""
    records = _take_over_stdout()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_sweep, daemon=True).start()

    for name, place in LIMITS.items():
        if name in job:
            print(json.dumps(_function(place)(**job[name])), file=records, flush=True)
            return

    from convbench.measure.cell import Laboratory
    from convbench.measure.spec import Spec

    laboratory = Laboratory(Spec.from_json(job["spec"]), job["run"], metadata())
    for order, cell in job["cells"]:
        print(laboratory.measure(order, tuple(cell)).to_json(), file=records, flush=True)
        if not laboratory.usable:
            return


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _take_over_stdout() -> TextIO:
    """A private handle on standard output; whatever else prints goes to standard error."""
    records = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return records


def _leave_with_the_sweep() -> None:
    """Wait for the end of the input, which comes when the sweep is gone, however it went."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def metadata() -> dict[str, Any]:
    """Pyperf's description of this process and its machine, less names, paths and how Python was built."""
    import pyperf

    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    return {key: value for key, value in metadata.items() if key not in DROPPED_METADATA}


if __name__ == "__main__":
    main()
