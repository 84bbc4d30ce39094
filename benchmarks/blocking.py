"""Compare what `direct` takes for each layer by its estimate of cycles with a search over all ways and register blocks.

All are measured in turns, on one core; the time of the estimate's choice over that of the fastest is what choosing by
counting costs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
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
from convbench.plans import Candidate, Plan
from convbench.problem import Problem

TURNS = 7
BURST_SECONDS = 0.01
CACHED = (columns.blocking, filters_cut.blocking, product.blocking)
"""Choices that are kept, and are to be made anew for other blocks."""


@contextmanager
def taken(way: ModuleType, block: tuple[int, int] | None = None) -> Iterator[None]:
    """Let `direct` take a way, and a register block of filters in the lanes."""
    with ExitStack() as changes:
        changes.enter_context(mock.patch.object(host, "way", return_value=way))
        if block is not None:
            own = tuning.tuning()
            only = dataclasses.replace(own, filter_blocks=((block[0], block[1]),))
            changes.enter_context(mock.patch.object(filter_block, "tuning", return_value=only))
            changes.enter_context(mock.patch.object(filter_block, "PIXELS", (block[1],)))
        for cached in CACHED:
            cached.cache_clear()
        yield
    for cached in CACHED:
        cached.cache_clear()


def searched(problem: Problem) -> dict[str, Any]:
    """What is searched: each way that suits a problem, and each register block of filters in the lanes."""
    able = [way for way in DENSE if way.blocking(problem).cycles < float("inf")]
    found: dict[str, Any] = {way.__name__.rpartition(".")[2]: (way, None) for way in able}
    if columns.computes(problem):
        found["columns"] = (columns, None)
    width = filters_cut.blocking(problem).width
    for vectors, most in tuning.tuning().filter_blocks:
        for pixels in filter_block.PIXELS:
            if filters in able and pixels <= min(most, width):
                found[f"filters {vectors} x {pixels}"] = (filters, (vectors, pixels))
    return found


def measured(problem: Problem) -> dict[str, float]:
    """Seconds of everything that is searched, the least of bursts in turns; the estimate's own choice is "chosen"."""
    draw = np.random.default_rng(0)
    x, weights = (
        draw.standard_normal(shape).astype(problem.dtype) for shape in (problem.input_shape, problem.weights_shape)
    )
    calls: dict[str, Callable[[], Any]] = {}
    with ExitStack() as plans:
        everything = {"chosen": (host.way(problem), None), **searched(problem)}
        for name, (way, block) in everything.items():
            with taken(way, block):
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
def main(network: str, layers: int | None) -> None:
    """Print the choice's time over the fastest one's, layer by layer."""
    ratios = []
    for problem in dict.fromkeys(
        dataclasses.replace(one.problem, name="") for one in networks.load(network, layers=layers)
    ):
        seconds = measured(problem)
        best = min(seconds, key=lambda name: seconds[name])
        ratios.append(seconds["chosen"] / seconds[best])
        name = host.way(problem).__name__.rpartition(".")[2]
        rate = problem.flops / seconds["chosen"] / 1e9
        click.echo(f"{problem}: {name} {rate:.0f} GFLOP/s, {ratios[-1]:.3f} of {best}")
    mean, worst = float(np.exp(np.mean(np.log(ratios)))), max(ratios)
    click.echo(f"{len(ratios)} layers: geometric mean {mean:.3f}, worst {worst:.3f}")


if __name__ == "__main__":
    main()
