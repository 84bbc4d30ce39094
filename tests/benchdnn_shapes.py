"""Sees that every 2-D and 1-D descriptor of benchdnn's files has the sizes that it states.

python tests/benchdnn_shapes.py FOLDER, which is tests/benchdnn/inputs/conv of a copy of oneDNN. Its text is not in this
repository.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from convbench.networks import suite
from convbench.problem import Problem
from convbench.problem.batch import read_batch


def sizes(problem: Problem) -> dict[str, int]:
    """The entries of a descriptor that says all."""
    (stride_y, stride_x), (dilation_y, dilation_x) = problem.stride, problem.dilation
    (top, _), (left, _) = problem.padding
    entries = ("g", "mb", "ic", "oc", "ih", "iw", "oh", "ow", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")
    values = (
        *(problem.groups, problem.batch, problem.channels, problem.out_channels, problem.height, problem.width),
        *(problem.output_height, problem.output_width, problem.kernel_height, problem.kernel_width),
        *(stride_y, stride_x, top, left, dilation_y - 1, dilation_x - 1),
    )
    return dict(zip(entries, values, strict=True))


def stated_by(word: str) -> dict[str, int] | None:
    """The entries of a descriptor before its name; None for options, for parts of them, and for what is 3-D."""
    entries = re.match("(([a-z]{1,2}[0-9]+_?)+)(n|$)", word)
    if entries is None:
        return None
    stated = {entry: int(value) for entry, value in re.findall("([a-z]+)([0-9]+)", entries[1])}
    return None if {"id", "od", "kd"} & stated.keys() else stated


def nothing_included(including: str, name: str) -> tuple[str, str]:
    """Refuse."""
    raise FileNotFoundError(f"{name}, which {including} includes")


def check(folder: Path) -> int:
    """Check all files of a folder; how many descriptors there are."""
    count = 0
    for file in sorted(folder.iterdir()):
        for line in file.read_text().splitlines():
            for word in re.sub(r"(^|\s)#.*", "", line).split():
                stated = stated_by(word)
                if stated is None:
                    continue
                (problem,) = read_batch(str(file), word, nothing_included).problems
                found = sizes(problem)
                assert {entry: found[entry] for entry in stated} == stated, f"{file}: {word}"
                assert Problem.parse(str(problem)) == problem, f"{file}: {word}"
                count += 1
    return count


if __name__ == "__main__":
    place = Path(sys.argv[1])
    print(f"{check(place)} descriptors have the sizes that they state")
    whole = suite(place)
    print(
        f"the folder holds {len(whole.layers)} distinct problems, {whole.occurrences} in all; skipped: {whole.skipped}"
    )
