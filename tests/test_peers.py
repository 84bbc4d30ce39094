"""The contract of every peer that is installed, and what is said of those that are not."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import pytest
from conftest import PROBLEMS, data

from convbench.measure.reference import convolve
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.peers import LIBRARY, PEERS, missing
from convbench.plans import Candidate, bind
from convbench.precision import EXACT
from convbench.problem import Problem
from convbench.report.content import Material
from convbench.report.versus import versus_tables
from convbench.results.record import Record
from convbench.results.store import Sweep, load

ON_THE_HOST = [name for name in PEERS if PEERS[name].executor == LIBRARY]
LEAST_SUPPORTED = 8  # of the problems, by every peer


@pytest.mark.parametrize("peer", ON_THE_HOST)
def test_every_peer_that_is_installed_supports_what_it_is_compared_on(peer):
    if (reason := PEERS[peer].available()) is not None:
        pytest.skip(f"{peer}: {reason}")
    refused = [reason for text in PROBLEMS.values() if (reason := PEERS[peer].supports(Problem.parse(text)))]
    assert len(PROBLEMS) - len(refused) >= LEAST_SUPPORTED
    assert all(re.search("channel|stride|dilation|padding|float64", reason) for reason in refused)


@pytest.mark.parametrize(
    ("peer", "problem"),
    [
        pytest.param(peer, Problem.parse(text), id=f"{peer}-{name}")
        for peer in ON_THE_HOST
        for name, text in PROBLEMS.items()
        if Candidate(peer, LIBRARY, 2).unsupported_reason(Problem.parse(text)) is None
    ],
)
def test_every_peer_agrees_with_the_reference(peer, problem):
    candidate = Candidate(peer, LIBRARY, 2)
    x, weights = data(problem)
    out = np.full(problem.output_shape, np.nan, problem.dtype)
    with bind(problem, weights, candidate) as plan:
        for image in (x, x[..., ::-1].copy()):
            plan(image, out)
            expected = convolve(problem, image, weights)
            error = np.abs(plan.result(out) - expected).max() / np.abs(expected).max()
            assert error <= EXACT.tolerance[problem.dtype]
        usable = len(os.sched_getaffinity(0))
        assert plan.threads() == (min(2, usable) if peer == "openvino" else 2)  # which takes no more than there are


def test_a_peer_that_is_missing_says_what_to_install():
    assert missing("json", extra="peers") is None
    reason = missing("json", "no_such_module", extra="peers")
    assert reason == "no_such_module not installed; pip install 'convbench[peers]'"


@pytest.mark.parametrize("peer", PEERS)
def test_no_peer_is_imported_before_it_is_used(peer):
    available = PEERS[peer].available()
    assert available is None or "pip install 'convbench[" in available or "PyTorch" in available


def test_peers_are_measured_in_the_same_runs_and_ranked(tmp_path):
    cells = {"algorithms": ("naive", "direct", "unrolled"), "executors": ("serial",)}
    spec = make_spec(["mb1ic1ih40iw50oc12kh5kw5"], **cells, peers=("scipy",), cores=(1, 2), runs=2)
    quick = Timing(min_seconds=0.0, min_samples=2, max_samples=2, wake_seconds=0.0, peak_repetitions=1)
    run_sweep(dataclasses.replace(spec, timing=quick), tmp_path / "sweep")
    sweep = load(tmp_path / "sweep")
    peers = [record for record in sweep.records if record.algorithm == "scipy"]
    assert {(record.run, record.executor, record.cores) for record in peers} == {
        (run, LIBRARY, cores) for run in (0, 1) for cores in (1, 2)
    }
    assert all(record.status == "ok" and record.check["passed"] for record in peers)
    one_core, _two = versus_tables(Material(sweep, sweep.header["spec"]))
    order = [getattr(row[3], "value", row[3]) for row in one_core.rows]
    assert order == sorted(order), "by ratios inside runs; on a busy machine, average times may be in another order"
    ratios = {row[0]: row[3] for row in one_core.rows}
    ours = next(name for name in ratios if name != "scipy")
    assert ratios[ours] == 1
    runs = {name: {} for name in ratios}
    for record in sweep.records:
        if record.status == "ok" and record.cores == 1:
            runs[record.algorithm][record.run] = np.mean(record.samples)
    inside = [runs["scipy"][run] / runs[ours][run] for run in (0, 1)]
    assert ratios["scipy"].value == pytest.approx(np.sqrt(np.prod(inside)))
    peaks = sweep.header["machine"]["peaks"]
    best = max(peaks["cores"]["1"]["multiply_add_float32"])
    [seconds, share] = next([row[2].value, row[5]] for row in one_core.rows if row[0] == ours)
    assert share == pytest.approx(2 * 12 * 36 * 46 * 25 / seconds / best)


def test_several_problems_are_summed_up_by_a_geometric_mean(tmp_path):
    """The best of ours and of theirs for each problem; what computes only a part does not count."""
    seconds = {  # (problem, algorithm): of two runs
        ("mb1ic1ih40iw50oc12kh5kw5", "direct"): (2.0, 2.2),
        ("mb1ic1ih40iw50oc12kh5kw5", "winograd"): (1.0, 1.1),
        ("mb1ic1ih40iw50oc12kh5kw5", "cudnn"): (4.0, 4.4),
        ("mb1ic1ih40iw50oc12kh5kw5", "cublas"): (0.1, 0.1),
        ("mb1ic1ih60iw50oc12kh5kw5", "direct"): (3.0, 3.0),
        ("mb1ic1ih60iw50oc12kh5kw5", "cudnn"): (9.0, 8.0),
        ("mb1ic1ih60iw50oc12kh5kw5", "cudnn-channels-last"): (3.0, 3.3),
    }
    records = tuple(
        Record(
            run=run,
            order=order,
            problem=problem,
            algorithm=algorithm,
            executor="gpu",
            cores=1,
            status="ok",
            samples=(times[run],),
            transfers={"end to end": (1.0,)},
            peer=algorithm in PEERS,
            bound=algorithm == "cublas",
        )
        for order, ((problem, algorithm), times) in enumerate(seconds.items())
        for run in (0, 1)
    )
    spec = make_spec(list(dict.fromkeys(problem for problem, _ in seconds))).to_json()
    *_, overall = versus_tables(Material(Sweep(tmp_path, {"spec": spec}, records), spec))
    assert overall.title.startswith("All problems on gpu")
    first, second, mean = overall.rows
    assert (first[1], first[3], second[1], second[3]) == ("winograd", "cudnn", "direct", "cudnn-channels-last")
    assert first[5].value == pytest.approx(4)
    assert mean[5].value == pytest.approx(np.sqrt(np.sqrt(4 * 1) * np.sqrt(4 * 1.1)))
