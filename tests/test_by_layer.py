"""Networks layer by layer: a form's own limit, totals by multiplicity, one form against the best, at a terminal."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from convbench.algorithms import ALGORITHMS
from convbench.algorithms.direct.cost import rows_inside
from convbench.analysis.layers import networks_of, ratio_of_totals, total
from convbench.analysis.limits import Limits
from convbench.analysis.own_limit import moved_bytes, of_candidate, own_limit
from convbench.analysis.places import in_words
from convbench.measure.spec import Spec, make_spec
from convbench.networks.parts import told_by_names
from convbench.peers import PEERS
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.report import REPORTS
from convbench.report.content import Material
from convbench.report.layer_figure import MOST_LAYERS, draw
from convbench.report.layers import labels, layer_tables, layers_table, limits_at
from convbench.report.write import write_report
from convbench.results.record import Record
from convbench.results.store import Store, Sweep, load
from convbench.terminal import show_sweep, show_versus

GIGA = 1e9
MACHINE = {
    "peaks": {
        "cores": {
            "1": {"multiply_add_float32": [100 * GIGA], "read": [10 * GIGA]},
            "2": {"multiply_add_float32": [200 * GIGA], "read": [15 * GIGA]},
        }
    }
}
LIMITS = Limits.of(MACHINE)
FIRST = 'mb1ic4ih10iw10oc8oh8ow8kh3kw3n"net:first"'
SECOND = 'mb1ic8ih8iw8oc8oh8ow8kh1kw1n"net:second*3"'
STRIDED = 'mb1ic8ih8iw8oc8oh4ow4kh1kw1sh2sw2n"net:strided*2"'
WORK = {"multiply-adds": 1000.0, "lanes": 16, "busiest share": 1.0, "input bytes": 100.0, "output bytes": 50.0}
Times = dict[tuple[str, str, str, int], list[float]]  # (problem, algorithm, executor, cores): seconds in each run


def swept(times: Times, problems: tuple[str, ...] = (FIRST, SECOND, STRIDED), **changes: object) -> Sweep:
    """A sweep in which cells took what is told, with `changes` to its spec."""
    records = tuple(
        Record(
            run=run,
            order=order,
            **dict(zip(("problem", "algorithm", "executor", "cores"), cell, strict=True)),
            status="ok",
            samples=(seconds,),
            peer=cell[1] in PEERS,
            **({} if cell[1] in PEERS else {"work": WORK, "memory": {"needed": 2**20, "peak": 2**28}}),
            **({} if cell[1] in PEERS else {"stages": {"pad": (seconds / 4,), "sum": (seconds / 2,)}}),
        )
        for order, (cell, runs) in enumerate(times.items())
        for run, seconds in enumerate(runs)
    )
    spec = {**make_spec(problems, runs=2).to_json(), **changes}
    return Sweep(Path("nowhere"), {"spec": spec, "machine": MACHINE}, records)


def material(sweep: Sweep) -> Material:
    return Material(sweep, sweep.header["spec"])


MEASURED: Times = {
    (FIRST, "direct", "serial", 1): [4.0, 4.0],
    (FIRST, "winograd", "serial", 1): [2.0, 2.2],
    (FIRST, "onnxruntime", "library", 1): [3.0, 3.3],
    (SECOND, "direct", "serial", 1): [1.0, 1.0],
    (SECOND, "winograd", "serial", 1): [5.0, 5.0],
    (SECOND, "onnxruntime", "library", 1): [0.5, 0.5],
    (SECOND, "openvino", "library", 1): [2.0, 2.0],
    (STRIDED, "direct", "serial", 1): [0.5, 0.5],
    (STRIDED, "onnxruntime", "library", 1): [0.5, 0.5],
}


def column(table: object, title: str) -> list[object]:
    place = [one.title for one in table.columns].index(title)
    return [row[place] for row in table.rows]


def test_the_limit_is_the_larger_of_operations_and_bytes():
    found = own_limit(WORK, "float32", 1, LIMITS)
    assert found.operations == pytest.approx(2 * 16 * 1000 / (100 * GIGA))
    assert found.bytes == pytest.approx(150 / (10 * GIGA))
    assert found.seconds == found.operations
    assert found.by == "operations"
    assert own_limit({**WORK, "band bytes": 1e6}, "float32", 1, LIMITS).by == "bytes"
    assert own_limit({**WORK, "other operations": 500}, "float32", 1, LIMITS).operations == pytest.approx(
        1.5 * found.operations
    )


def test_weights_count_as_they_are_read_and_copies_count():
    work = {**WORK, "weight bytes": 40.0, "packed weight bytes": 90.0, "weight bytes from near": 1e9}
    assert moved_bytes(work, "float32") == 150 + 90
    assert moved_bytes({**work, "band bytes": 7.0, "unrolled vectors": 2.0}, "float32") == 150 + 90 + 7 + 2 * 16 * 4


def test_two_cores_share_what_the_busiest_leaves():
    even, alone = ({**WORK, "busiest share": share} for share in (0.5, 1.0))
    one = own_limit(WORK, "float32", 1, LIMITS)
    assert own_limit(even, "float32", 2, LIMITS).operations == pytest.approx(one.operations / 2)
    assert own_limit(alone, "float32", 2, LIMITS).operations == pytest.approx(one.operations)
    assert own_limit(even, "float32", 2, LIMITS).bytes == pytest.approx(150 / (15 * GIGA))
    assert own_limit(alone, "float32", 2, LIMITS).bytes == pytest.approx(one.bytes)  # no faster than one core


@pytest.mark.parametrize(
    ("work", "dtype", "cores", "limits"),
    [
        ({}, "float32", 1, LIMITS),
        (WORK, "float64", 1, LIMITS),
        (WORK, "float32", 4, LIMITS),
        (WORK, "float32", 1, Limits({})),
    ],
)
def test_a_limit_that_is_not_known_is_none(work, dtype, cores, limits):
    assert own_limit(work, dtype, cores, limits) is None


@pytest.mark.parametrize("descriptor", ["mb1ic64ih56oc64kh3ph1", "mb2ic16ih14oc32kh1", "mb1ic1ih40iw50oc12kh11kw11"])
def test_no_form_does_less_than_it_must(descriptor):
    """By each form's counts: all bytes, and the products of the direct form where there are no fewer.

    `direct` may leave out those of kernel rows in the padding.
    """
    problem = Problem.parse(descriptor)
    able = [name for name in ALGORITHMS.defaults if not Candidate(name, "serial", 1).unsupported_reason(problem)]
    assert {"direct", "unrolled"} <= set(able)
    for name in able:
        candidate = Candidate(name, "serial", 1)
        work, found = candidate.work(problem), of_candidate(problem, candidate, LIMITS)
        assert moved_bytes(work, problem.dtype) >= problem.bytes
        assert found.seconds >= problem.bytes / (10 * GIGA)
        assert 0 < work["busiest share"] <= 1
        least = {"direct": rows_inside(problem), "unrolled": 1.0}.get(name, 0.0) * problem.flops / (100 * GIGA)
        assert found.operations >= max(0.999999 * least, 1e-12)


def test_forms_whose_work_is_not_counted_have_no_limit():
    assert Candidate("naive", "serial", 1).work(Problem.parse(FIRST)) == {}
    assert of_candidate(Problem.parse(FIRST), Candidate("naive", "serial", 1), LIMITS) is None


def test_a_layer_counts_as_often_as_the_network_has_it():
    [network] = material(swept(MEASURED)).networks
    assert (network.name, in_words(network.place)) == ("net", "1 core")
    assert [layer.count for layer in network.layers] == [1, 3, 2]
    assert total(network.best).value == pytest.approx(2.1 + 3 * 1.0 + 2 * 0.5)
    ours = [(count, our) for count, our, _ in network.compared]
    theirs = [(count, their) for count, _, their in network.compared]
    inside = [(3.0 + 1.5 + 1.0) / (2.0 + 3.0 + 1.0), (3.3 + 1.5 + 1.0) / (2.2 + 3.0 + 1.0)]
    assert ratio_of_totals(theirs, ours).value == pytest.approx(math.sqrt(inside[0] * inside[1]))


def test_one_form_for_every_layer_is_helped_by_another_where_it_cannot():
    [network] = material(swept(MEASURED)).networks
    found = {one.form: one for one in network.by_one_form()}
    assert set(found) == {"direct", "winograd", "onnxruntime"}  # openvino lacks layers, and nothing helps a library
    assert (found["direct"].stood_in, found["winograd"].stood_in) == (0, 1)
    assert found["onnxruntime"].peer
    assert total(found["direct"].cells).value == pytest.approx(4 + 3 + 1)
    assert total(found["winograd"].cells).value == pytest.approx(2.1 + 15 + 1)
    [_, forms] = layer_tables(material(swept(MEASURED)))
    assert column(forms, "every layer by") == [
        *("the best form for each layer", "onnxruntime (library)", "direct", "winograd")
    ]
    assert column(forms, "but for") == [None, None, None, "1 by direct"]


def test_the_table_has_limits_memory_libraries_and_what_sums_them_up():
    table, _ = layer_tables(material(swept(MEASURED)))
    assert table.title.startswith("net on 1 core, layer by layer: 1 of 3 ahead of the libraries")
    assert column(table, "layer") == ["first", "second", "strided", "in all", "median", "least", "geometric mean"]
    assert column(table, "times")[:4] == [1, 3, 2, 6]
    assert column(table, "best")[:3] == ["winograd", "direct", "direct"]
    assert column(table, "library")[:3] == ["onnxruntime"] * 3
    limit = 2 * 16 * 1000 / (100 * GIGA)
    assert column(table, "of own")[1] == pytest.approx(limit / 1.0)
    assert column(table, "of own")[3] == pytest.approx(6 * limit / (2.1 + 3 + 1))
    assert column(table, "of peak")[1] == pytest.approx(Problem.parse(SECOND).flops / (100 * GIGA))
    assert column(table, "needs MiB")[:4] == [1.0] * 4
    assert column(table, "process MiB")[:4] == [256.0] * 4
    ratios = [1.5, 0.5, 1.0]
    assert [one.value for one in column(table, "ratio")[:3]] == pytest.approx(ratios)
    assert column(table, "ratio")[4:6] == pytest.approx([1.0, 0.5])
    assert column(table, "ratio")[6].value == pytest.approx(math.prod(ratios) ** (1 / 3))


def test_layers_that_were_not_measured_are_named_and_left_out_of_totals():
    times = {cell: runs for cell, runs in MEASURED.items() if cell[0] != FIRST or cell[1] in PEERS}
    table, _ = layer_tables(material(swept(times)))
    assert column(table, "layer")[0] == "first"
    assert column(table, "seconds")[0] is None
    assert column(table, "its seconds")[0].value == pytest.approx(3.15)
    assert column(table, "times")[3] == 5
    text = REPORTS["layers"](material(swept(times))).text[0]
    assert "5 layers, 2 distinct (1 more were not measured)" in text


def test_runs_that_lack_a_layer_do_not_enter_totals():
    times = {**MEASURED, (FIRST, "winograd", "serial", 1): [2.0]}
    [network] = material(swept(times)).networks
    assert total(network.best).value == pytest.approx(2 + 3 + 1)
    apart = {(FIRST, "direct", "serial", 1): [4.0], (SECOND, "direct", "serial", 1): [math.nan, 1.0]}
    sweep = swept(apart)
    records = tuple(record for record in sweep.records if not math.isnan(record.samples[0]))
    [network] = material(Sweep(sweep.directory, sweep.header, records)).networks
    assert total(network.best).value == pytest.approx(4 + 3)
    assert total(network.best).lacks


def test_sweeps_of_before_have_no_own_limit_and_no_memory():
    sweep = swept(MEASURED)
    plain = [Record.from_json(record.to_json()) for record in sweep.records]
    before = Sweep(sweep.directory, sweep.header, tuple(_without(record) for record in plain))
    table, _ = layer_tables(material(before))
    titles = [one.title for one in table.columns]
    assert {"of own", "set by", "needs MiB", "process MiB"}.isdisjoint(titles)
    assert "of peak" in titles


def _without(record: Record) -> Record:
    data = json.loads(record.to_json())
    return Record.from_json(json.dumps({key: value for key, value in data.items() if key not in ("work", "memory")}))


def test_a_sweep_of_no_network_has_no_such_section():
    plain = "mb1ic4ih10iw10oc8oh8ow8kh3kw3"
    sweep = swept({(plain, "direct", "serial", 1): [1.0]}, problems=(plain,))
    section = REPORTS["layers"](material(sweep))
    assert not [*section.text, *section.tables, *section.figures]


def test_networks_that_share_layers_have_each_their_own_totals():
    spec = make_spec(network=["resnet18", "resnet50"], cores=1)
    assert [sum(count for _, count in layers) for _, layers in spec.networks] == [20, 53]
    assert Spec.from_json(spec.to_json()) == spec
    assert "networks" not in spec.for_workers()
    alone = make_spec(network="resnet50", cores=1)
    assert alone.networks == ()
    assert "networks" not in alone.to_json()  # which older versions need not know
    times: Times = {(problem, "direct", "serial", 1): [1.0] for problem in spec.problems}
    sweep = swept(times, problems=spec.problems, networks=spec.to_json()["networks"])
    found = {network.name: total(network.best).value for network in material(sweep).networks}
    assert found == {"resnet18": pytest.approx(20), "resnet50": pytest.approx(53)}


def test_a_problem_that_is_asked_for_beside_its_network_counts_once_in_it():
    spec = make_spec("mb1ic1ih28iw28oc6oh28ow28kh5kw5ph2pw2", network="lenet5", cores=1)
    [(name, layers)] = spec.networks
    assert (name, [count for _, count in layers]) == ("lenet5", [1, 1])
    assert [count for _, parts in told_by_names(map(Problem.parse, spec.problems)) for _, count in parts] == [2, 1]


def test_layers_of_a_file_without_networks_in_their_names_are_its_network(tmp_path):
    (tmp_path / "my layers.txt").write_text('mb1ic4ih9oc2kh3n"one"\nmb1ic4ih8oc2kh3n"two*2"\n')
    spec = make_spec(network=tmp_path / "my layers.txt", cores=1)
    assert [(name, [count for _, count in layers]) for name, layers in spec.networks] == [("my_layers.txt", [1, 2])]


def stored(directory: Path, sweep: Sweep) -> Sweep:
    with Store.create(directory, sweep.header) as store:
        for record in sweep.records:
            store.append(record)
    return load(directory)


def many(layers: int) -> tuple[Times, tuple[str, ...]]:
    """A network of so many layers, with libraries of long names."""
    problems = tuple(
        f'mb1ic8ih{size}iw{size}oc8oh{size}ow{size}kh1kw1n"net:stage{size}_block_reduce*12"'
        for size in range(1, layers + 1)
    )
    names = (
        ("direct", "serial"),
        ("winograd", "threads"),
        ("torch-channels-last", "library"),
        ("onnxruntime", "library"),
    )
    return {
        (problem, *name, 1): [1e-4 * number + 0.01 * place, 1e-4 * number, 1e-4 * number]
        for number, problem in enumerate(problems, 1)
        for place, name in enumerate(names)
    }, problems


@pytest.mark.parametrize("show", [show_sweep, show_versus])
def test_eighty_columns_are_enough(tmp_path, monkeypatch, capsys, show):
    monkeypatch.setenv("COLUMNS", "80")
    times, problems = many(3)
    sweep = stored(tmp_path / "sweep", swept(times, problems))
    assert show(sweep) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("layer ") and line.endswith("ratio") for line in lines)
    assert any(line.startswith("stage1_block_reduce") and "torch-channels-last" in line for line in lines)
    assert any(line.startswith("in all ") for line in lines)
    assert any(line.startswith("the best form for each layer") for line in lines)
    assert sum("layer by layer" in line for line in lines) == 1


def test_a_report_has_tables_figure_and_a_sentence(tmp_path):
    sweep = stored(tmp_path / "sweep", swept(MEASURED))
    write_report(sweep, sweep.directory)
    text = (sweep.directory / "report.md").read_text()
    assert "## Layer by layer" in text
    assert "net on 1 core: 6 layers, 3 distinct, take 6.1 s by the best form for each" in text
    assert "by direct alone, the best single form, 1.31 times as long" in text
    with (sweep.directory / "tables" / "layers-net-1-core.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["layer"] == "second"
    assert float(rows[1]["of own"]) == pytest.approx(2 * 16 * 1000 / (100 * GIGA))
    assert (sweep.directory / "figures" / "layers-net-1-core.png").stat().st_size > 10_000
    assert "All problems" not in text  # the table of layers has it


def test_a_figure_has_a_bar_for_each_of_the_longest_layers():
    times, problems = many(MOST_LAYERS + 5)
    found = material(swept(times, problems))
    [network] = found.networks
    figure = draw(network, labels(found, network), limits_at(found, network))
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == MOST_LAYERS
    assert names[-1] == f"stage{MOST_LAYERS + 5}_block_reduce x12, direct"
    assert next(networks_of(found.spec, found.by_problem())).layers == network.layers
    assert len(layers_table(found, network).rows) == MOST_LAYERS + 5 + 4
