"""The command that lists networks and their layers."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("network", metavar="[NAME|PATH]", required=False)
@click.option("--mb", type=int, metavar="N", help="The batch of all layers.  [default: each one's own]")
@click.option("--layers", type=int, metavar="N", help="So many layers, a representative sample.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def networks(network: str | None, mb: int | None, layers: int | None, *, as_json: bool) -> None:
    """List networks, or the layers of one: multiply-adds, bytes, operations per byte.

    NAME is a network that is listed, PATH a file or folder of problems as benchdnn writes them.
    """
    from convbench.networks import NETWORKS, drawn
    from convbench.report.networks import facts
    from convbench.terminal.networks import say_skipped, show_layers, show_networks

    summaries = {entry.name: entry.summary for entry in NETWORKS.entries}
    names = NETWORKS.names if network is None else (network,)
    found = [(drawn(name, mb, layers), summaries.get(name, "")) for name in names]
    for suite, _ in found:
        say_skipped(suite)
    if as_json:
        listed = [facts(suite, summary) for suite, summary in found]
        click.echo(json.dumps({"networks": listed} if network is None else listed[0], indent=1))
    elif network is None:
        show_networks(found)
    else:
        show_layers(found[0][0])
