"""Several nodes: measured beside predicted, the parts of a call, and where communication ends the scaling."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from convbench.analysis.communication import MOST_NODES, Prediction, end_to_end, most_useful, speedups, turning_point
from convbench.analysis.cuts import CUTTINGS, Cutting
from convbench.analysis.nodes import HALO, OVERHEAD_COUNTS, Measured, NodeSeries, on_nodes
from convbench.analysis.statistics import CONFIDENCE
from convbench.analysis.times import OUT_OF_FITS
from convbench.report.content import Column, Figure, Material, Section, Table, Value, seconds_spec
from convbench.report.labels import slug

IN_WORDS: Final[dict[Cutting, str]] = {
    "rows": "one dimension (images, rows or filters)",
    "blocks": "two dimensions (blocks)",
}
TEXT: Final = (
    "A node is a worker or a rank. A call begins when the parts of the input and the weights lie on the nodes, and "
    "ends when the last part of the output lies there; distribution and gathering are timed apart. Compute is what a "
    "node computes on average, imbalance by how much the one that computes longest takes longer, and communication the "
    "rest of the call: dispatch, messages, and the exchange of halos, which stands apart, too, by the node that waits "
    "least for the others in it.",
    "What is called predicted was not measured. The model takes one node's seconds t, and a link's latency and "
    "bandwidth, fitted to distribution and gathering alone: T(P) = t max_i share_i + messages latency + bytes / "
    "bandwidth + overhead(P) (a superstep, Valiant 1990; the link is Hockney's, 1994). Shares and halos are those of "
    "the cut; the overhead is what a call on one node takes beside computing, once for each node where a scheduler "
    "dispatches, and once for each round of a barrier where ranks exchange halos; where a constant part can be told "
    f"from that, because {OVERHEAD_COUNTS} counts or more were measured, both are fitted. Nothing is overlapped, and "
    f"links are not shared. Predictions go by powers of two, up to {MOST_NODES} nodes. Counts for which there were too "
    "few CPUs are in no fit.",
)
PARTS: Final = ("compute", "imbalance", "communication", "halos", "distribution", "gathering", "end_to_end")
"""Of a `Prediction`, and of what was measured."""
CAPTION: Final = (
    f"Markers are measured, with {CONFIDENCE:.0%} confidence intervals over runs, hollow where there were too few "
    "CPUs; dashed lines are predicted, on a grey ground for more nodes than were measured: from what one node "
    "computes, a link fitted to distribution and gathering, and an overhead that is one node's or, where "
    f"{OVERHEAD_COUNTS} counts or more were measured, fitted to theirs. Left: a call, cut in one and in two "
    "dimensions, and with distribution and gathering. Right: the parts of a call cut in one dimension."
)


def section(material: Material) -> Section:
    """Tables and a figure for each algorithm and engine; nothing where nothing was measured on nodes."""
    title = "Several nodes: measured and predicted"
    every = on_nodes(material.sweep.records)
    if not every:
        return Section(title)
    from convbench.report import nodes_figure  # loads matplotlib, which tables at a terminal do without

    tables = [table for series in every for table in _tables(material, series)]
    figures = [
        Figure(
            slug("nodes", material.slug(series.problem), series.algorithm, series.executor),
            f"{material.titled(_title(material, series))}. {CAPTION}",
            partial(nodes_figure.draw, series),
        )
        for series in every
        if series.cluster is not None
    ]
    return Section(title, TEXT, [*tables, *_limits_table(material, every)], figures)


def _tables(material: Material, series: NodeSeries) -> Iterator[Table]:
    """Seconds of a call, and its parts: a row for each count that was measured."""
    predicted = {each.nodes: each for each in series.predicted("rows", series.cells)}
    spec = seconds_spec(cell.seconds.value / 10 for cell in series.cells.values())
    name = ("nodes", material.slug(series.problem), series.algorithm, series.executor)
    title = _title(material, series)
    yield Table(
        slug(*name),
        material.titled(f"{title}: a call, in seconds"),
        [
            *(Column("nodes", "d"), Column("measured", spec), Column("predicted", spec), Column("off by", "+.1%")),
            *(Column("scaled speedup" if series.scaled else "speedup", ".3f"), Column("efficiency", ".3f")),
            *(Column("predicted speedup", ".3f"), Column("halos, bytes", "d"), Column("messages", "d")),
            Column("caveat"),
        ],
        [_call(series, cell, predicted) for cell in series.cells.values()],
    )
    yield Table(
        slug(*name, "parts"),
        material.titled(f"{title}: parts, in seconds"),
        [Column("nodes", "d"), *(Column(t, spec) for part in PARTS for t in _both(part))],
        [
            [nodes, *(value for part in PARTS for value in (cell.part(part), _predicted(predicted.get(nodes), part)))]
            for nodes, cell in series.cells.items()
        ],
    )


def _both(part: str) -> tuple[str, str]:
    """Headings of a part's columns."""
    name = part.replace("_", " ")
    return name, f"{name}, predicted"


def _call(series: NodeSeries, cell: Measured, predicted: dict[int, Prediction]) -> list[Value]:
    found, one = predicted.get(cell.nodes), series.cells.get(1)
    work = cell.problem.multiply_adds / series.problem.multiply_adds
    speedup = None if one is None else work * one.seconds.value / cell.seconds.value
    return [
        cell.nodes,
        cell.seconds,
        None if found is None else found.seconds,
        None if found is None else found.seconds / cell.seconds.value - 1,
        speedup,
        None if speedup is None else speedup / cell.nodes,
        None if found is None or one is None else work * predicted[1].seconds / found.seconds,
        cell.moved.get(HALO, 0),
        cell.messages.get(HALO, 0),
        "" if cell.fit else OUT_OF_FITS,
    ]


def _predicted(prediction: Prediction | None, name: str) -> float | None:
    return None if prediction is None else float(getattr(prediction, name))


def _limits_table(material: Material, every: list[NodeSeries]) -> Iterator[Table]:
    """Where communication ends the scaling: a row for each series and cutting."""
    rows = [
        _limits(material, series, cutting) for series in every if series.cluster is not None for cutting in CUTTINGS
    ]
    columns = [
        *(Column("problem"), Column("algorithm"), Column("executor"), Column("cut in")),
        *(Column("latency, us", ".1f"), Column("bandwidth, MB/s", ".4g")),
        *(Column("nodes of highest speedup", "d"), Column("highest speedup", ".4g")),
        *(Column("nodes of highest speedup end to end", "d"), Column("highest speedup end to end", ".4g")),
        Column("nodes from which half of a call is communication"),
    ]
    if rows:
        yield Table("nodes-limits", "Predicted: where communication ends the scaling", columns, rows)


def _limits(material: Material, series: NodeSeries, cutting: Cutting) -> list[Value]:
    predictions, link = series.predicted(cutting), series.link
    calls = speedups(predictions, scaled=series.scaled)
    wholes = speedups(predictions, scaled=series.scaled, seconds=end_to_end)
    turn = turning_point(predictions)
    return [
        *(material.label(series.problem), series.algorithm, series.executor, IN_WORDS[cutting]),
        *((link.latency * 1e6, link.bandwidth / 1e6) if link else (None, None)),
        *(most_useful(calls), max(calls.values())),
        *(most_useful(wholes), max(wholes.values())),
        f"more than {MOST_NODES}" if turn is None else str(turn),
    ]


def _title(material: Material, series: NodeSeries) -> str:
    return f"{material.label(series.problem)}: {series.algorithm}, {series.executor}"
