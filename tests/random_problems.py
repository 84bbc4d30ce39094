"""Random problems through every form on the host: arrays between pages without access, outputs within their bounds.

    python tests/random_problems.py --count 5000 --seed 1

Sizes, strides and dilations are wild; what is computed stays small, so that thousands take minutes. The problems are
computed in processes of their own: one that ends is a crash of the problem that it was at, and the rest goes on.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from guarded import fill  # noqa: E402

from convbench.algorithms import ALGORITHMS  # noqa: E402
from convbench.epilogue import NO_EPILOGUE  # noqa: E402
from convbench.errors import RequestError  # noqa: E402
from convbench.problem import Problem  # noqa: E402

FORMS = [name for name in ALGORITHMS if ALGORITHMS[name].find("numba")]
MOST_INPUTS, MOST_OUTPUTS, MOST_PRODUCTS = 2**20, 2**19, 2**25
SCRATCH, SCRATCH_SHARE = 2**24, 4  # bytes, and times a problem's arrays: no form takes more than both for scratch
IN_A_PROCESS = 200  # compiled code stays as long as a process does
LIMIT = 3600.0  # seconds of so many
CENTRED = ("normal", "sparse")
DATA = (*CENTRED, "uniform", "offset")
MANY = 32  # outputs, of which the largest is no accident


def problems(seed: int) -> Iterator[Problem]:
    """Without end."""
    random = np.random.default_rng(seed)
    while True:
        try:
            problem = Problem(**_arguments(random))
        except RequestError:
            continue
        inputs, outputs = (int(np.prod(shape, dtype=float)) for shape in (problem.input_shape, problem.output_shape))
        if inputs <= MOST_INPUTS and outputs <= MOST_OUTPUTS and problem.multiply_adds <= MOST_PRODUCTS:
            yield problem


def _arguments(random: np.random.Generator) -> dict[str, Any]:
    def size(most: float) -> int:
        """As likely between 1 and 10 as between 10 and 100."""
        return int(np.exp(random.uniform(0, np.log(most))))

    groups = size(20) if random.random() < 0.3 else 1
    wild = random.random() < 0.4
    return {
        "height": size(2000),
        "width": size(2000),
        "channels": groups * size(40),
        "out_channels": groups * size(150),
        "groups": groups,
        "batch": size(4),
        "kernel_height": size(33),
        "kernel_width": size(33),
        "stride": (size(300), size(300)) if wild else (size(3), size(3)) if random.random() < 0.4 else 1,
        "dilation": (size(300), size(300)) if random.random() < 0.15 else (size(4), size(4)) if wild else 1,
        "padding": tuple(tuple(size(40) - 1 for _ in range(2)) for _ in range(2)) if random.random() < 0.5 else 0,
        "dtype": "float64" if random.random() < 0.25 else "float32",
    }


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str, kind: str) -> np.ndarray:
    """Random data of a kind."""
    drawn = random.standard_normal(shape)
    if kind == "uniform":
        drawn = random.uniform(0, 1, shape)
    elif kind == "offset":
        drawn += random.uniform(-30, 30)
    elif kind == "sparse":
        drawn *= random.random(shape) < 0.3
    return drawn.astype(dtype)


def exact(problem: Problem, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution with more digits than the problem's."""
    wide = np.longdouble if problem.dtype == "float64" else np.float64
    groups, kernels = problem.groups, problem.out_channels // problem.groups
    rows, columns = problem.output_height, problem.output_width
    image = x.reshape(problem.batch, groups, -1, problem.height, problem.width).astype(wide)
    taps = weights.reshape(groups, kernels, -1, *weights.shape[2:]).astype(wide)
    total = np.zeros((problem.batch, groups, kernels, rows * columns), wide)
    for a, b in itertools.product(range(problem.kernel_height), range(problem.kernel_width)):
        y = np.arange(rows) * problem.stride[0] + a * problem.dilation[0] - problem.padding[0][0]
        z = np.arange(columns) * problem.stride[1] + b * problem.dilation[1] - problem.padding[1][0]
        i, j = (y >= 0) & (y < problem.height), (z >= 0) & (z < problem.width)
        if i.any() and j.any():
            seen = np.zeros((*image.shape[:3], rows, columns), wide)
            seen[..., np.ix_(i, j)[0], np.ix_(i, j)[1]] = image[..., y[i], :][..., z[j]]
            total += taps[..., a, b] @ seen.reshape(*image.shape[:3], -1)
    return total.reshape(problem.output_shape)


