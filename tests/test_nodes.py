"""Several nodes in records and reports: what was measured, the cluster that it tells of, and the prediction from it."""

from __future__ import annotations

import dataclasses
import math
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.two_hosts import compared
from convbench.analysis.communication import COUNTS, Cluster, strong, weak
from convbench.analysis.cuts import Cut
from convbench.analysis.link import Link
from convbench.analysis.nodes import NodeSeries, of_record, on_nodes
from convbench.analysis.places import cells_at, places
from convbench.analysis.series import group
from convbench.executors import EXECUTORS
from convbench.executors.cluster import Cluster as Asked
from convbench.executors.cluster import Members, Traffic
from convbench.plans import Candidate
from convbench.plans.distributed import DistributedPlan
from convbench.problem import Problem
from convbench.report.content import Material
from convbench.report.nodes import section
from convbench.report.nodes_figure import draw
from convbench.report.summary import summary_table
from convbench.results.record import Record
from convbench.results.store import Sweep

PROBLEM = Problem(height=720, width=1280, out_channels=128, kernel_height=11, kernel_width=11, name="multicore")
RANKS = Cluster(0.17, Link(5e-5, 1.1e8), 1e-4)
WORKERS = Cluster(0.17, Link(2e-3, 6e8), 2e-3, exchanges=False, apart=True)
RUNS = 3


def records(
    cluster: Cluster, executor: str, nodes: tuple[int, ...] = (1, 2, 4), *, scaled: bool = False
) -> list[Record]:
    """What would be measured if the model held, but that the first node is a tenth slower, and each run a hundredth."""
    return [record(cluster, executor, n, run, scaled=scaled) for n in nodes for run in range(RUNS)]


def record(cluster: Cluster, executor: str, nodes: int, run: int, *, scaled: bool) -> Record:
    [predicted] = (weak if scaled else strong)(PROBLEM, cluster, "rows", [nodes])
    problem = PROBLEM.grown(nodes) if scaled else PROBLEM
    cut = Cut(problem, (1, nodes, 1))
    factor = 1 + run / 100
    compute = [predicted.compute * factor * (1.1 if node == 0 and nodes > 1 else 1) for node in range(nodes)]
    distributed = cut.distributed(with_halo=not cluster.exchanges, apart=cluster.apart)
    gathered, halo = cut.gathered(apart=cluster.apart), (nodes - 1) * cluster.exchanges
    return Record(
        run=run,
        order=nodes,
        problem=str(problem),
        base=str(PROBLEM) if scaled else "",
        algorithm="direct",
        executor=executor,
        cores=nodes,
        status="ok",
        samples=(max(compute) + predicted.communication,) * 2,
        transfers={
            "distribution": (9.0, predicted.distribution, predicted.distribution) if nodes > 1 or cluster.apart else (),
            "gathering": (9.0, predicted.gathering, predicted.gathering) if nodes > 1 or cluster.apart else (),
            "end to end": (predicted.end_to_end,),
        },
        cluster={
            "workers": nodes,
            "threads_per_worker": 1,
            "hosts": 1,
            "axis": "rows",
            "bytes": {"distribution": distributed[1], "halo": halo * 51200, "gathering": gathered[1]},
            "messages": {"distribution": distributed[0], "halo": halo, "gathering": gathered[0]},
            "compute_seconds": [compute, [], compute],
            "communication_seconds": [[predicted.halos, *[predicted.halos + 1] * (nodes - 1)]] * 3,
            "replaced": 0,
        },
    )


def material(found: list[Record]) -> Material:
    return Material(Sweep(Path("nowhere"), {"spec": {}}, tuple(found)), {})


@pytest.fixture(params=[RANKS, WORKERS], ids=["ranks", "workers"])
def cluster(request) -> Cluster:
    return request.param


def one_series(cluster: Cluster, *, scaled: bool = False) -> NodeSeries:
    [series] = on_nodes(records(cluster, "engine", scaled=scaled))
    return series


def test_parts_of_a_call(cluster):
    """Two nodes, of which one takes 1.1 times its share: on average 1.05 times, the imbalance another 0.05."""
    series = one_series(cluster)
    cell = series.cells[2]
    assert cell.average == pytest.approx(1.05 * 1.01 * 0.085)
    assert cell.imbalance == pytest.approx(0.05 * 1.01 * 0.085)
    assert cell.average + cell.imbalance + cell.communication == pytest.approx(cell.seconds.value)
    assert cell.halos == pytest.approx(series.predicted("rows", [2])[0].halos)


def test_the_cluster_is_found_again(cluster):
    found = one_series(cluster).cluster
    assert (found.link.latency, found.link.bandwidth) == pytest.approx((cluster.link.latency, cluster.link.bandwidth))
    assert (found.seconds, found.overhead) == pytest.approx((0.17 * 1.01, cluster.overhead))
    assert (found.exchanges, found.apart) == (cluster.exchanges, cluster.apart)


