"""A record says what ran: ours or a library's, a bound or a convolution, and which variant; reports go by it alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from test_store import HEADER, RECORD

from convbench.analysis.times import CellTimes
from convbench.measure.outcome import kind
from convbench.peers import PEERS
from convbench.report.conditions import section as conditions_section
from convbench.report.content import Material
from convbench.report.ran import ran_table
from convbench.report.summary import section as summary_section
from convbench.report.versus import section as versus_section
from convbench.request import Request
from convbench.request.field import fields_of
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


def of_precision(name: str, **changes: object) -> Record:
    return dataclasses.replace(RECORD, variant={"backend": "numba", "precision": name}, **changes)


def test_what_products_were_computed_in_is_what_records_say():
    """Records of before said it by the flag `tf32` alone."""
    for records, products in (
        ([RECORD], "float32"),
        ([dataclasses.replace(RECORD, flags=("tf32",))], "tf32"),
        ([of_precision("exact")], "float32"),
        ([of_precision("tf32", flags=("tf32",))], "tf32"),
        ([of_precision("half", flags=("half",))], "half"),
        ([of_precision("exact"), of_precision("half", run=1)], "half"),
    ):
        assert CellTimes.of(2, records).products == products


@pytest.mark.parametrize(
    ("spec", "title", "request_says"),
    [
        ({"allow_tf32": False}, "Times (hot caches)", "exact in their dtype"),
        ({"allow_tf32": True}, "Times (hot caches, TF32 allowed on GPUs)", "inputs may be rounded to TF32 on GPUs"),
        (
            {"allow_tf32": False, "arithmetic": "half"},
            "Times (hot caches, half allowed)",
            "may be computed in half; exact in their dtype where they cannot",
        ),
    ],
)
def test_titles_and_conditions_say_what_products_may_be_computed_in(spec, title, request_says):
    spec = {"cache": "hot", **spec}
    material = Material(Sweep(None, {**HEADER, "spec": spec}, (RECORD,)), spec)
    assert material.titled("Times") == title
    [table] = [table for table in conditions_section(material).tables if table.name == "request"]
    assert dict(table.rows)["products"] == request_says


def test_sets_of_weights_are_called_filters():
    material = Material(Sweep(None, HEADER, (RECORD,)), {"kernels": "gabor"})
    [table] = [table for table in conditions_section(material).tables if table.name == "request"]
    assert dict(table.rows)["filters"] == "gabor"
    assert "The bank of filters." in fields_of(Request)["kernels"].option.help


def test_a_precision_on_the_host_has_its_flag_explained_and_its_column_beside_libraries():
    ours = of_precision("half", flags=("half",))
    theirs = of_precision("exact", algorithm="scipy", executor="library", peer=True, flags=())
    spec = {"cache": "hot", "allow_tf32": False, "arithmetic": "half"}
    material = Material(Sweep(None, {**HEADER, "spec": spec}, (ours, theirs)), spec)
    [table] = versus_section(material).tables
    assert table.columns[-1].title == "products"
    assert {row[0]: row[-1] for row in table.rows} == {"direct": "half", "scipy": "float32"}
    [flags] = [table for table in conditions_section(material).tables if table.name == "flags"]
    says = "asked for by --arithmetic half: products computed in half, or a library permitted to compute them so"
    assert flags.rows == [["half", says, 1]]


def test_new_columns_of_the_csv_file_come_after_those_of_before():
    before = "run,order,problem,algorithm,executor,cores,status,reason,sample,loops,seconds,max_relative_error,flags,"
    before += "base,sm_mhz,memory_mhz,celsius,watts,clock_reasons"
    assert to_csv(Sweep(None, HEADER, ())) == f"{before},peer,bound,variant,needed_bytes,peak_bytes\n"
