"""Networks layer by layer: the best of ours beside its limits and the libraries, and one form against the best."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from convbench.analysis.layers import STAND_IN, Fastest, NetworkTimes, mean_ratio, ratio_of_totals, total
from convbench.analysis.limits import Limits
from convbench.analysis.own_limit import of_cell
from convbench.analysis.places import in_words
from convbench.analysis.statistics import Estimate
from convbench.analysis.times import CellTimes, ratio, ratios_by_run
from convbench.problem import Problem
from convbench.report.content import Column, Figure, Material, Section, Table, Value, seconds_spec
from convbench.report.labels import slug

TEXT: Final = (
    "A row for each layer: the fastest of our candidates, and those that cannot be told apart from it. In totals a "
    "layer counts as often as the network has it; in medians, least values and geometric means it counts once.",
    "Of peak counts the direct form's operations, whatever was computed. Of own is the share that is reached of the "
    "form's own limit, which counts what it really does: its vector operations at the measured multiply-add peak, as "
    "many as the busiest core has, or its bytes (input, packed weights and output, and what it copies) at the measured "
    "bandwidth, whichever takes longer; set by says which. The bandwidth is that of memory, so that a layer whose "
    "arrays stay in the caches can pass 100 %. "
    "Needs is the plan's memory beside input, weights and output, as counted before it is made; process is the most "
    "that the measuring process held up to the end of the first call, interpreter and data included. In all has the "
    "largest of either. Ratio is how many times as long the fastest library took as the fastest of ours.",
    "Every layer by one form: what the network takes if one form, or one library, computes all of its layers. Where a "
    f"form cannot compute a layer, {STAND_IN} stands in.",
)
CAPTION: Final = (
    "seconds in the network (a layer's time times how often it occurs) of the fastest candidate of ours, by stage. The "
    "bar across is what its own limit allows; the diamond is the fastest library."
)
MIB: Final = 2**20
OWN: Final = "of own"
PEAK: Final = "of peak"
RATIO: Final = "ratio"
Row = Mapping[str, Value]
"""Values by the titles of their columns; those that are not there are left empty."""


def section(material: Material) -> Section:
    """Tables and a figure for each network in each place; nothing where no network was measured."""
    title = "Layer by layer"
    if not material.networks:
        return Section(title)
    from convbench.report import layer_figure  # loads matplotlib, which tables at a terminal do without

    figures = [
        Figure(
            slug("layers", network.name, in_words(network.place)),
            f"{material.titled(f'{named(network)}')}: {CAPTION}",
            partial(layer_figure.draw, network, labels(material, network), limits_at(material, network)),
        )
        for network in material.networks
    ]
    sentences = [verdict(network) for network in material.networks]
    return Section(title, [*sentences, *TEXT], list(layer_tables(material)), figures)


def layer_tables(material: Material) -> Iterator[Table]:
    """For each network in each place the table of its layers, and that of one form against the best."""
    for network in material.networks:
        yield layers_table(material, network)
        yield forms_table(material, network)


def named(network: NetworkTimes) -> str:
    """Such as "resnet50 on 2 cores"."""
    return f"{network.name} on {in_words(network.place)}"


def limits_at(material: Material, network: NetworkTimes) -> Limits:
    """The limits of the cores, or of the GPU, that a network was measured on."""
    machine = material.sweep.header.get("machine", {})
    return Limits.of_gpu(machine) if isinstance(network.place, str) else Limits.of(machine)


def labels(material: Material, network: NetworkTimes) -> dict[Problem, str]:
    """The layers' labels without the network and without how often it has them."""
    return {
        layer.problem: material.label(layer.problem)
        .removeprefix(f"{network.name}:")
        .replace(f"*{layer.problem.count}", "", 1)
        for layer in network.layers
    }


def layers_table(material: Material, network: NetworkTimes) -> Table:
    """A row for each layer, then the total, the median, the least, and how ours compare with the libraries'."""
    limits, names = limits_at(material, network), labels(material, network)
    rows = [
        {
            "layer": names[layer.problem],
            "times": layer.count,
            **_of_ours(layer.ours, limits),
            **_of_theirs(layer.theirs),
        }
        for layer in network.layers
    ]
    for row, layer in zip(rows, network.layers, strict=True):
        if layer.ours is not None and layer.theirs is not None:
            row[RATIO] = ratio(layer.theirs.cell, layer.ours.cell)
    summary, won = [_in_all(network, limits), *_spread(rows)], ""
    if network.compared:
        ratios = [number for row in rows if (number := _number(row.get(RATIO))) is not None]
        inside = [ratios_by_run(their, our) for _, our, their in network.compared]
        summary.append({"layer": "geometric mean", RATIO: mean_ratio(inside)})
        won = f": {sum(number > 1 for number in ratios)} of {len(ratios)} ahead of the libraries"
    title = material.titled(f"{named(network)}, layer by layer{won}")
    spec = seconds_spec(cell.minimum for _, cell in network.best)
    columns = [column for column in _columns(spec) if any(row.get(column.title) is not None for row in rows)]
    values = [[row.get(column.title) for column in columns] for row in (*rows, *summary)]
    return Table(slug("layers", network.name, in_words(network.place)), title, columns, values, len(summary))