def test_overhead_is_told_apart_from_three_counts_up():
    """Two milliseconds in any call and half of one for each worker; of two counts all of one node's is each one's."""
    cluster = dataclasses.replace(WORKERS, constant=2e-3, overhead=5e-4)
    [several] = on_nodes(records(cluster, "dask"))
    assert (several.cluster.constant, several.cluster.overhead) == pytest.approx((2e-3, 5e-4))
    [few] = on_nodes(records(cluster, "dask", (1, 2)))
    assert (few.cluster.constant, few.cluster.overhead) == pytest.approx((0, 2.5e-3))


def test_what_had_too_few_cpus_is_shown_and_in_no_fit():
    every = records(WORKERS, "dask", (1, 2, 4, 8))
    slow = [
        dataclasses.replace(each, flags=("oversubscribed",), samples=(5.0,), transfers={"distribution": (5.0,)})
        if each.cores == 8
        else each
        for each in every
    ]
    [expected], [found] = on_nodes(records(WORKERS, "dask")), on_nodes(slow)
    assert found.cluster == expected.cluster
    calls, *_ = section(material(slow)).tables
    assert [row[-1] for row in calls.rows] == ["", "", "", "oversubscribed"]


@pytest.mark.parametrize("scaled", [False, True])
def test_predictions_start_from_one_node(cluster, scaled):
    series = one_series(cluster, scaled=scaled)
    assert series.scaled == scaled
    [one, two] = series.predicted("rows", [1, 2])
    assert one.seconds == pytest.approx(series.cells[1].seconds.value)
    assert two.seconds == pytest.approx(series.cells[2].seconds.value, rel=0.1)


def test_between_machines_only_what_is_remote_crosses_the_link():
    """Two workers, one of them with the process that leads: half of what moves passes the link."""
    [series] = on_nodes(records(WORKERS, "dask", (1, 2)))
    cut, link = Cut(PROBLEM, (1, 2, 1)), Link(0.0, 1e7)
    moved = cut.distributed(with_halo=True, apart=True)[1], cut.gathered(apart=True)[1]
    seconds = [link.seconds(1, size / 2) for size in moved]
    two = dataclasses.replace(
        series.cells[2], hosts=2, remote=1, transfers=dict(zip(("distribution", "gathering"), seconds, strict=True))
    )
    series = dataclasses.replace(series, cells={1: series.cells[1], 2: two})
    assert series.link.bandwidth == pytest.approx(1e7)
    assert not series.apart
    assert series.predicted("rows", [2])[0].gathering == pytest.approx(seconds[1])
    found = {each.what: each for each in compared(series, link)}
    assert found.keys() == {"distribution", "gathering"}
    local = series.cells[1].transfers["gathering"] / 2
    assert found["gathering"].predicted == pytest.approx(local + seconds[1])


def distributed(monkeypatch, executor: str, hosts: list[str]) -> DistributedPlan:
    """A plan on workers of these hosts that were never started."""
    told = {"setup": {}, "scratch_bytes": 0, "packed_bytes": 0, "variant": {}, "error_bound": 0, "error_estimate": 0}
    members = Members([{**told, "host": host} for host in hosts], ours=False)
    crew = SimpleNamespace(members=members, setup={}, traffic={"halo": Traffic()}, close=lambda: None)
    monkeypatch.setattr(EXECUTORS[executor], "crew", lambda _job, _cluster: crew)
    monkeypatch.setattr(EXECUTORS[executor], "available", lambda: None)
    return DistributedPlan(PROBLEM, np.ones(PROBLEM.weights_shape), Candidate("direct", executor, len(hosts)))


def test_workers_on_other_hosts_than_the_process_that_leads_are_counted(monkeypatch):
    facts = distributed(monkeypatch, "dask", [socket.gethostname(), "another", "another", "third"]).facts()
    assert (facts["workers"], facts["hosts"], facts["remote"]) == (4, 3, 3)
    one = record(WORKERS, "dask", 4, 0, scaled=False)
    assert of_record(one).remote == 4  # does not tell
    told = dataclasses.replace(one, cluster={**one.cluster, "hosts": 3, "remote": 3})
    [series] = on_nodes([Record.from_json(told.to_json())])
    assert not series.apart
    assert series.cells[4].remote == 3


def test_ranks_that_have_no_halo_to_exchange_are_ranks_still(monkeypatch):
    """A batch is cut into images: the engine tells, not its messages; those of records that do not tell."""
    here = socket.gethostname()
    told = {name: distributed(monkeypatch, name, [here] * 4).facts()["exchanges"] for name in ("mpi", "dask")}
    assert told == {"mpi": True, "dask": False}
    for cluster, executor in ((RANKS, "mpi"), (WORKERS, "dask")):
        every = [
            dataclasses.replace(each, cluster={**each.cluster, "messages": {**each.cluster["messages"], "halo": 0}})
            for each in records(cluster, executor)
        ]
        assert [series.exchanges for series in on_nodes(every)] == [False]
        telling = [dataclasses.replace(each, cluster={**each.cluster, "exchanges": told[executor]}) for each in every]
        [series] = on_nodes([Record.from_json(each.to_json()) for each in telling])
        assert series.exchanges == series.cluster.exchanges == cluster.exchanges


