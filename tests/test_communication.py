"""The model of communication: cases worked by hand, and what must hold of any problem and any link."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.analysis.communication import (
    COUNTS,
    Cluster,
    end_to_end,
    most_useful,
    predict,
    speedups,
    strong,
    turning_point,
    weak,
)
from convbench.analysis.cuts import CUTTINGS, Cut, cuts
from convbench.analysis.link import Link, Transfer, fitted
from convbench.executors import halo
from convbench.problem import ITEM_SIZE, Problem

REFERENCE = Problem(height=720, width=1280, out_channels=128, kernel_height=11, kernel_width=11)
LINK = Link(latency=1e-4, bandwidth=1e8)
CLUSTER = Cluster(seconds=1.0, link=LINK)
FREE = Link(0.0, math.inf)

sizes = st.integers(1, 5)
problems = st.builds(
    lambda batch, channels, height, width, kernel, stride, padding, dtype, filters, groups: Problem(
        batch=batch,
        channels=channels * groups,
        height=height + kernel[0],
        width=width + kernel[1],
        out_channels=filters * groups,
        groups=groups,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride=(min(stride[0], kernel[0]), min(stride[1], kernel[1])),
        padding=(min(padding[0], kernel[0] - 1), min(padding[1], kernel[1] - 1)),
        dtype=dtype,
    ),
    *(sizes, sizes, st.integers(0, 40), st.integers(0, 40)),
    *(st.tuples(sizes, sizes), st.tuples(sizes, sizes), st.tuples(sizes, sizes)),
    st.sampled_from(["float32", "float64"]),
    *(sizes, st.integers(1, 4)),
)
links = st.builds(Link, st.floats(0, 1), st.floats(1e3, 1e12))
clusters = st.builds(Cluster, st.floats(1e-3, 1e3), links, st.floats(0, 1e-2), st.booleans(), st.booleans())


def test_rows_by_hand():
    """710 rows of outputs on four nodes: 178, 178, 177, 177; neighbours read ten rows in common, and have five each."""
    cut = Cut(REFERENCE, (1, 4, 1))
    assert cut.axes[1].outputs.tolist() == [178, 178, 177, 177]
    assert cut.axes[1].owned.tolist() == [183, 178, 177, 182]
    assert cut.axes[1].halo.tolist() == [5, 10, 10, 5]
    assert cut.axes[1].owners.tolist() == [1, 2, 2, 1]
    assert cut.busiest == 178 / 710
    assert (cut.messages, cut.halo_bytes) == (2, 10 * 1280 * 4)
    assert cut.distributed(with_halo=True, apart=True) == (4, (720 + 30) * 1280 * 4)
    assert cut.distributed(with_halo=False, apart=False) == (3, (720 - 183) * 1280 * 4)
    assert cut.gathered(apart=True) == (4, 710 * 1270 * 128 * 4)
    assert cut.gathered(apart=False) == (3, (710 - 178) * 1270 * 128 * 4)


def test_blocks_by_hand():
    """Each block has 360 x 640 pixels and reads 365 x 645: five rows, five columns and a corner, of three others."""
    cut = Cut(REFERENCE, (1, 2, 2))
    assert (cut.messages, cut.halo_bytes) == (3, (365 * 645 - 360 * 640) * 4)


def test_thin_bands_read_from_several_owners():
    """Bands of four rows whose outputs read ten further ones, five on either side: of two nodes there, and two here."""
    cut = Cut(REFERENCE, (1, 178, 1))
    assert cut.axes[1].outputs.max() == 4
    assert (cut.messages, cut.halo_bytes) == (4, 10 * 1280 * 4)


def test_images_have_no_halo():
    problem = dataclasses.replace(REFERENCE, batch=10)
    assert list(cuts(problem, 4, "rows")) == [Cut(problem, (4, 1, 1))]
    assert list(cuts(problem, 16, "rows")) == [Cut(problem, (1, 16, 1))]
    cut = Cut(problem, (4, 1, 1))
    assert (cut.messages, cut.halo_bytes, cut.busiest) == (0, 0, 0.3)


def test_filters_are_cut_where_there_are_few_rows():
    """Seven rows of outputs and eight or sixteen nodes: even parts of 512 filters, which need all of the input."""
    problem = Problem.parse("ic512ih7oc512kh3ph1")
    for nodes in (8, 16):
        [cut] = cuts(problem, nodes, "rows")
        assert (cut.parts, cut.busiest, cut.messages, cut.halo_bytes) == (nodes, 1 / nodes, 0, 0)
        size = math.prod(problem.input_shape) * ITEM_SIZE[problem.dtype]
        assert cut.distributed(with_halo=False, apart=False) == (nodes - 1, (nodes - 1) * size)
        found = predict(problem, nodes, CLUSTER, "rows")
        assert (found.imbalance, found.communication, found.cut) == (0, 0, cut)
    [grouped] = cuts(Problem.parse("g4ic16ih7oc8kh3ph1"), 8, "rows")
    assert grouped.channels[0].tolist() == [1] * 8
    assert grouped.channels[1].tolist() == [4] * 8


def test_no_more_rows_are_cut_than_padding_allows():
    """The kernels of the two outer rows of outputs lie in the padding; nodes without a part have nothing to do."""
    problem = Problem(height=3, width=4, out_channels=1, kernel_height=3, kernel_width=3, padding=(4, 0))
    [cut] = cuts(problem, 12, "rows")
    assert cut.parts == len(problem.split(12))
    assert predict(problem, 12, CLUSTER, "rows").imbalance == pytest.approx(cut.busiest - 1 / 12)


def test_a_call_by_hand():
    found = predict(REFERENCE, 4, CLUSTER, "rows")
    assert found.compute == 0.25
    assert found.imbalance == pytest.approx(178 / 710 - 0.25)
    assert found.communication == pytest.approx(2e-4 + 51200 / 1e8)
    assert found.distribution == pytest.approx(3e-4 + 537 * 1280 * 4 / 1e8)
    assert found.gathering == pytest.approx(3e-4 + 532 * 1270 * 128 * 4 / 1e8)
    assert found.end_to_end == found.distribution + found.seconds + found.gathering


def test_a_scheduler_sends_halos_before_the_call_and_dispatches_to_one_node_after_the_other():
    cluster = Cluster(seconds=1.0, link=LINK, overhead=0.01, exchanges=False, apart=True)
    found = predict(REFERENCE, 4, cluster, "rows")
    assert found.communication == 0.04
    assert found.distribution == pytest.approx(4e-4 + 750 * 1280 * 4 / 1e8)
    assert predict(REFERENCE, 4, dataclasses.replace(cluster, exchanges=True), "rows").communication == pytest.approx(
        0.03 + 2e-4 + 51200 / 1e8  # one round, and two of a barrier
    )


def test_a_scheduler_ends_the_scaling_where_dispatching_grows_as_fast_as_computing_shrinks():
    """T = t/P + oP is least at P = sqrt(t/o)."""
    tall = Problem(height=100_000, width=64, out_channels=1, kernel_height=1, kernel_width=1)
    cluster = Cluster(seconds=4.0, link=LINK, overhead=0.0001, exchanges=False, apart=True)
    predictions = strong(tall, cluster, "rows", range(1, 1000))
    best = most_useful(speedups(predictions, scaled=False))
    assert best == turning_point(predictions) == math.sqrt(4.0 / 0.0001)
    assert most_useful(speedups(predictions, scaled=False, seconds=end_to_end)) < best


def test_a_turning_point_may_lie_beyond_what_is_predicted():
    assert turning_point(strong(REFERENCE, CLUSTER, "rows", [1, 2, 4])) is None
    assert turning_point(strong(REFERENCE, dataclasses.replace(CLUSTER, link=Link(1.0, 1e8)), "rows", [1, 2, 4])) == 2


def test_weak_scaling_by_hand():
    """Each node has 710 rows of outputs; the halo stays what it is, so that the scaled speedup grows with the nodes."""
    one, two, several = weak(REFERENCE, CLUSTER, "rows", [1, 2, 1024])
    assert one.seconds == 1.0
    assert two.communication == pytest.approx(1e-4 + 25600 / 1e8)  # of one neighbour
    assert several.communication == pytest.approx(2e-4 + 51200 / 1e8)
    assert (two.compute, several.compute) == pytest.approx((1, 1))
    assert (two.imbalance, several.imbalance) == pytest.approx((0, 0))
    assert speedups([one, two, several], scaled=True)[1024] == pytest.approx(1024 / 1.000712)


def test_a_link_is_found_again():
    link = Link(2e-3, 5e7)
    known = [Transfer(m, n, link.seconds(m, n)) for m, n in ((1, 1e4), (2, 1e8), (4, 3e6))]
    found = fitted(known)
    assert (found.latency, found.bandwidth) == pytest.approx((2e-3, 5e7))
    assert fitted(known[:1]) == Link(0.0, pytest.approx(1e4 / (2e-3 + 1e4 / 5e7)))
    assert fitted([]) is None
    assert fitted([Transfer(1, 100, 1.0), Transfer(1, 10_000, 0.5)]) is None  # more bytes in less time


@given(problems, st.integers(2, 12))
def test_a_cut_is_that_of_split_and_its_halos_those_of_ranks(problem, nodes):
    """What parts compute and read is what `Problem.split` says, and what ranks have and send what `mpi` does."""
    [cut] = cuts(problem, nodes, "rows")
    parts = problem.split(nodes)
    assert cut.parts == len(parts)
    assert cut.busiest == max(part.problem.multiply_adds for part in parts) / problem.multiply_adds
    size = ITEM_SIZE[problem.dtype]
    inputs = [math.prod(part.problem.input_shape) * size for part in parts]
    outputs = [math.prod(part.problem.output_shape) * size for part in parts]
    assert cut.distributed(with_halo=True, apart=True) == (len(parts), sum(inputs))
    assert cut.distributed(with_halo=True, apart=False) == (len(parts) - 1, sum(inputs[1:]))
    assert cut.gathered(apart=True) == (len(parts), sum(outputs))
    assert cut.gathered(apart=False) == (len(parts) - 1, sum(outputs[1:]))
    if cut.grid[0] > 1 or cut.filters > 1:
        assert (cut.messages, cut.halo_bytes) == (0, 0)
    else:
        rows = [part.input[2].indices(problem.height)[:2] for part in parts]
        assert cut.axes[1].owned.tolist() == [end - begin for begin, end in halo.owned(rows)]
        assert (cut.axes[1].owned + cut.axes[1].halo).tolist() == [end - begin for begin, end in rows]
        sent = [halo.messages(rows, number) for number in range(len(rows))]
        received = [[each for each in messages if each.target == number] for number, messages in enumerate(sent)]
        assert cut.axes[1].owners.tolist() == [len(messages) for messages in received]
        lines = [sum(end - begin for begin, end in (each.rows for each in messages)) for messages in received]
        assert cut.axes[1].halo.tolist() == lines


@given(problems, clusters, st.sampled_from(CUTTINGS))
def test_one_node_sends_nothing(problem, cluster, cutting):
    found = predict(problem, 1, cluster, cutting)
    assert (found.compute, found.imbalance) == (cluster.seconds, 0)
    assert found.communication == cluster.overhead
    if not cluster.apart:
        assert found.distribution == found.gathering == 0


@given(problems, clusters, st.integers(1, 64), st.sampled_from(CUTTINGS), st.floats(1, 100))
def test_a_better_link_is_never_slower(problem, cluster, nodes, cutting, times):
    slow = predict(problem, nodes, cluster, cutting)
    for better in (
        Link(cluster.link.latency, cluster.link.bandwidth * times),
        Link(cluster.link.latency / times, cluster.link.bandwidth),
    ):
        fast = predict(problem, nodes, dataclasses.replace(cluster, link=better), cutting)
        assert fast.seconds <= slow.seconds * (1 + 1e-12)
        if cutting == "rows":  # blocks of another grid may take longer to distribute
            assert fast.end_to_end <= slow.end_to_end * (1 + 1e-12)


@given(problems, clusters, st.integers(1, 64))
def test_blocks_are_never_slower_than_rows(problem, cluster, nodes):
    rows, blocks = (predict(problem, nodes, cluster, cutting) for cutting in CUTTINGS)
    assert blocks.seconds <= rows.seconds * (1 + 1e-12)


@given(problems, st.integers(1, 64), st.sampled_from(CUTTINGS), st.floats(1e-3, 1e3))
def test_without_communication_speedup_is_ideal_but_for_imbalance(problem, nodes, cutting, seconds):
    found = predict(problem, nodes, Cluster(seconds, FREE), cutting)
    assert found.communication == 0
    assert found.seconds >= seconds / nodes * (1 - 1e-12)
    assert found.imbalance >= -1e-9 * seconds


@given(st.sampled_from(COUNTS[4:10]), st.integers(1, 15))
def test_halos_of_blocks_shrink_and_those_of_rows_do_not(nodes, kernel):
    """From sixteen nodes up, blocks of a square image have the smaller halo: the surface of a square is smaller."""
    problem = Problem(
        height=2048, width=2048, out_channels=1, kernel_height=kernel, kernel_width=kernel, padding="same"
    )
    [rows, *blocks] = cuts(problem, nodes, "blocks")
    assert min(cut.halo_bytes for cut in blocks) <= rows.halo_bytes


@given(problems, st.integers(1, 100))
def test_every_output_has_one_owner_and_every_line_at_most_one(problem, nodes):
    for cutting in CUTTINGS:
        for cut in cuts(problem, nodes, cutting):
            if cut.halo_bytes:
                sizes = (problem.batch, problem.height, problem.width)
                assert all(axis.owned.sum() <= size for axis, size in zip(cut.axes, sizes, strict=True))
            assert [axis.outputs.sum() for axis in cut.axes] == [problem.batch, *problem.output_shape[2:]]
            assert cut.channels[0].sum() == problem.out_channels
            assert cut.parts <= nodes
            assert (cut.messages == 0) == (cut.halo_bytes == 0)
