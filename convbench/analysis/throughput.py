"""Images a second of a network's convolutions, forward, on each executor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from convbench.analysis.fastest import rank
from convbench.analysis.layers import Counted, LayerTimes, NetworkTimes, ratio_of_totals, total
from convbench.analysis.places import Place
from convbench.analysis.statistics import Estimate
from convbench.analysis.times import CellTimes


@dataclass(frozen=True)
class Throughput:
    """What one executor makes of a network in one place: every layer by the form that is fastest there.

    Attributes:
        network: Its name.
        executor: Its name.
        place: Cores, or the executor of a GPU.
        batch: Images of every layer.
        cells: How often each layer counts, and its fastest cell.
    """

    network: str
    executor: str
    place: Place
    batch: int
    cells: Counted

    @property
    def seconds(self) -> Estimate:
        """Of all convolutions of a batch."""
        return total(self.cells)

    @property
    def images(self) -> Estimate:
        """Images a second."""
        seconds = self.seconds
        low, high = (None if bound is None else self.batch / bound for bound in (seconds.high, seconds.low))
        return Estimate(self.batch / seconds.value, low, high, seconds.runs, seconds.lacks)

    @property
    def images_end_to_end(self) -> float | None:
        """Images a second if every layer's input is brought there and its output back; None where that was not timed.

        A network that stays where it is computed pays for its first input and its last output alone, and so lies
        between the two.
        """
        seconds = [(count, _end_to_end(cell)) for count, cell in self.cells]
        if any(each is None for _, each in seconds):
            return None
        return self.batch / sum(count * each for count, each in seconds if each is not None)

    def speedup(self, base: Throughput) -> Estimate | None:
        """How many times as fast as another one it is, inside runs; None if no run has both."""
        return ratio_of_totals(base.cells, self.cells)


def throughputs(networks: Iterable[NetworkTimes]) -> Iterator[Throughput]:
    """For each network in each place, a row for each executor of ours that computed all of its layers there.

    Layers that no form of ours computed there, and backward ones, are in none. Networks whose layers have different
    batches have no images a second.
    """
    for network in networks:
        layers = [layer for layer in network.computed if layer.problem.direction == "forward"]
        batches = {layer.problem.batch for layer in layers}
        names = dict.fromkeys(name for layer in layers for _, name in layer.cells)
        if len(batches) != 1:
            continue
        for executor in names:
            cells = [(layer.count, cell) for layer in layers if (cell := _fastest(layer, executor)) is not None]
            if len(cells) == len(layers):
                yield Throughput(network.name, executor, network.place, min(batches), cells)


def _fastest(layer: LayerTimes, executor: str) -> CellTimes | None:
    found = {key: cell for key, cell in layer.cells.items() if key[1] == executor and not cell.peer and not cell.bound}
    return found[rank(found).reference] if found else None


def _end_to_end(cell: CellTimes) -> float | None:
    runs = cell.end_to_end()
    return sum(runs.values()) / len(runs) if runs else None
