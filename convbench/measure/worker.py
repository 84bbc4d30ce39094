"""What a fresh process of a sweep runs: a run's cells in the order it is told, or the machine's or the card's limits.

Started by `interpreter.command`. The first line of its input is the job as JSON; every line of its
output is a record, or the limits. It ends as soon as its input is closed, so that it never outlives the sweep, and
before it has measured every cell if a device is lost to this process: then another one measures the rest.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

DROPPED_METADATA = ("hostname", "python_executable", "python_cflags", "python_config_args", "python_compiler")


def main() -> None:
    """Measure the job on standard input."""
    records = _take_over_stdout()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_sweep, daemon=True).start()

    if "peaks" in job:
        from convbench.measure.peaks import measure_peaks

        print(json.dumps(measure_peaks(**job["peaks"])), file=records, flush=True)
        return

    if "gpu_peaks" in job:
        from convbench.measure.gpu_peaks import measure_gpu_peaks

        print(json.dumps(measure_gpu_peaks(**job["gpu_peaks"])), file=records, flush=True)
        return

    from convbench.measure.cell import Laboratory
    from convbench.measure.spec import Spec

    laboratory = Laboratory(Spec.from_json(job["spec"]), job["run"], _metadata())
    for order, cell in job["cells"]:
        print(laboratory.measure(order, tuple(cell)).to_json(), file=records, flush=True)
        if not laboratory.usable:
            return


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


def _metadata() -> dict[str, Any]:
    """Pyperf's description of this process and its machine, less names, paths and how Python was built."""
    import pyperf

    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    return {key: value for key, value in metadata.items() if key not in DROPPED_METADATA}


if __name__ == "__main__":
    main()
