"""Compare what `direct` takes for each layer by its estimate of cycles with a search over all ways and register blocks.

`--part 96 --part 256` searches the taps of a part as well, for filters in the lanes. All are measured in turns, on one
core; the time of the estimate's choice over that of the fastest is what choosing by counting costs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import click
import numpy as np

from convbench import networks
from convbench.algorithms.direct import columns, filters, filters_cut, host, product
from convbench.algorithms.direct.host import DENSE
from convbench.kernels import filter_block, tuning
from convbench.kernels.vector import instruction_set
from convbench.plans import Candidate, Plan
from convbench.problem import Problem

TURNS = 7
BURST_SECONDS = 0.01
CACHED = (columns.blocking, filters_cut.blocking, product.blocking)
"""Choices that are kept, and are to be made anew for other blocks."""


@contextmanager
def taken(way: ModuleType, block: tuple[int, int] | None = None, part: int | None = None) -> Iterator[None]:
    """Let `direct` take a way, and for filters in the lanes a register block or so many taps of a part."""
    with ExitStack() as changes:
        changes.enter_context(mock.patch.object(host, "way", return_value=way))
        own, name = tuning.tuning(), instruction_set().name
        if part is not None:
            changes.enter_context(mock.patch.dict(tuning.TUNING, {name: dataclasses.replace(own, part_taps=part)}))
        if block is not None:
            only = dataclasses.replace(own, filter_blocks=((block[0], block[1]),))
            changes.enter_context(mock.patch.object(filter_block, "tuning", return_value=only))
            changes.enter_context(mock.patch.object(filter_block, "PIXELS", (block[1],)))
        for cached in CACHED:
            cached.cache_clear()
        yield
    for cached in CACHED:
        cached.cache_clear()


def searched(problem: Problem, parts: Sequence[int]) -> dict[str, Any]:
    """What is searched: each way that suits a problem; of filters in the lanes, each register block and these parts."""
    able = [way for way in DENSE if way.blocking(problem).cycles < float("inf")]
    found: dict[str, Any] = {way.__name__.rpartition(".")[2]: (way,) for way in able}
    if columns.computes(problem):
        found["columns"] = (columns,)
    if filters in able:
        found |= {f"filters, parts of {part}" if part else "filters, no parts": (filters, None, part) for part in parts}
    width = filters_cut.blocking(problem).width
    for vectors, most in tuning.tuning().filter_blocks:
        for pixels in filter_block.PIXELS:
            if filters in able and pixels <= min(most, width):
                found[f"filters {vectors} x {pixels}"] = (filters, (vectors, pixels))
    return found


def measured(problem: Problem, parts: Sequence[int] = ()) -> dict[str, float]:
    """Seconds of everything that is searched, the least of bursts in turns; the estimate's own choice is "chosen"."""
    draw = np.random.default_rng(0)
    x, weights = (
        draw.standard_normal(shape).astype(problem.dtype) for shape in (problem.input_shape, problem.weights_shape)
    )
    calls: dict[str, Callable[[], Any]] = {}
    with ExitStack() as plans:
        everything = {"chosen": (host.way(problem),), **searched(problem, parts)}
        for name, what in everything.items():
            with taken(*what):
                plan = plans.enter_context(Plan(problem, weights, Candidate("direct", "serial", 1)))
            calls[name] = partial(plan, x, out=plan.empty_output())
            calls[name]()
        seconds = dict.fromkeys(calls, float("inf"))
        for _ in range(TURNS):
            for name, call in calls.items():
                seconds[name] = min(seconds[name], _burst(call))
    return seconds


def _burst(call: Callable[[], Any]) -> float:
    best, begin = float("inf"), time.perf_counter()
    while (since := time.perf_counter()) - begin < BURST_SECONDS:
        call()
        best = min(best, time.perf_counter() - since)
    return best


@click.command()
@click.option("--network", default="resnet50", show_default=True)
@click.option("--layers", type=int, help="A representative sample.")
@click.option(
    "--part",
    "parts",
    type=click.IntRange(min=0),
    multiple=True,
    help="Taps of a part that are searched as well; 0 for no parts, as with many registers; repeatable.",
)
@click.option("--each", is_flag=True, help="Print the speed of everything that is searched.")
def main(network: str, layers: int | None, parts: tuple[int, ...], *, each: bool) -> None:
    """Print the choice's time over the fastest one's, layer by layer."""
    ratios = []
    for problem in dict.fromkeys(
        dataclasses.replace(one.problem, name="") for one in networks.load(network, layers=layers)
    ):
        seconds = measured(problem, parts)
        best = min(seconds, key=lambda name: seconds[name])
        ratios.append(seconds["chosen"] / seconds[best])
        name = host.way(problem).__name__.rpartition(".")[2]
        rate = problem.flops / seconds["chosen"] / 1e9
        click.echo(f"{problem}: {name} {rate:.0f} GFLOP/s, {ratios[-1]:.3f} of {best}")
        for way, taken_seconds in seconds.items() if each else ():
            click.echo(f"    {problem.flops / taken_seconds / 1e9:6.1f} GFLOP/s  {way}")
    mean, worst = float(np.exp(np.mean(np.log(ratios)))), max(ratios)
    click.echo(f"{len(ratios)} layers: geometric mean {mean:.3f}, worst {worst:.3f}")


if __name__ == "__main__":
    main()
