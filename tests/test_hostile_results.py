"""Files of a sweep that somebody has edited: what cannot be used is named, and the rest is loaded and reported."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.analysis.compare import compare, slowdown
from convbench.analysis.differences import differences
from convbench.analysis.interference import Interference
from convbench.analysis.series import widest_interval
from convbench.errors import ConvbenchError, RequestError
from convbench.measure.spec import Spec, Timing, make_spec
from convbench.measure.sweep import resume_sweep
from convbench.report import REPORTS
from convbench.report.comparison import in_turns
from convbench.report.content import Material
from convbench.report.write import write_report
from convbench.results.export import to_csv, to_json, write_pyperf
from convbench.results.record import Record
from convbench.results.store import Store, load

PROBLEM = "mb1ic1ih12iw12oc4oh10ow10kh3kw3"
DEEP = "[" * 100_000 + "]" * 100_000
MACHINE = {
    "cpu": "a processor",
    "system": "Linux",
    "usable_cores": 2,
    "caches": [{"level": 1, "bytes": 32768, "shared_by": 1}],
    "vector": {"llvm_cpu": "x", "instruction_set": "AVX2", "bits": 256},
    "memory_bytes": 2**34,
    "huge_pages": {"private": "madvise"},
    "variables": {"OMP_NUM_THREADS": "1"},
    "blas": [{"internal_api": "openblas", "version": "0.3"}],
    "gpu": {"name": "a card", "compute_capability": "9.0", "memory_bytes": 2**36},
    "can_pin": True,
    "numa": [{"node": 0, "cpus": [0, 1], "memory_bytes": 2**34}, {"node": 1, "cpus": [2]}],
    "peaks": {
        "clock_seconds": 1e-8,
        "cores": {"1": {"multiply_add_float32": [1e11], "read": [1e10]}, "2": {"multiply_add_float32": [2e11]}},
        "device": {"rates": {"multiply_add_float32": [1e12], "read": [1e12]}},
    },
}
HEADER = {
    "spec": {
        **make_spec([PROBLEM], algorithms=("direct",), executors=("serial",), cores=(1, 2), runs=2).to_json(),
        "memory_limit": 2**26,
        "networks": {"net": {PROBLEM: 3}},
    },
    "machine": MACHINE,
    "versions": {"numpy": "2"},
    "started": "now",
    "pair": {"id": "1", "python": "/usr/bin/python", "side": "this", "versions": {"numpy": "2"}},
}


def made(run: int, cores: int, executor: str) -> dict[str, Any]:
    """A record with something in every field, as JSON."""
    levels = {"sm_mhz": 1500, "celsius": 40, "watts": 100.5, "reasons": ["power cap"]}
    on_gpu = {"device": (levels,) * 2, "transfers": {"end to end": (0.3,), "host to device": (0.1,)}}
    record = Record(
        run=run,
        order=0,
        problem=PROBLEM,
        algorithm="direct",
        executor=executor,
        cores=cores,
        status="ok",
        samples=(0.1 / cores, 0.11 / cores),
        warmups=(0.2,),
        memory={"needed": 2**20, "peak": 2**28},
        work={"multiply-adds": 1e6, "input bytes": 1e5, "lanes": 16, "busiest share": 0.5},
        setup={"compile": 0.1, "pack": 0.2},
        check={"max_relative_error": 1e-7, "tolerance": 1e-5, "passed": True},
        counters={"elapsed_seconds": 0.2, "cpu_seconds": 0.2, "heat_seconds": 0.0},
        sample_counters=({"elapsed_seconds": 0.1}, {"elapsed_seconds": 0.1}),
        stages={"pad": (0.01, 0.02), "product": (0.05, 0.06)},
        calibration=0.001,
        flags=("steal",),
        sample_flags=((), ("steal",)),
        worker={"pid": 1, "metadata": {"cpu_model_name": "a processor"}},
        wall_seconds=1.0,
        **(on_gpu if executor == "gpu" else {}),
    )
    return json.loads(record.to_json())


LINES = [made(run, *where) for run in range(3) for where in ((1, "serial"), (2, "serial"), (1, "gpu"))]


def stored(directory: Path, lines: list[str], header: str | None = None) -> Path:
    """A sweep's directory with these lines."""
    directory.mkdir(exist_ok=True)
    (directory / "sweep.json").write_text(header or json.dumps({"schema": 1, **HEADER}))
    (directory / "results.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return directory


@pytest.mark.parametrize(
    "change",
    [
        {"problem": "p"},
        {"problem": "mb1ic1ih" + "9" * 5000 + "oc1kh3"},
        {"problem": "mb1ic1ih" + "9" * 300 + "oc1kh3"},
        {"base": "q"},
        {"cores": 0},
        {"cores": True},
        {"run": -1},
        {"run": 10**6},
        {"run": 1.0},
        {"base": "mb1ic1ih13iw12oc4oh11ow10kh3kw3"},
        {"calibration": 1e-300},
        {"calibration": 1.7e308},
        {"setup": {"compile": 1.7e308}},
        {"stages": {"pad": [1.7e308, 1.7e308]}},
        {"wall_seconds": 1e300},
        {"algorithm": ""},
        {"executor": "\x1b[31m"},
        {"samples": [float("nan")]},
        {"samples": [0.1, float("inf")]},
        {"samples": [1e300]},
        {"samples": [True]},
        {"samples": "0.1"},
        {"loops": 0},
        {"stages": {"pad": 0.1}},
        {"stages": {"pad": ["a"]}},
        {"check": {"max_relative_error": "small"}},
        {"check": []},
        {"counters": {"cpu_seconds": None}},
        {"counters": {"cpu_seconds": {}}},
        {"flags": "steal"},
        {"sample_flags": ["steal"]},
        {"device": [{"reasons": "heat"}]},
        {"status": []},
        {"worker": 4},
        {"reason": None},
    ],
)
def test_a_line_with_a_wrong_field_is_named_and_the_rest_used(tmp_path, change):
    lines = [json.dumps(line) for line in LINES]
    lines[4] = json.dumps({**LINES[4], **change})
    sweep = load(stored(tmp_path, lines))
    assert len(sweep.records) == len(LINES) - 1
    [fault] = sweep.faults
    assert fault.startswith(f"{tmp_path / 'results.jsonl'} line 5 cannot be used: it ")
    assert "\n" not in fault
    assert len(fault) < 300


@pytest.mark.parametrize(
    "line", [DEEP, '{"schema":1,"run":' + DEEP + "}", '{"schema":1,"run":' + "[" * 60 + "]" * 60 + "}"]
)
def test_a_line_that_is_nested_deeply_is_named_and_the_rest_used(tmp_path, line):
    sweep = load(stored(tmp_path, [json.dumps(LINES[0]), line, json.dumps(LINES[1])]))
    assert len(sweep.records) == 2
    [fault] = sweep.faults
    assert fault.endswith("line 2 cannot be used: it is nested too deeply")


def test_a_second_line_for_a_cell_of_a_run_is_named_and_the_first_used(tmp_path):
    again = {**LINES[0], "samples": [5.0], "order": 7}
    sweep = load(stored(tmp_path, [json.dumps(line) for line in (*LINES, again)]))
    assert sweep.records[0].samples == tuple(LINES[0]["samples"])
    assert len(sweep.records) == len(LINES)
    [fault] = sweep.faults
    assert f"line {len(LINES) + 1} cannot be used: it is of the same cell and run as line 1" in fault


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        '{"schema": 1, "spec": ' + DEEP + "}",
        "[]",
        '{"schema": 1, "spec": []}',
        '{"schema": 1, "spec": {"problems": "x"}}',
        '{"schema": 1, "spec": {"problems": ["p"]}}',
        '{"schema": 1, "spec": {"cores": [0]}}',
        '{"schema": 1, "spec": {}, "machine": []}',
        '{"schema": 1, "spec": {}, "machine": {"caches": [{}]}}',
        '{"schema": 1, "spec": {}, "machine": {"peaks": {"cores": {"one": {}}}}}',
        '{"schema": 1, "spec": {}, "machine": {"peaks": {"cores": {"1": {"read": [0]}}}}}',
        '{"schema": 1, "spec": {}, "versions": [1]}',
        '{"schema": 1, "spec": {}, "started": 5}',
        '{"schema": 1, "spec": {"precision": NaN}}',
        '{"schema": 1, "spec": {"timing": {"min_seconds": "x"}}}',
        '{"schema": 1, "spec": {"cell_limit": -5}}',
        '{"schema": 1, "spec": {}, "machine": {"numa": 5}}',
        '{"schema": 1, "spec": {}, "machine": {"numa": [{}]}}',
        '{"schema": 1, "spec": {}, "machine": {"peaks": {"cores": {"0": {}}}}}',
        '{"schema": 1, "spec": {}, "pair": [1]}',
        '{"schema": 1, "spec": {}, "pair": {}}',
    ],
)
def test_a_wrong_header_is_one_clear_line(tmp_path, header):
    with pytest.raises(RequestError) as caught:
        load(stored(tmp_path, [json.dumps(line) for line in LINES], header))
    assert "sweep.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_going_on_measures_again_what_a_line_that_cannot_be_used_held(tmp_path):
    spec = make_spec([PROBLEM], algorithms=("naive",), executors=("serial",), cores=(1,), runs=2)
    timing = Timing(min_seconds=0, max_samples=1, min_samples=1, peak_repetitions=0)
    header = {"spec": dataclasses.replace(spec, timing=timing).to_json(), "machine": {}, "versions": {}, "started": ""}
    with Store.create(tmp_path, header):
        pass
    good = {**LINES[0], "algorithm": "naive"}
    bad = {**good, "run": 1, "samples": [-1]}
    (tmp_path / "results.jsonl").write_text("".join(f"{line}\n" for line in (json.dumps(good), DEEP, json.dumps(bad))))
    sweep = resume_sweep(tmp_path)
    assert [(record.run, record.status) for record in sweep.records] == [(0, "ok"), (1, "ok")]
    assert len(sweep.faults) == 2


