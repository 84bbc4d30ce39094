"""How often a comparison in turns is right: of a version with itself, and with one that does 5 % more work.

python -m benchmarks.verdicts [--pairs 20] [--runs 12] [--part same] [--part slower] [--output DIR] [--again]

Every pair is a sweep as `convbench sweep --against` measures it, of ten cells of two to four milliseconds. The other
version is this one as well, in the environment of a script that stands for another interpreter. For the part "slower",
that environment has a sitecustomize.py by which every call on the serial executor computes a twentieth of its units
twice. Exits 1 if more than 5 % of the first part are called different, or less than 90 % of the second are found.
`--output` keeps the sweeps; `--again` measures nothing and compares those that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from convbench.analysis.compare import Comparison, compare
from convbench.analysis.evidence import InTurns
from convbench.analysis.statistics import geometric_mean
from convbench.measure.spec import Spec, make_spec
from convbench.measure.turns import AGAINST, RUNS, TIMING, run_in_turns
from convbench.report.content import Column, Table
from convbench.results.store import load
from convbench.terminal import show_table

ALGORITHMS = ("direct", "unrolled")  # their scratch stays in a core's own cache, so neighbours cost them time alone
PROBLEMS = (  # 20 or 40 units of work each, so that a twentieth is whole ones
    "mb1ic2ih90iw110oc48kh11kw11",
    "mb1ic3ih90iw110oc48kh11kw11",
    "mb1ic4ih90iw110oc48kh11kw11",
    "mb1ic8ih120iw120oc32kh5kw5",
    "mb1ic16ih120iw120oc16kh5kw5",
)
BRIEFLY = dataclasses.replace(TIMING, min_seconds=0.06, max_warmups=3, peak_repetitions=0)
MORE = 0.05
ALLOWED_FALSE, ASKED_FOUND = 0.05, 0.9
PARTS = {"same": "same code", "slower": f"{MORE:.0%} more work"}

SITECUSTOMIZE = f"""
import dataclasses
from convbench.executors.serial import Serial

class MoreWork:
    '''A runner that computes some of its units twice: of so many calls, as many as make {MORE:.0%}.'''

    def __init__(self, compute, more, each):
        self._compute, self._more, self._each, self._owed = compute, more, each, 0.0

    def __call__(self, x, out):
        self._compute(x, out)
        self._owed += self._each
        units = int(self._owed + 1e-9)
        self._owed -= units
        if units:
            self._more[units](x, out)

    def __getattr__(self, name):
        return getattr(self._compute, name)

open_runner = Serial.open

def open_busier(self, work, cores):
    [phase] = work.phases
    each = {MORE} * phase.units
    counts = range(max(1, int(each)), int(each) + 2)
    more = {{}}
    for units in counts:
        longer = dataclasses.replace(work, phases=(dataclasses.replace(phase, units=units),))
        more[units] = open_runner(self, longer, cores)
    return MoreWork(open_runner(self, work, cores), more, each)

Serial.open = open_busier
"""


def spec(seed: int, runs: int) -> Spec:
    """What a pair measures."""
    asked = make_spec(PROBLEMS, algorithms=ALGORITHMS, executors=("serial",), cores=(1,), runs=runs, seed=seed)
    return dataclasses.replace(asked, timing=BRIEFLY)


def interpreter(directory: Path, part: str) -> Path:
    """A script that starts this Python in the environment of one of the parts."""
    site = directory / f"site-{part}"
    site.mkdir(parents=True, exist_ok=True)
    if part == "slower":
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    script = site / "python"
    root = Path(__file__).absolute().parents[1]
    script.write_text(f"#!/bin/sh\nPYTHONPATH='{site}:{root}' exec '{sys.executable}' \"$@\"\n")
    script.chmod(0o755)
    return script


def compared(directory: Path) -> list[Comparison]:
    """This version is the first, the other one the second."""
    return compare(load(directory).records, load(directory / AGAINST).records, in_turns=True)


def row(name: str, found: Sequence[Comparison]) -> list[str | float]:
    """How often each verdict was given, and the geometric mean of the ratios."""
    verdicts = Counter(one.verdict for one in found)
    counts = [verdicts[verdict] for verdict in ("faster", "slower", "no difference seen", "cannot tell")]
    return [name, len(found), *counts, geometric_mean([one.ratio.value for one in found]).value]


def spread(found: Sequence[Comparison]) -> float:
    """Median over cells of how far half of the runs' ratios are from the cell's."""
    ratios = [np.diff(one.evidence.times, axis=0)[0] for one in found if isinstance(one.evidence, InTurns)]
    return statistics.median(float(np.median(abs(each - np.median(each)))) for each in ratios)


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description="How often a comparison in turns is right.")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: both")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--again", action="store_true", help="measure nothing, compare what is in --output")
    asked = parser.parse_args()
    found: dict[str, list[Comparison]] = {part: [] for part in asked.part or PARTS}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        directory = (asked.output or Path(temporary)).absolute()
        for pair, part in itertools.product(range(asked.pairs), found):
            where = directory / f"{part}-{pair}"
            if not asked.again:
                run_in_turns(spec(pair, asked.runs), where, str(interpreter(directory, part)))
            new = compared(where)
            found[part] += new
            counts = Counter(one.verdict for one in new)
            verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
            minutes = f"{(time.monotonic() - began) / 60:.1f} min"
            print(f"{minutes}: {part} {pair + 1} of {asked.pairs}: {verdicts}", file=sys.stderr, flush=True)
    sys.exit(show(found, asked.runs))


def show(found: dict[str, list[Comparison]], runs: int) -> int:
    """The counts of verdicts; 1 if there are more wrong ones than there may be."""
    columns = [Column("other version"), Column("comparisons", "d")]
    columns += [Column(title, "d") for title in ("faster", "slower", "no difference", "cannot tell")]
    rows = [row(PARTS[part], comparisons) for part, comparisons in found.items()]
    cells = len(ALGORITHMS) * len(PROBLEMS)
    title = f"verdicts on the other version: {cells} cells, {runs} runs in turns"
    show_table(Table("verdicts", title, [*columns, Column("ratio", ".4f")], rows))
    verdicts = [judged(part, comparisons) for part, comparisons in found.items()]
    for _, line in verdicts:
        Console().print(line)
    return int(not all(right for right, _ in verdicts))


def judged(part: str, found: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether verdicts are as often right as is asked for, and a line that says so."""
    if part == "same":
        share = statistics.fmean(one.verdict in ("faster", "slower") for one in found)
        right, said = share <= ALLOWED_FALSE, f"called different, at most {ALLOWED_FALSE:.0%} asked for"
    else:
        share = statistics.fmean(one.verdict == "slower" for one in found)
        right, said = share >= ASKED_FOUND, f"found, at least {ASKED_FOUND:.0%} asked for"
    within = f"half of a cell's runs within {spread(found):.1%} (median over cells)"
    return right, f"{PARTS[part]}: {share:.1%} {said}: {'yes' if right else 'NO'}; {within}"


if __name__ == "__main__":
    main()
