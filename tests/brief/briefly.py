"""For processes whose times nobody looks at: by default, sweeps measure briefly, and the machine's limits not at all.

A sweep hands its workers what it was told, so they need none of this. BRIEF_PEAKS is how often limits are measured.
"""

import os
import sys

if not {"convbench.measure.worker", "convbench.executors.pool_worker"} & set(sys.orig_argv):
    from convbench.measure.spec import Timing

    fields = Timing.__dataclass_fields__
    brief = {"min_samples": 2, "max_samples": 2, "min_seconds": 0.0, "max_warmups": 2, "wake_seconds": 0.0}
    brief["peak_repetitions"] = int(os.environ.get("BRIEF_PEAKS", "0"))
    for name, value in brief.items():
        setattr(Timing, name, value)
    Timing.peak_repetitions = 1  # for `convbench machine`, which shows nothing else
    Timing.__init__.__defaults__ = tuple(brief.get(name, fields[name].default) for name in fields)
