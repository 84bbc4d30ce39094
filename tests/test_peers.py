"""The contract of every peer that is installed, and what is said of those that are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import data

from convbench.measure.reference import TOLERANCE, convolve
from convbench.measure.spec import Timing, make_spec
from convbench.measure.sweep import run_sweep
from convbench.peers import LIBRARY, PEERS, device_peer, missing
from convbench.plans import Candidate, bind
from convbench.report.content import Material
from convbench.report.versus import versus_tables
from convbench.results.store import load


@pytest.mark.parametrize("peer", [name for name in PEERS if not device_peer(name)])
def test_every_peer_agrees_with_the_reference(peer, problem):
    candidate = Candidate(peer, LIBRARY, 2)
    if (reason := candidate.obstacle(problem)) is not None:
        pytest.skip(f"{peer}: {reason}")
    x, weights = data(problem)
    out = np.full(problem.output_shape, np.nan, problem.dtype)
    with bind(problem, weights, candidate) as plan:
        for image in (x, x[..., ::-1].copy()):
            plan(image, out)
            expected = convolve(problem, image, weights)
            error = np.abs(plan.result(out) - expected).max() / np.abs(expected).max()
            assert error <= TOLERANCE[problem.dtype]
        assert plan.threads() == 2


def test_a_peer_that_is_missing_says_what_to_install():
    assert missing("json", extra="peers") is None
    reason = missing("json", "no_such_module", extra="peers")
    assert reason == "no_such_module not installed; pip install 'convbench[peers]'"


@pytest.mark.parametrize("peer", PEERS)
def test_no_peer_is_imported_before_it_is_used(peer):
    available = PEERS[peer].available()
    assert available is None or "pip install 'convbench[" in available or "PyTorch" in available


def test_peers_are_measured_in_the_same_runs_and_ranked(tmp_path):
    spec = make_spec(["mb1ic1ih40iw50oc12kh5kw5"], executors=("serial",), peers=("scipy",), cores=(1, 2), runs=2)
    quick = Timing(min_seconds=0.0, min_samples=2, max_samples=2, peak_repetitions=2)
    run_sweep(dataclasses.replace(spec, timing=quick), tmp_path / "sweep")
    sweep = load(tmp_path / "sweep")
    peers = [record for record in sweep.records if record.algorithm == "scipy"]
    assert {(record.run, record.executor, record.cores) for record in peers} == {
        (run, LIBRARY, cores) for run in (0, 1) for cores in (1, 2)
    }
    assert all(record.status == "ok" and record.check["passed"] for record in peers)
    one_core, _two = versus_tables(Material(sweep, sweep.header["spec"]))
    times = [row[2].value for row in one_core.rows]
    assert times == sorted(times)
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
    share = {row[0]: row[5] for row in one_core.rows}[ours]
    assert share == pytest.approx(2 * 12 * 36 * 46 * 25 / times[0] / best)
