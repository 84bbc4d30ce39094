"""The convolution layers of real networks, as text: `suite("resnet50")`, or whatever file or folder holds problems.

To add a network, write its layers into a file beside this one, with where their shapes come from, and add a line to
`NETWORKS`. Names are "NETWORK:LAYER", with "*4" behind them where the network has the layer four times.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from convbench.arguments import path, whole_number
from convbench.errors import RequestError, shown
from convbench.networks.files import existing, read
from convbench.networks.suite import Layer, Suite, merged, with_batch
from convbench.problem import Problem
from convbench.problem.batch import read_batch
from convbench.registry import Entry, Table

__all__ = ["NETWORKS", "Layer", "Suite", "drawn", "load", "merged", "problems_of", "suite"]


class _Texts(Table[str]):
    """A table whose locations are files of this package; `table[name]` is the text of one."""

    def __getitem__(self, name: str) -> str:
        file = self._entry_of[self.check(name)].location
        return resources.files(__name__).joinpath(file).read_text(encoding="utf-8")


NETWORKS: Final = _Texts(
    "network",
    [
        Entry("lenet5", "lenet5.txt", "LeNet-5, 28x28 (MNIST)"),
        Entry("lenet-printed", "lenet-printed.txt", "3x3 layers, printed as LeNet"),
        Entry("alexnet", "alexnet.txt", "AlexNet, 227x227, two groups"),
        Entry("alexnet-cifar", "alexnet-cifar.txt", "AlexNet, 32x32 (assumed)"),
        Entry("vgg16", "vgg16.txt", "VGG16, 224x224"),
        Entry("vgg16-cifar", "vgg16-cifar.txt", "VGG16, 32x32 (assumed)"),
        Entry("resnet18", "resnet18.txt", "ResNet-18, 224x224"),
        Entry("resnet18-cifar", "resnet18-cifar.txt", "ResNet-18, 32x32 (assumed)"),
        Entry("resnet50", "resnet50.txt", "ResNet-50 v1.5, 224x224"),
        Entry("resnet50-cifar", "resnet50-cifar.txt", "ResNet-50, 32x32 (assumed)"),
        Entry("minixception", "minixception.txt", "MiniXception, 224x224 (assumed)"),
        Entry("minixception-cifar", "minixception-cifar.txt", "MiniXception, 32x32 (assumed)"),
        Entry("timm", "timm.txt", "half of timm's layers"),
    ],
)


def suite(network: str | Path | Suite) -> Suite:
    """The layers of a network.

    Args:
        network: A name in `NETWORKS`, or else the path of a file or folder; a `Suite` is returned as it is.

    Raises:
        RequestError: There is no such network, a line is wrong, or nothing can be measured.
    """
    if isinstance(network, Suite):
        return network
    if network in NETWORKS:
        return _listed(str(network))
    place = existing(path("network", network))
    if place is None:
        raise RequestError(
            f"unknown network {shown(str(network))}; choose from {', '.join(NETWORKS)}, or give a file or folder"
        )
    batch = read(place)
    if not batch.problems:
        left_out = "".join(f"; skipped: {count} x {reason}" for reason, count in batch.skipped.items())
        raise RequestError(
            f"{shown(str(network))} holds no problem that can be measured; write one in each line{left_out}"
        )
    return Suite.of(str(network), batch.problems, batch.skipped)


def load(network: str | Path | Suite, mb: int | None = None, layers: int | None = None) -> tuple[Layer, ...]:
    """The distinct layers of a network, and how often it has each.

    Args:
        network: A name in `NETWORKS`, or the path of a file or folder.
        mb: The batch of every layer; by default each layer's own, which is 1 in the files of `NETWORKS`.
        layers: How many layers to draw, see `Suite.sample`; by default all.

    Raises:
        RequestError: An argument is wrong, or the network cannot be read, see `suite`.
    """
    return drawn(network, mb, layers).layers


def drawn(network: str | Path | Suite, mb: int | None = None, layers: int | None = None) -> Suite:
    """The suite that `load` takes the layers of."""
    found = suite(network)
    if mb is not None:
        found = found.with_batch(whole_number("mb", mb, least=1))
    return found if layers is None else found.sample(whole_number("layers", layers, least=1))


def problems_of(
    networks: Iterable[str | Path | Suite],
    mb: int | None = None,
    layers: int | None = None,
    before: Iterable[Problem] = (),
) -> tuple[Problem, ...]:
    """The problems to measure for some networks, each once; the names say how often it occurs in all of them together.

    Args:
        networks: Names, paths or suites.
        mb: The batch of every problem, those in `before` included; by default each problem's own.
        layers: How many layers to draw of each network; by default all.
        before: Further problems, which come first.

    Raises:
        RequestError: An argument is wrong, or a network cannot be read, see `suite`.
    """
    found = [with_batch(problem, mb) for problem in before]
    for network in networks:
        found += [layer.problem for layer in load(network, mb, layers)]
    return tuple(layer.problem for layer in merged(found))


@cache
def _listed(name: str) -> Suite:
    batch = read_batch(name, NETWORKS[name], include=_nothing_included)
    return Suite.of(name, batch.problems, batch.skipped)


def _nothing_included(including: str, name: str) -> tuple[str, str]:
    raise RequestError(f"{including} includes {name}; the files of NETWORKS stand alone")
