"""A record says what ran: ours or a library's, a bound or a convolution, and which variant; reports go by it alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from test_store import HEADER, RECORD

from convbench.measure.outcome import kind
from convbench.peers import PEERS
from convbench.report.content import Material
from convbench.report.ran import ran_table
from convbench.report.summary import section as summary_section
from convbench.report.versus import section as versus_section
from convbench.results.export import to_csv
from convbench.results.record import Record
from convbench.results.store import Sweep, load


def of_before(record: Record) -> str:
    """A record's line as versions wrote it that did not say what ran."""
    data = json.loads(record.to_json())
    return json.dumps({name: value for name, value in data.items() if name not in ("peer", "bound", "variant")})


@pytest.mark.parametrize(
    ("algorithm", "executor", "peer", "bound"),
    [
        ("direct", "threads", False, False),
        ("unrolled", "gpu", False, False),
        ("scipy", "library", True, False),
        ("a library that is gone", "library", True, False),
        ("cudnn", "gpu", True, False),
        ("cudnn-channels-last", "gpu", True, False),
        ("cublas", "gpu", True, True),
    ],
)
def test_records_of_before_are_of_what_their_names_told_then(algorithm, executor, peer, bound):
    record = dataclasses.replace(RECORD, algorithm=algorithm, executor=executor)
    found = Record.from_json(of_before(record))
    assert (found.peer, found.bound, found.variant) == (peer, bound, {})
    if algorithm in (*PEERS, "direct", "unrolled"):
        assert kind(record.cell) == {"peer": peer, "bound": bound}
    said = dataclasses.replace(record, peer=not peer, bound=not bound, variant={"tile": "6x6", "blocks": 4})
    assert Record.from_json(said.to_json()) == said, "what a record says counts, whatever its names are"


@pytest.mark.parametrize("change", [{"peer": 1}, {"bound": "yes"}, {"variant": {"tile": [6]}}, {"variant": "6x6"}])
def test_what_ran_has_its_shape(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Record.from_json(json.dumps({**json.loads(RECORD.to_json()), **change}))


def sweep_of(*records: Record) -> Material:
    return Material(Sweep(None, HEADER, records))


def test_reports_go_by_the_records_and_not_by_todays_tables():
    """A peer that nobody knows any more is faster than ours, and a bound is faster still."""
    ours = dataclasses.replace(RECORD, executor="gpu", cores=1, transfers={"end to end": (1.0,)}, samples=(0.3,))
    theirs = dataclasses.replace(ours, algorithm="forgotten", peer=True, samples=(0.2,))
    limit = dataclasses.replace(ours, algorithm="least", peer=True, bound=True, samples=(0.1,))
    material = sweep_of(ours, theirs, limit)
    found = versus_section(material)
    assert any("least is a bound and no convolution" in text for text in found.text)
    [table] = found.tables
    assert [(row[0], row[3]) for row in table.rows if row[0] == "direct"] == [("direct", 1.0)]
    [sentence] = summary_section(material).text
    assert "forgotten" in sentence
    assert "least" not in sentence


def test_what_ran_is_in_the_report_and_in_exports():
    variant = {"backend": "numba", "precision": "exact", "tile": "6x6", "blocks": 4}
    record = dataclasses.replace(RECORD, variant=variant)
    again = dataclasses.replace(record, run=1, variant={**variant, "tile": "4x4"})
    peer = dataclasses.replace(record, algorithm="scipy", executor="library", peer=True, variant={"backend": "library"})
    before = dataclasses.replace(record, algorithm="fft", variant={})
    found = {(row[1], row[3], row[4]) for row in ran_table(sweep_of(record, again, peer, before)).rows}
    assert found == {
        ("direct", "ours", "backend numba, precision exact, tile 6x6, blocks 4"),
        ("direct", "ours", "backend numba, precision exact, tile 4x4, blocks 4"),
        ("scipy", "a library's", "backend library"),
    }
    [row, *_] = csv.DictReader(io.StringIO(to_csv(Sweep(None, HEADER, (record,)))))
    assert (row["peer"], row["bound"]) == ("False", "False")
    assert row["variant"] == "backend=numba; precision=exact; tile=6x6; blocks=4"


def test_a_sweep_says_what_ran(simulated, told):
    simulated.law = lambda _: 0.01
    found = told()
    [record] = load(found.sweep.directory).records
    assert (record.peer, record.bound) == (False, False)
    assert record.variant["backend"] == "numba"
    assert record.variant["precision"] == "exact"
    assert "backend numba, precision exact" in found.report()
