"""Networks at a terminal: their tables, and what of their files is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convbench.terminal.console import say, show_table

if TYPE_CHECKING:
    from convbench.networks import Suite


def show_networks(listed: list[tuple[Suite, str]]) -> None:
    """The table of networks with their summaries."""
    from convbench.report.networks import networks_table

    show_table(networks_table(listed))


def show_layers(suite: Suite) -> None:
    """The layers of one."""
    from convbench.report.networks import layers_table

    show_table(layers_table(suite))


def say_skipped(suite: Suite) -> None:
    """A line for each reason for which problems are left out, and how many are."""
    for reason, count in suite.skipped:
        say(f"skipped: {count} problem{'s' if count > 1 else ''} of {suite.name}: {reason}")