def ranges(random: np.random.Generator, units: int) -> list[tuple[int, int]]:
    """All units, cut into a few ranges in any order."""
    cuts = sorted({0, units, *random.integers(0, units + 1, int(random.integers(0, 4))).tolist()})
    found = list(itertools.pairwise(cuts))
    random.shuffle(found)
    return found


def check(problem: Problem, number: int, forms: Sequence[str] = FORMS) -> dict[str, Any]:
    """What forms make of one problem: for each, its error over its bound; what refuses is left out."""
    random = np.random.default_rng(number)
    kind, weights_kind = random.choice(DATA, 2)
    x = numbers(random, problem.input_shape, problem.dtype, kind)
    weights = numbers(random, problem.weights_shape, problem.dtype, weights_kind)
    expected = exact(problem, x, weights)
    largest = float(np.abs(expected).max())
    scale = float(np.abs(x).max() * np.abs(weights).astype(float).sum((1, 2, 3)).max())
    found = {}
    for form in forms:
        if ALGORITHMS[form].unsupported_reason(problem, "numba") is None:
            footprint = ALGORITHMS[form].footprint(problem)
            most = max(SCRATCH, SCRATCH_SHARE * problem.bytes)
            assert footprint.scratch_bytes <= most, f"{form} takes {footprint.scratch_bytes} bytes of scratch"
            work = ALGORITHMS[form].find("numba").prepare(problem, weights, NO_EPILOGUE)
            cut = functools.partial(ranges, random)
            out = fill(work, x, problem.output_shape, in_front=bool(number % 2), cut=cut)
            assert footprint.scratch_bytes == work.scratch_size * work.dtype.itemsize
            assert footprint.workspace_bytes == work.workspace_size * work.dtype.itemsize
            assert footprint.weights_bytes == (0 if work.weights.base is weights else work.weights.nbytes)
            error = float(np.abs(out - expected).max())
            limits = {form: work.errors.bound * scale}
            if kind in CENTRED and out.size >= MANY and largest:  # zeros are all outputs that read padding alone
                limits[f"{form}, expected"] = work.errors.estimate * largest
            for name, limit in limits.items():
                ratio = error / limit if limit else 0.0 if error == 0 else np.inf
                found[name] = ratio if np.isfinite(ratio) else 1e9
    return {"number": number, "problem": str(problem), "data": [str(kind), str(weights_kind)], "ratios": found}


def _work(seed: int, begin: int, end: int) -> None:
    """In a process of its own: a line before each problem and one after it."""
    for number, problem in enumerate(itertools.islice(problems(seed), end)):
        if number >= begin:
            print(json.dumps({"number": number, "problem": str(problem)}), flush=True)
            print(json.dumps(check(problem, number)), flush=True)


def run(count: int, seed: int, show: Any = lambda _: None) -> dict[str, Any]:
    """Check so many problems; what crashed, what was beyond its bound, and how many outputs were checked."""
    crashed, beyond, worst = [], [], Counter()
    forms: Counter[str] = Counter()
    begin = 0
    while begin < count:
        end = min(count, begin - begin % IN_A_PROCESS + IN_A_PROCESS)
        words = [sys.executable, __file__, "--seed", str(seed), "--work", str(begin), str(end)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
        for line in lines:
            for form, ratio in line.get("ratios", {}).items():
                forms[form] += 1
                worst[form] = max(worst[form], ratio)
                if ratio > 1:
                    beyond.append((form, ratio, line["problem"], line["data"]))
        if done.returncode:
            last = lines[-1] if lines else {"number": begin, "problem": "none"}
            crashed.append((last["problem"], done.returncode, done.stderr.strip().rpartition("\n")[2]))
            begin = last["number"] + 1
        else:
            begin = end
        show(f"{begin} of {count}: {len(crashed)} crashes, {len(beyond)} beyond their bound")
    return {"crashed": crashed, "beyond": beyond, "forms": dict(forms), "worst": dict(worst)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=int, nargs=2, metavar=("BEGIN", "END"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        _work(asked.seed, *asked.work)
        return 0
    found = run(asked.count, asked.seed, show=lambda line: print(line, file=sys.stderr, flush=True))
    for what in ("crashed", "beyond"):
        for one in found[what]:
            print(what, *one)
    outputs = ", ".join(f"{name} {count}" for name, count in found["forms"].items() if "," not in name)
    worst = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["worst"].items())
    print(f"outputs by form: {outputs}; largest error over bound and over what is expected: {worst}")
    print(f"{asked.count} problems: {len(found['crashed'])} crashes, {len(found['beyond'])} outputs beyond their bound")
    return int(bool(found["crashed"] or found["beyond"]))


if __name__ == "__main__":
    sys.exit(main())