def forms_table(material: Material, network: NetworkTimes) -> Table:
    """The best form for each layer, then every layer by one form and by one library, the fastest first."""
    best = network.best
    found = sorted(((total(one.cells), one) for one in network.by_one_form()), key=lambda pair: pair[0].value)
    rows: list[list[Value]] = [["the best form for each layer", total(best), 1.0, None]]
    for seconds, one in found:
        note = f"{one.stood_in} by {STAND_IN}" if one.stood_in else None
        rows.append([f"{one.form}{' (library)' if one.peer else ''}", seconds, ratio_of_totals(one.cells, best), note])
    spec = seconds_spec([total(best).value])
    columns = [Column("every layer by"), Column("seconds", spec), Column("over the best", ".2f"), Column("but for")]
    title = material.titled(f"{named(network)}, every layer by one form")
    return Table(slug("one-form", network.name, in_words(network.place)), title, columns, rows)


def verdict(network: NetworkTimes) -> str:
    """What a network takes, and what it is worth to choose, in a sentence."""
    best, layers = total(network.best), network.computed
    flops = sum(count * cell.flops for count, cell in network.best)
    missing = len(network.layers) - len(layers)
    lacks = f" ({missing} more were not measured)" if missing else ""
    said = (
        f"{named(network)}: {sum(layer.count for layer in layers)} layers, {len(layers)} distinct{lacks}, take "
        f"{best.value:.4g} s by the best form for each, which is {flops / best.value / 1e9:.3g} GFLOP/s"
    )
    alone = [(total(one.cells).value, one.form) for one in network.by_one_form() if not one.peer]
    if len(alone) > 1:
        seconds, form = min(alone)
        said += f"; by {form} alone, the best single form, {seconds / best.value:.2f} times as long"
    return f"{said}."


def _columns(spec: str) -> list[Column]:
    return [
        *(Column("layer"), Column("times", "d"), Column("best"), Column("executor"), Column("seconds", spec)),
        *(Column("GFLOP/s", ".1f"), Column(OWN, ".0%"), Column("set by"), Column(PEAK, ".0%")),
        *(Column("needs MiB", ".2f"), Column("process MiB", ".0f")),
        *(Column("library"), Column("its seconds", spec), Column(RATIO, ".2f"), Column("tied with best")),
    ]


def _of_ours(best: Fastest | None, limits: Limits) -> dict[str, Value]:
    if best is None:
        return {}
    cell, limit = best.cell, of_cell(best.cell, limits)
    return {
        **dict(zip(("best", "executor"), best.key, strict=True)),
        "tied with best": ", ".join(" on ".join(key) for key in best.tied) or None,
        "seconds": cell.mean,
        "GFLOP/s": cell.rate / 1e9,
        **({} if limit is None else {OWN: limit.seconds / cell.mean.value, "set by": limit.by}),
        PEAK: limits.share_of_peak(cell.products, cell.rate, cell.threads),
        **_memory([cell]),
    }


def _of_theirs(best: Fastest | None) -> dict[str, Value]:
    if best is None:
        return {}
    names = dict.fromkeys(name for name, _ in (best.key, *best.tied))
    return {"library": ", ".join(names), "its seconds": best.cell.mean}


def _memory(cells: Sequence[CellTimes]) -> dict[str, Value]:
    """The largest of each kind; nothing where it is not known."""
    found: dict[str, Value] = {}
    for kind, title in (("needed", "needs MiB"), ("peak", "process MiB")):
        known = [cell.memory[kind] for cell in cells if kind in cell.memory]
        found[title] = max(known) / MIB if known else None
    return found


def _in_all(network: NetworkTimes, limits: Limits) -> Row:
    """Totals over the layers that were measured, and the largest needs; libraries' where they have every layer."""
    best, seconds = network.best, total(network.best)
    rate = sum(count * cell.flops for count, cell in best) / seconds.value
    least = [count * limit.seconds for count, cell in best if (limit := of_cell(cell, limits)) is not None]
    kinds = {cell.products for _, cell in best}
    ours = [(count, our) for count, our, _ in network.compared]
    theirs = [(count, their) for count, _, their in network.compared]
    return {
        "layer": "in all",
        "times": sum(layer.count for layer in network.computed),
        "seconds": seconds,
        "GFLOP/s": rate / 1e9,
        OWN: sum(least) / seconds.value if len(least) == len(best) else None,
        PEAK: limits.share_of_peak(kinds.pop(), rate, best[0][1].threads) if len(kinds) == 1 else None,
        **_memory([cell for _, cell in best]),
        "its seconds": total(theirs) if theirs and len(theirs) == len(best) else None,
        RATIO: ratio_of_totals(theirs, ours) if theirs else None,
    }


def _spread(rows: Sequence[Row]) -> Iterator[Row]:
    """The median and the least of the shares of both limits, and of the libraries' ratios."""
    columns = {
        title: [number for row in rows if (number := _number(row.get(title))) is not None]
        for title in (OWN, PEAK, RATIO)
    }
    for name, summary in (("median", statistics.median), ("least", min)):
        yield {"layer": name, **{title: summary(numbers) for title, numbers in columns.items() if numbers}}


def _number(value: Value) -> float | None:
    if isinstance(value, Estimate):
        return value.value
    return None if value is None or isinstance(value, str) else float(value)
