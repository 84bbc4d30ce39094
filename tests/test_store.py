"""Records and the directory that holds them: nothing that was measured is ever lost."""

from __future__ import annotations

import dataclasses
import json

import pytest

from convbench.errors import RequestError
from convbench.results.record import Record
from convbench.results.store import Store, load, newest

RECORD = Record(
    run=0,
    order=3,
    problem='mb1ic1ih720iw1280oc128oh710ow1270kh11kw11n"multicore"',
    algorithm="direct",
    executor="threads",
    cores=2,
    status="ok",
    samples=(0.0851, 0.0849),
    warmups=(0.0902,),
    setup={"compile": 0.0, "pack": 0.0001},
    check={"max_relative_error": 5.0e-7, "tolerance": 1e-5, "passed": True},
    counters={"cpu_seconds": 0.17, "minor_faults": 0},
    flags=("steal",),
    worker={"pid": 4242, "affinity": [0, 1]},
)
HEADER = {"spec": {"runs": 1}, "machine": {}, "versions": {}, "started": "now"}


def test_a_record_is_one_line_that_reads_back():
    line = RECORD.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == RECORD
    assert json.loads(line)["schema"] == 1


def test_fields_of_a_later_version_are_left_out():
    data = {**json.loads(RECORD.to_json()), "novelty": 1}
    assert Record.from_json(json.dumps(data)) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"status": "splendid"},
        {"samples": ["fast"]},
        {"samples": [-1.0]},
        {"samples": []},
        {"cores": "two"},
        {"problem": None},
        {"samples": None},
        {"stages": []},
    ],
)
def test_a_line_that_is_no_record_is_refused(change):
    with pytest.raises(ValueError, match=r"."):
        Record.from_json(json.dumps({**json.loads(RECORD.to_json()), **change}))


def test_what_is_stored_is_loaded(tmp_path):
    with Store.create(tmp_path / "new" / "sweep", HEADER) as store:
        store.append(RECORD)
        assert load(tmp_path / "new" / "sweep").records == (RECORD,)  # on the disk before the store is closed
    sweep = load(tmp_path / "new" / "sweep")
    assert sweep.header["spec"] == {"runs": 1}
    assert not sweep.faults


def test_a_torn_last_line_is_ignored_and_cut_off_before_going_on(tmp_path):
    with Store.create(tmp_path, HEADER) as store:
        store.append(RECORD)
    results = tmp_path / "results.jsonl"
    results.write_bytes(results.read_bytes() + RECORD.to_json().encode()[:50])
    sweep = load(tmp_path)
    assert sweep.records == (RECORD,)
    assert not sweep.faults
    second = dataclasses.replace(RECORD, run=1)
    store, before = Store.reopen(tmp_path)
    with store:
        assert before.records == (RECORD,)
        store.append(second)
    assert load(tmp_path).records == (RECORD, second)


@pytest.mark.parametrize("garbage", [b"garbage{", b"\xff\xfe\x00", b"[1, 2]", b'{"schema": 1}', b""])
def test_garbage_in_the_middle_is_named_and_the_rest_used(tmp_path, garbage):
    with Store.create(tmp_path, HEADER):
        pass
    second = dataclasses.replace(RECORD, run=1)
    content = (RECORD.to_json().encode(), garbage, second.to_json().encode(), b"")
    (tmp_path / "results.jsonl").write_bytes(b"\n".join(content))
    sweep = load(tmp_path)
    assert sweep.records == (RECORD, second)
    [fault] = sweep.faults
    assert "results.jsonl line 2 cannot be used" in fault
    assert "\n" not in fault


def test_a_directory_that_holds_a_sweep_is_not_written_over(tmp_path):
    with Store.create(tmp_path, HEADER) as store:
        store.append(RECORD)
    with pytest.raises(RequestError, match="--resume"):
        Store.create(tmp_path, HEADER)
    assert load(tmp_path).records == (RECORD,)


def test_two_sweeps_cannot_write_to_one_directory(tmp_path):
    with Store.create(tmp_path, HEADER), pytest.raises(RequestError, match="another sweep"):
        Store.reopen(tmp_path)
    store, _ = Store.reopen(tmp_path)
    store.close()


def test_what_is_no_sweep_is_one_clear_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.json").write_text("{")
    (tmp_path / "future").mkdir()
    (tmp_path / "future" / "sweep.json").write_text('{"schema": 99, "spec": {}}')
    for name, words in (
        ("missing", "holds no sweep"),
        ("file", "holds no sweep"),
        ("broken", "cannot be read"),
        ("future", "schema 1"),
    ):
        with pytest.raises(RequestError, match=words):
            load(tmp_path / name)
    for directory in (file, file / "below"):
        with pytest.raises(RequestError, match="--output"):
            Store.create(directory, HEADER)


def test_the_newest_sweep_is_found(tmp_path):
    with pytest.raises(RequestError, match="run convbench sweep first"):
        newest(tmp_path)
    for name in ("a", "b"):
        Store.create(tmp_path / name, HEADER).close()
    assert newest(tmp_path) == tmp_path / "b"
