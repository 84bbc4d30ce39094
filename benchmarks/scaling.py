"""Efficiency over cores where the machine's speed drifts: `python -m benchmarks.scaling --cores 1,2,4,8`.

A sweep measures one cell after another, so that a drift of the clock between two of them looks like a property of
one. Here all core counts of all executors take turns, round by round, each pinned as a sweep pins it; with them a chain
of multiply-adds and a store past the caches, which say what the machine itself gives on so many cores. An efficiency
is the geometric mean over rounds of (seconds on one core) / (cores x seconds), both of the same round; where neighbours
take a core now and then, that of the fastest rounds says more.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import click
import numpy as np

from convbench import machine
from convbench.executors import EXECUTORS
from convbench.measure.affinity import pin
from convbench.measure.peak_work import CHUNK, make_work
from convbench.plans import Candidate, Plan
from convbench.problem import Problem
from convbench.report.content import Column, Table, Value
from convbench.terminal import show_table

EXPERIMENT = "mb1ic1ih720iw1280oc128kh11kw11"
LIMITS = {"multiply_add": 100, "stream": 40}  # units on each core
SECONDS = 0.1  # of samples in a row, after half as much of calls that are not timed


@dataclass
class Subject:
    """What is timed on a number of cores, and its seconds in every round."""

    name: str
    executor: str
    cores: int
    share: float  # of the whole's work that a call does, for what does as much on every core
    call: Callable[[], object]
    pids: Sequence[int]
    seconds: list[float]


def forms(
    problem: Problem, algorithms: list[str], executors: list[str], cores: list[int], stack: ExitStack
) -> Iterator[Subject]:
    """Plans, on one input and one output that all share."""
    random = np.random.default_rng(0)
    home = EXECUTORS["processes" if "processes" in executors else "threads"]
    x, out = home.empty(problem.input_shape, "float32"), home.empty(problem.output_shape, "float32")
    x[...] = random.standard_normal(x.shape, "float32")
    out[...] = 1
    weights = random.standard_normal(problem.weights_shape, "float32")
    for algorithm in algorithms:
        for executor in executors:
            for count in cores:
                plan = stack.enter_context(Plan(problem, weights, Candidate(algorithm, executor, count)))
                yield Subject(algorithm, executor, count, 1, partial(plan, x, out), plan.pids, [])


def limits(executors: list[str], cores: list[int], stack: ExitStack) -> Iterator[Subject]:
    """What the machine itself gives: arithmetic in registers, and stores past the caches."""
    most = max(cores)
    for kind, units in LIMITS.items():
        for executor in executors:
            shape = (1, 1, units * most if kind == "stream" else 1, CHUNK)
            arrays = [EXECUTORS[executor].empty(shape, "float32") for _ in range(2)]
            for array in arrays:
                array[...] = 1
            for count in cores:
                work = make_work(kind, "float32", units * count)
                runner = EXECUTORS[executor].open(work, count)
                stack.callback(runner.close)
                yield Subject(kind, executor, count, count, partial(runner, *arrays), tuple(runner.pids), [])


def take_turns(subjects: list[Subject], rounds: int) -> None:
    """Time all of them, in an order that is another in every round."""
    cpus = machine.allowed_cpus()
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for index in order.permutation(len(subjects)):
            subject = subjects[index]
            pin(cpus[: subject.cores], subject.pids)
            repeated(subject.call, SECONDS / 2)
            subject.seconds.append(statistics.median(repeated(subject.call, SECONDS)) / subject.share)
    pin(cpus)


def repeated(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, for so long."""
    taken: list[float] = []
    while not taken or sum(taken) < seconds:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return taken


def efficiency(one: Subject, other: Subject) -> float:
    """Of the second against the first, which ran on fewer cores."""
    found = [a * one.cores / (b * other.cores) for a, b in zip(one.seconds, other.seconds, strict=True)]
    return statistics.geometric_mean(found)


def efficiency_of_the_fastest(one: Subject, other: Subject) -> float:
    """Likewise, of the fastest round of each."""
    return min(one.seconds) * one.cores / (min(other.seconds) * other.cores)


@click.command()
@click.option("--problem", default=EXPERIMENT, show_default=True)
@click.option("--algorithms", default="direct,unrolled,winograd", show_default=True)
@click.option("--executors", default="threads,processes", show_default=True)
@click.option("--cores", default=",".join(map(str, machine.core_series())), show_default=True)
@click.option("--rounds", default=10, show_default=True)
def main(problem: str, algorithms: str, executors: str, cores: str, rounds: int) -> None:
    """Show milliseconds and the efficiency on each number of cores."""
    counts = [int(text) for text in cores.split(",")]
    with ExitStack() as stack:
        subjects = [
            *limits(executors.split(","), counts, stack),
            *forms(Problem.parse(problem), algorithms.split(","), executors.split(","), counts, stack),
        ]
        take_turns(subjects, rounds)
    headings = [Column(f"{count} core{'s' * (count > 1)}", ".2f") for count in counts]
    columns = [Column("what"), Column("executor"), *headings]
    tables: dict[str, Callable[[Subject, Subject], float]] = {
        "Milliseconds of a call, the median over rounds": lambda _, one: statistics.median(one.seconds) * 1e3,
        f"Efficiency against {headings[0].title}": efficiency,
        f"Efficiency of the fastest round against the fastest on {headings[0].title}": efficiency_of_the_fastest,
    }
    for title, entry in tables.items():
        rows: list[list[Value]] = []
        for begin in range(0, len(subjects), len(counts)):
            first, *_ = series = subjects[begin : begin + len(counts)]
            rows.append([first.name, first.executor, *(entry(first, one) for one in series)])
        show_table(Table("scaling", title, columns, rows))


if __name__ == "__main__":
    main()
