"""Commands of selection: tune and choose."""

from __future__ import annotations

import json
from typing import Final

import click

from convbench.arguments import real_number, size

BUDGET: Final = 300.0


@click.command()
@click.option("--budget", type=float, metavar="SECONDS", default=BUDGET, show_default=True, help="Of measuring.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Of the design and of random data.")
def tune(budget: float, seed: int) -> None:
    """Measure this machine and fit its selection model.

    What is measured is kept in the user's data folder as it comes: Ctrl-C stops, and another tune goes on. Compiling
    what was never compiled here before comes on top of the budget.
    """
    from convbench.arguments import whole_number
    from convbench.select.tuning import tune as tuned
    from convbench.terminal.choosing import show_tuned, tune_progress

    budget = real_number("budget", budget, least=0)
    with tune_progress(budget) as progress:
        found = tuned(budget, progress, whole_number("seed", seed, least=0))
    show_tuned(found)


@click.command()
@click.argument("descriptor", metavar="DESC")
@click.option("--cores", type=int, metavar="N", help="The most cores.  [default: those this process may use]")
@click.option("--memory-limit", metavar="SIZE", help="Beside input, weights and output, such as 64MiB.")
@click.option("--unpacked", is_flag=True, help="Weights change from call to call, and are packed at each.")
@click.option("--measure", is_flag=True, help="Measure the few best, unless that was done before.")
@click.option(
    "--backend",
    metavar="WHERE",
    default="numba",
    show_default=True,
    help="numba: on the host; gpu: arrays on a GPU; any: arrays on the host, on either, transfers included.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def choose(
    descriptor: str,
    cores: int | None,
    memory_limit: str | None,
    *,
    unpacked: bool,
    measure: bool,
    backend: str,
    as_json: bool,
) -> None:
    """Say which algorithm, executor and core count compute a problem fastest here, and why.

    DESC is a problem in benchdnn's notation, such as ic64ih56oc64kh3ph1.
    """
    from convbench.select import choose as chosen
    from convbench.terminal.choosing import show_choice

    most = None if memory_limit is None else size("memory_limit", memory_limit)
    found = chosen(descriptor, cores=cores, memory_limit=most, measure=measure, packed=not unpacked, backend=backend)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=1))
    else:
        show_choice(found)