def test_a_text_that_is_not_unicode_is_written_and_read(tmp_path):
    """A name of a file may have any bytes, and so a reason that quotes it."""
    lost = Record.from_json(
        json.dumps({**LINES[0], "status": "failed", "reason": "no \udc80\n\x1b[0m|file", "samples": []})
    )
    read_back = Record.from_json(lost.to_json())
    assert read_back.reason == "no ?\n\x1b[0m|file"
    sweep = load(stored(tmp_path, [json.dumps({**LINES[0], "status": "failed", "reason": lost.reason})]))
    assert not sweep.faults
    write_report(sweep, tmp_path)
    assert "no \\udc80" in (tmp_path / "report.md").read_text()
    to_csv(sweep).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in some JSON something could be changed."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*path, key))


WRONG = st.sampled_from(
    [
        *(
            None,
            True,
            -1,
            0,
            1,
            2**63,
            2**70,
            0.5,
            1e-300,
            1e300,
            1.7e308,
            -1.7e308,
            1e20,
            float("nan"),
            float("inf"),
            -0.0,
        ),
        *(
            "",
            "x",
            "a|b\n<c>",
            "$x_{",
            "_y",
            "p q",
            "\ud800",
            "\x1b[0m",
            "z" * 5000,
            "1",
            "0",
            "01",
            "\u0663",
            PROBLEM,
            'mb1ic1ih5oc1kh3n"$a"',
        ),
        *([], {}, [[]], [0.1], ["x"], {"a": 1}, {"": [0.1]}, {"a": [0.1]}, [{}], [None], [[["x"]]], ["x", "x"]),
    ]
)


