"""The model of a GPU that comes with the package, fitted to what was measured on an H100.

    python -m benchmarks.gpu_model           # how far it is off on each layer
    python -m benchmarks.gpu_model --write   # convbench/select/default_gpu.json

Times of calls are those of the search in reports/gpu/2026-11-26-h100, with the sizes that the package chooses.
Transfers are those of its sweeps, from pageable memory of the host and back.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.gpu_search import searched, unrolled_sizes, winograd_sizes
from convbench.algorithms.unrolled import gpu as unrolled
from convbench.algorithms.winograd import gpu_steps
from convbench.precision import EXACT, TF32
from convbench.problem import Problem
from convbench.select.contenders import CALL, counted
from convbench.select.fitting import fit, fitted
from convbench.select.model import Model, Rates
from convbench.select.on_gpu import CAPABILITY, DEFAULT, TRANSFERS
from convbench.select.written import model_to

REPORT: Final = Path(__file__).parents[1] / "reports" / "gpu" / "2026-11-26-h100"
NAMES: Final = {
    "direct": "direct/gpu/1",
    "unrolled": "unrolled/gpu/1",
    "winograd": "winograd/gpu/1",
    "unrolled-tf32": "unrolled/gpu/1/tf32",
}
MOVED: Final = ("input bytes", "output bytes", CALL)  # what transfers take time for


def problems() -> dict[str, Problem]:
    """The problems of the search, by the names that it gave them."""
    return {name: replace(problem, name="") for name, problem in searched().items()}


def chosen_sizes(form: str, problem: Problem) -> str:
    """The sizes that the package chooses, as the search wrote them; "" where it called them by other names."""
    if form.startswith("unrolled"):
        return unrolled_sizes(unrolled.cut_up(problem, TF32 if form.endswith("tf32") else EXACT))
    return winograd_sizes(gpu_steps.cut_up(problem)) if form == "winograd" and problem.channels > 1 else ""


def measured() -> dict[str, dict[str, float]]:
    """Seconds by contender and by the search's name of the problem."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with (REPORT / "search.csv").open() as file:
        for row in csv.DictReader(file):
            times = found.setdefault(row["form"], {}).setdefault(row["problem"], {})
            times[row["sizes"]] = float(row["microseconds"]) * 1e-6
    known = problems()
    return {
        name: {
            problem: times.get(chosen_sizes(form, known[problem]), min(times.values()))
            for problem, times in found[form].items()
        }
        for form, name in NAMES.items()
    }


def transfers() -> Iterator[tuple[Problem, float]]:
    """What whole calls took beside the kernels, in the sweeps."""
    for name in ("experiment", "experiment-cold", "layers", "layers-tf32"):
        for line in (REPORT / name / "results.jsonl").read_text().splitlines():
            record = json.loads(line)
            ways = record.get("transfers") or {}
            if "end to end" in ways:
                whole = float(np.median(ways["end to end"])) - min(record["samples"])
                yield replace(Problem.parse(record["problem"]), name=""), whole


def model() -> Model:
    """The model of calls, and the rates of transfers."""
    known, times = problems(), measured()
    columns = {name: [each.get(problem, math.nan) for problem in known] for name, each in times.items()}
    found = fit(list(known.values()), columns, steady=True)
    moved = list(transfers())
    work = [{kind: counted(problem, TRANSFERS)[kind] for kind in MOVED} for problem, _ in moved]
    seconds = np.array([whole for _, whole in moved])
    rates = fitted(work, seconds)
    off = np.log(seconds / [sum(rate * each[kind] for kind, rate in rates.items()) for each in work])
    low, high = np.percentile(off, (5, 95))
    corrections = {**found.corrections, TRANSFERS: np.full(len(known), math.nan)}
    error = (min(0.0, float(low)), max(0.0, float(high)))
    return replace(found, rates={**found.rates, TRANSFERS: Rates(rates, {}, error)}, corrections=corrections)


def report(found: Model) -> None:
    """Each time beside the model's without the problem's own corrections; rates are fitted to all."""
    print(f"{'problem':12}{'contender':22}{'measured us':>12}{'predicted us':>14}")
    known, times, right = problems(), measured(), 0
    for problem in known:
        took = {name: each[problem] for name, each in times.items() if problem in each}
        expected = found.without(known[problem]).predict(known[problem], took)
        for name, seconds in took.items():
            print(f"{problem:12}{name:22}{seconds * 1e6:12.1f}{expected[name].seconds * 1e6:14.1f}")
        exact = [name for name in took if not name.endswith("tf32")]
        right += min(exact, key=took.__getitem__) == min(exact, key=lambda name: expected[name].seconds)
    print(f"the exact form that is expected to be fastest is the fastest on {right} of {len(known)} problems")
    for name, rates in found.rates.items():
        print(name, {kind: f"{rate:.3g}" for kind, rate in rates.seconds.items()})


def main() -> None:
    """Fit, report, and write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {DEFAULT.name}")
    found = model()
    report(found)
    if parser.parse_args().write:
        card = {"gpu": "NVIDIA H100 80GB HBM3", "capability": CAPABILITY}
        DEFAULT.write_text(json.dumps(model_to(found, card), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
