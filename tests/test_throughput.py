"""Images a second of a network's convolutions: sums over layers as often as they occur, by executor."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from convbench.analysis.throughput import Throughput, throughputs
from convbench.measure.spec import make_spec
from convbench.report.content import Material
from convbench.report.throughput import section
from convbench.results.record import Record
from convbench.results.store import Sweep

FIRST = 'mb8ic4ih10iw10oc8oh8ow8kh3kw3n"net:first"'
SECOND = 'mb8ic8ih8iw8oc8oh8ow8kh1kw1n"net:second*3"'
MEASURED = {  # seconds in each run
    (FIRST, "direct", "serial", 1): [4.0, 4.0, 4.0],
    (FIRST, "winograd", "serial", 1): [2.0, 2.0, 2.0],
    (SECOND, "direct", "serial", 1): [1.0, 1.0, 1.0],
    (FIRST, "direct", "threads", 2): [1.0, 1.0, 1.0],
    (SECOND, "direct", "threads", 2): [1.0, 1.0, 1.0],
    (FIRST, "onnxruntime", "library", 2): [0.1, 0.1, 0.1],
    (SECOND, "onnxruntime", "library", 2): [0.1, 0.1, 0.1],
    (FIRST, "direct", "processes", 2): [1.0, 1.0, 1.0],  # but not the second layer
    (FIRST, "direct", "gpu", 1): [0.5, 0.5, 0.5],
    (SECOND, "direct", "gpu", 1): [0.5, 0.5, 0.5],
}


def swept(problems: tuple[str, ...] = (FIRST, SECOND)) -> Material:
    names = ("problem", "algorithm", "executor", "cores")
    records = [
        Record(
            run=run,
            order=order,
            **dict(zip(names, cell, strict=True)),
            status="ok",
            samples=(seconds,),
            peer=cell[1] == "onnxruntime",
            transfers={"host to device": (0.1,), "end to end": (seconds + 0.5,)} if cell[2] == "gpu" else {},
        )
        for order, (cell, runs) in enumerate(MEASURED.items())
        for run, seconds in enumerate(runs)
        if cell[0] in problems
    ]
    spec = make_spec(problems, runs=3).to_json()
    return Material(Sweep(Path("nowhere"), {"spec": spec}, tuple(records)), spec)


@pytest.fixture
def found() -> dict[str, Throughput]:
    return {each.executor: each for each in throughputs(swept().networks)}


def test_images_a_second_by_hand(found):
    """Eight images in 2 + 3 x 1 s by the faster forms; 1 + 3 x 1 s on threads; 4 x 0.5 s on the GPU."""
    assert {name: each.images.value for name, each in found.items()} == {"serial": 8 / 5, "threads": 2.0, "gpu": 4.0}


def test_an_interval_turns_round():
    [serial, *_] = throughputs(swept().networks)
    cells = [(count, dataclasses.replace(cell, runs={0: 1.0, 1: 1.2, 2: 1.1})) for count, cell in serial.cells]
    varied = dataclasses.replace(serial, cells=cells)
    assert varied.images.low < varied.images.value < varied.images.high
    assert varied.images.low == pytest.approx(8 / varied.seconds.high)


def test_end_to_end_brings_every_layer(found):
    assert found["gpu"].images_end_to_end == pytest.approx(8 / (1.0 + 3 * 1.0))
    assert found["serial"].images_end_to_end is None


def test_an_executor_without_all_layers_and_libraries_are_left_out(found):
    assert found.keys() == {"serial", "threads", "gpu"}


def test_the_report_has_speedups_over_one_core_beside_what_was_published():
    ours, published = section(swept()).tables
    assert [(row[1], row[6].value) for row in ours.rows] == [
        ("serial", pytest.approx(1)),
        ("threads", pytest.approx(1.25)),
        ("gpu", pytest.approx(2.5)),
    ]
    assert published.rows[1][3] == pytest.approx(1470 / 33.8)


def test_without_a_network_there_is_nothing():
    plain = "ic4ih10oc8kh3"
    spec = make_spec((plain,), runs=3).to_json()
    assert not section(Material(Sweep(Path("nowhere"), {"spec": spec}, ()), spec)).tables