def mutated(content: Any, data: st.DataObject) -> Any:
    """The same JSON with something else in one place, or without it."""
    changed = copy.deepcopy(content)
    *path, last = data.draw(st.sampled_from(list(places(content))))
    whole = changed
    for key in path:
        whole = whole[key]
    if data.draw(st.booleans()) or data.draw(st.booleans()):
        whole[last] = data.draw(WRONG)
    else:
        del whole[last]
    return changed


def used(directory: Path, draw: bool) -> None:
    """Load a sweep and do with it all that can be done."""
    try:
        sweep = load(directory)
    except ConvbenchError as error:
        assert "\n" not in str(error)  # noqa: PT017  # it may be raised, and need not
        return
    assert all("\n" not in fault for fault in sweep.faults)
    if draw:
        write_report(sweep, directory / "report")
    else:
        material = Material(sweep, dict(sweep.header["spec"]))
        sections = [REPORTS[name](material) for name in REPORTS]
        names = [table.name for section in sections for table in section.tables]
        assert all(names)
    Interference.of(sweep.records)
    compare(sweep.records, sweep.records)
    compare(sweep.records, sweep.records, in_turns=True)
    slowdown(sweep.records, sweep.records)
    differences(sweep.header, HEADER)
    in_turns(sweep.header, HEADER)
    widest_interval(sweep.records, 1)
    with contextlib.suppress(ConvbenchError):
        Spec.from_json(sweep.header["spec"]).cells()
    to_csv(sweep).encode()
    to_json(sweep)
    with contextlib.suppress(ConvbenchError):
        write_pyperf(sweep, directory / "pyperf")


def fuzz(check: Callable[[st.DataObject], None], examples: int) -> None:
    """Call it with so many examples, the same every time."""
    health = [HealthCheck.function_scoped_fixture]
    settings(max_examples=examples, deadline=None, suppress_health_check=health)(given(st.data())(check))()


@pytest.mark.parametrize("examples", [60, pytest.param(300, marks=pytest.mark.long)])
def test_nothing_but_our_errors_escapes_whatever_a_line_holds(tmp_path, examples):
    def check(data):
        place = data.draw(st.integers(0, len(LINES) - 1))
        lines = [mutated(line, data) if number == place else line for number, line in enumerate(LINES)]
        used(stored(tmp_path, [json.dumps(line) for line in lines]), draw=False)

    fuzz(check, examples)


@pytest.mark.parametrize("examples", [60, pytest.param(300, marks=pytest.mark.long)])
def test_nothing_but_our_errors_escapes_whatever_the_header_holds(tmp_path, examples):
    def check(data):
        header = mutated({"schema": 1, **HEADER}, data)
        used(stored(tmp_path, [json.dumps(line) for line in LINES], json.dumps(header)), draw=False)

    fuzz(check, examples)


@pytest.mark.long
@pytest.mark.parametrize("examples", [10])
def test_figures_are_drawn_whatever_a_line_holds(tmp_path, examples):
    def check(data):
        every = [mutated(line, data) for line in LINES[:2]] + LINES[2:]
        used(stored(tmp_path, [json.dumps(line) for line in every]), draw=True)

    fuzz(check, examples)
