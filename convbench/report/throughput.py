"""Images a second of networks' convolutions by executor, beside what papers that trained networks print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from convbench.analysis.places import in_words
from convbench.analysis.throughput import Throughput, throughputs
from convbench.report.content import Column, Material, Section, Table, Value

TEXT: Final = (
    "Images a second of a network's convolutions, forward: every layer by the form that is fastest on that executor, a "
    "layer as often as the network has it, and nothing between layers. Executors that did not compute all layers are "
    "left out. Where data have to be brought to where they are computed, end to end does so for every layer; a network "
    "that stays there lies between the two. Speedup is over the first row of the network on one core, inside runs.",
    "The published figures are of training: whole networks forward and backward, and all that a training loop does, so "
    "that ratios can be compared, and not images a second.",
)
CIFAR_IMAGES: Final = 50_000  # of CIFAR-10's training set, an epoch
EPOCHS: Final = (
    ("MiniXception on CIFAR-10", "sequential", 1470.0),
    ("MiniXception on CIFAR-10", "PyTorch, CUDA, threads that load", 33.8),
    ("MiniXception on CIFAR-10", "Dask arrays, mirrored GPUs", 36.0),
)
"""Seconds of an epoch, as the paper that trained in three ways prints them."""
FOUR_GPUS: Final = ("ResNet50 on CIFAR-10", "four GPUs over one", 3.5)


def section(material: Material) -> Section:
    """A table for all networks, and the published one; nothing where no network was measured."""
    title = "Images a second"
    found = list(throughputs(material.networks))
    if not found:
        return Section(title)
    return Section(title, TEXT, [_table(material, found), _published()])


def _table(material: Material, found: Sequence[Throughput]) -> Table:
    bases = {each.network: each for each in reversed(found) if each.place == 1}
    rows: list[list[Value]] = [
        [
            *(each.network, each.executor, in_words(each.place), each.batch),
            *(each.images, each.images_end_to_end),
            None if (base := bases.get(each.network)) is None else each.speedup(base),
        ]
        for each in found
    ]
    columns = [
        *(Column("network"), Column("executor"), Column("on"), Column("batch", "d")),
        *(Column("images/s", ".4g"), Column("images/s end to end", ".4g"), Column("speedup", ".2f")),
    ]
    return Table("throughput", material.titled("Images a second, convolutions forward"), columns, rows)


def _published() -> Table:
    slowest = EPOCHS[0][2]
    rows: list[list[Value]] = [
        [network, system, CIFAR_IMAGES / seconds, slowest / seconds] for network, system, seconds in EPOCHS
    ]
    network, system, speedup = FOUR_GPUS
    rows.append([network, system, None, speedup])
    columns = [Column("network"), Column("system"), Column("images/s in training", ".4g"), Column("speedup", ".2f")]
    return Table("throughput-published", "Published, of training", columns, rows)