def test_threads_of_workers_count_as_cores_where_limits_and_places_are_looked_up():
    """One worker of sixteen threads: memory of sixteen, sixteen cores' peak, and never beside one core."""
    of_one = Candidate("unrolled", "threads", 16)
    worker = dataclasses.replace(of_one, executor="dask", cores=1, cluster=Asked(threads=16))
    assert worker.memory(PROBLEM) == of_one.memory(PROBLEM) > dataclasses.replace(of_one, cores=1).memory(PROBLEM)
    one = record(WORKERS, "dask", 1, 0, scaled=False)
    wide = dataclasses.replace(one, cluster={**one.cluster, "threads_per_worker": 16})
    several = group([wide])
    assert places(several) == [16]
    [cell] = cells_at(several, 16).values()
    assert cells_at(several, 1) == {}
    peaks = {"1": {"multiply_add_float32": [1e11]}, "16": {"multiply_add_float32": [1.6e12]}}
    header = {"spec": {}, "machine": {"peaks": {"cores": peaks}}}
    found = summary_table(Material(Sweep(Path("nowhere"), header, (wide,)), {}), PROBLEM, several)
    titles = [column.title for column in found.columns]
    assert found.rows[0][titles.index("of peak")] == pytest.approx(cell.rate / 1.6e12)


def test_ranks_on_two_hosts_are_compared_by_their_halo_too():
    """Of ten rows that both read each has five; what a rank waits for the other is not the exchange."""
    found = {each.what: each for each in compared(one_series(RANKS), RANKS.link)}
    assert found["halo"].moved == 25600
    assert found["halo"].off == pytest.approx(0, abs=1e-9)
    assert found["distribution"].off == pytest.approx(0, abs=1e-9)


def test_what_was_not_measured_on_nodes_says_nothing():
    plain = Record(run=0, order=0, problem="p", algorithm="a", executor="e", cores=1, status="ok", samples=(1.0,))
    assert of_record(plain) is None
    assert section(material([plain])).tables == ()
    failed = dataclasses.replace(records(RANKS, "mpi")[0], status="failed")
    assert on_nodes([failed]) == []


def test_without_times_of_nodes_or_without_one_node_less_is_said():
    """A worker that died has no times: a call is still known. Without one node there is no prediction."""
    every = records(WORKERS, "dask")
    untold = [dataclasses.replace(each, cluster={**each.cluster, "compute_seconds": [[]]}) for each in every]
    [series] = on_nodes(untold)
    assert series.cells[2].communication is None
    assert series.cluster.seconds == series.cells[1].seconds.value
    several = material([each for each in every if each.cores > 1])
    found = section(several)
    assert not found.figures
    assert found.tables[0].rows[0][2] is None


@pytest.mark.parametrize("scaled", [False, True])
def test_the_report_has_measured_beside_predicted(scaled):
    every = [*records(RANKS, "mpi", scaled=scaled), *records(WORKERS, "dask", scaled=scaled)]
    found = section(material(every))
    calls, parts, _, _, limits = found.tables
    assert [row[0] for row in calls.rows] == [1, 2, 4]
    heading = [column.title for column in calls.columns]
    off, speedup = heading.index("off by"), heading.index("scaled speedup" if scaled else "speedup")
    assert all(abs(row[off]) < 0.1 for row in calls.rows)
    assert calls.rows[0][speedup] == 1
    assert calls.rows[2][speedup] == pytest.approx(4 / 1.1, rel=0.02)
    assert [column.title for column in parts.columns][1:3] == ["compute", "compute, predicted"]
    assert len(limits.rows) == 4  # two engines in one and two dimensions
    assert all(row[6] in COUNTS for row in limits.rows)
    assert len(found.figures) == 2
    assert all("an overhead that is one node's or, where 3 counts" in figure.caption for figure in found.figures)


def test_a_prediction_is_drawn_as_one():
    """Dashed, labelled, up to thousands of nodes; measured with markers where it was measured."""
    left, _ = draw(one_series(RANKS)).axes
    lines = {line.get_label(): line for line in left.get_lines()}
    for name in ("predicted, one dimension", "predicted, blocks", "predicted, end to end"):
        assert lines[name].is_dashed()
        assert max(lines[name].get_xdata()) == 4096
    measured = {container.get_label(): container for container in left.containers}["measured"]
    assert list(measured[0].get_xdata()) == [1, 2, 4]
    assert "predicted" in [text.get_text() for text in left.texts]
    assert all(math.isfinite(value) for line in lines.values() for value in line.get_ydata())
