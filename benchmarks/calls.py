"""What a call costs beside the computation: `python -m benchmarks.calls`.

A layer of 4 filters of 3 x 3 over 8 x 8 pixels, as the executor's runner computes it, as a plan does, as a `Conv2d`,
and as `conv2d` with weights that cannot change and with others, in turns; and the seconds that a fresh process takes
from `import convbench` to its first result.
"""

import statistics
import subprocess
import sys
from functools import partial

import numpy as np

from benchmarks.in_turns import fastest
from convbench import Conv2d, conv2d
from convbench.plans import Candidate, Plan
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.terminal import show_table

PROBLEM = Problem(height=8, width=8, out_channels=4, kernel_height=3, kernel_width=3)
ALGORITHM = "direct"
CORES = (1, 2)
PROCESSES = 10
START = """
import time
begin = time.perf_counter()
import convbench
import numpy as np
x, w = np.ones((3, 56, 56), "f4"), np.ones((8, 3, 3, 3), "f4")
arrays = time.perf_counter()
convbench.conv2d(x, w)
print(arrays - begin, time.perf_counter() - begin)
"""


def calls(cores: int) -> dict[str, float]:
    """Seconds of one call in each way."""
    x, out = np.ones(PROBLEM.input_shape, "float32"), np.empty(PROBLEM.output_shape, "float32")
    changing = np.ones(PROBLEM.weights_shape, "float32")
    fixed = changing.copy()
    fixed.setflags(write=False)
    candidate = Candidate(ALGORITHM, "serial" if cores == 1 else "threads", cores)
    layer = Conv2d(fixed, cores=cores, algorithm=ALGORITHM)
    compute = partial(conv2d, cores=cores, algorithm=ALGORITHM)
    with Plan(PROBLEM, fixed, candidate) as plan:
        runner = plan._runner  # noqa: SLF001  # what a plan adds to it is a question here
        return fastest(
            {
                "the executor's runner": lambda: runner(x, out),
                "plan(x, out)": lambda: plan(x, out),
                "Conv2d: layer(x, out)": lambda: layer(x, out),
                "conv2d, weights that cannot change": lambda: compute(x, fixed, out=out),
                "conv2d, the same with a stride of (1, 1)": lambda: compute(x, fixed, stride=(1, 1), out=out),
                "plan(x)": lambda: plan(x),
                "Conv2d: layer(x)": lambda: layer(x),
                "conv2d, weights that may change": lambda: compute(x, changing, out=out),
            }
        )


def starts() -> list[tuple[float, float]]:
    """Seconds from `import convbench` to the arrays and to the first result, in fresh processes."""
    words = [sys.executable, "-c", START]
    found = [subprocess.run(words, capture_output=True, text=True, check=True).stdout for _ in range(PROCESSES + 1)]
    return [(float(arrays), float(result)) for arrays, result in map(str.split, found[1:])]  # the first one compiles


def main() -> None:
    """Print both tables."""
    every = {cores: calls(cores) for cores in CORES}
    headings = [Column("call"), *(Column(f"{cores} core{'s' * (cores > 1)}", ".2f") for cores in CORES)]
    rows: list[list[Value]] = [[name, *(1e6 * every[cores][name] for cores in CORES)] for name in every[CORES[0]]]
    show_table(Table("calls", "What a call takes, microseconds", headings, rows))
    for what, seconds in zip(("NumPy and the arrays", "the first result"), zip(*starts(), strict=True), strict=True):
        print(f"from import to {what}: {min(seconds):.3f} s at best, median {statistics.median(seconds):.3f}")


if __name__ == "__main__":
    main()
