"""Network suites: their layers against the papers, samples, sweeps of them, and `convbench networks`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import DEADLINE
from hypothesis import given
from hypothesis import strategies as st

import convbench
from convbench import networks
from convbench.errors import RequestError
from convbench.measure.spec import Spec, Timing, make_spec, same_spec
from convbench.measure.sweep import resume_sweep, run_sweep
from convbench.networks import NETWORKS, Layer, Suite, merged
from convbench.problem import Problem

SMALL = "mb1ic3ih9oc2kh3"
FOLDER = Path(networks.__file__).parent


def problem(descriptor: str) -> Problem:
    return Problem.parse(descriptor)


@pytest.mark.parametrize(
    ("name", "layers", "distinct", "giga"),
    [
        ("lenet5", 2, 2, 0.00036),  # 117,600 and 240,000
        ("alexnet", 5, 5, 0.666),
        ("vgg16", 13, 9, 15.35),
        ("resnet18", 20, 11, 1.814),
        ("resnet50", 53, 23, 4.087),
    ],
)
def test_networks_have_the_layers_and_multiply_adds_of_the_papers(name, layers, distinct, giga):
    suite = networks.suite(name)
    assert (suite.occurrences, len(suite.layers)) == (layers, distinct)
    assert suite.multiply_adds / 1e9 == pytest.approx(giga, rel=0.01)
    assert suite.multiply_adds == sum(layer.count * layer.problem.multiply_adds for layer in networks.load(name))


def test_alexnet_without_groups_has_the_multiply_adds_of_one_gpu():
    whole = sum(replace(layer.problem, groups=1).multiply_adds for layer in networks.load("alexnet"))
    assert whole / 1e9 == pytest.approx(1.077, rel=0.01)


@pytest.mark.parametrize(
    ("name", "layer", "input_shape", "output_shape"),
    [
        ("lenet5", "c1", (1, 28, 28), (6, 28, 28)),
        ("lenet5", "c3", (6, 14, 14), (16, 10, 10)),
        ("lenet-printed", "conv1", (3, 100, 100), (32, 98, 98)),
        ("alexnet", "conv1", (3, 227, 227), (96, 55, 55)),
        ("alexnet", "conv2", (96, 27, 27), (256, 27, 27)),
        ("vgg16", "conv5_1*3", (512, 14, 14), (512, 14, 14)),
        ("resnet18", "conv5_1", (256, 14, 14), (512, 7, 7)),
        ("resnet50", "conv4_1_3x3", (256, 28, 28), (256, 14, 14)),  # the stride is on the 3 x 3
        ("resnet50", "conv4_1_reduce", (512, 28, 28), (256, 28, 28)),
        ("resnet50", "conv5_project", (1024, 14, 14), (2048, 7, 7)),
        ("resnet50-cifar", "conv5_3x3*2", (512, 4, 4), (512, 4, 4)),
        ("minixception", "block4_residual", (64, 28, 28), (128, 14, 14)),
        ("minixception-cifar", "exit", (128, 2, 2), (10, 2, 2)),
    ],
)
def test_layers_have_the_sizes_of_the_papers(name, layer, input_shape, output_shape):
    (found,) = [one.problem for one in networks.load(name) if one.problem.name == f"{name}:{layer}"]
    assert (found.input_shape, found.output_shape) == ((1, *input_shape), (1, *output_shape))


def test_depthwise_layers_have_as_many_groups_as_channels():
    depthwise = [layer.problem for layer in networks.load("minixception") if "depthwise" in layer.problem.name]
    assert len(depthwise) == 8
    assert all(one.groups == one.channels == one.out_channels for one in depthwise)


def test_every_file_is_listed_and_says_where_its_shapes_come_from():
    assert {file.name for file in FOLDER.glob("*.txt")} == {entry.location for entry in NETWORKS.entries}
    for entry in NETWORKS.entries:
        text = NETWORKS[entry.name]
        assert text.startswith("# "), entry.name
        assert ("(assumed)" in entry.summary) <= ("ssumed" in text)
        assert max(map(len, text.splitlines())) <= 130
        assert not networks.suite(entry.name).skipped


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_named_once_and_has_a_batch_of_one(name):
    layers = networks.load(name)
    assert [layer.problem.batch for layer in layers] == [1] * len(layers)
    assert all(layer.problem.name.startswith(f"{name}:") for layer in layers)
    assert all(layer.problem.count == layer.count for layer in layers)
    assert len({layer.problem.name for layer in layers}) == len(layers)
    assert len({replace(layer.problem, name="") for layer in layers}) == len(layers)
    assert all(Problem.parse(str(layer.problem)) == layer.problem for layer in layers)


def test_the_timm_list_has_its_header_and_all_of_its_layers():
    text = NETWORKS["timm"]
    assert "MIT-licensed repository\n# LucasFernando-aes/ConvBench" in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    suite = networks.suite("timm")
    assert len(suite.layers) == len(lines) == 4402
    assert suite.occurrences == sum(int(line.rpartition("*")[2].rstrip('"')) for line in lines)


def test_a_batch_is_that_of_every_layer():
    assert {layer.problem.batch for layer in networks.load("resnet50", mb=32)} == {32}
    one, many = networks.suite("vgg16"), networks.suite("vgg16").with_batch(8)
    assert many.multiply_adds == 8 * one.multiply_adds
    assert networks.load("vgg16") == one.layers
    assert networks.load(one) == one.layers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mb": 0}, "mb=0"),
        ({"mb": 2.5}, "mb=2.5"),
        ({"mb": 2**62}, "bytes"),
        ({"layers": 0}, "layers=0"),
        ({"layers": True}, "layers=True"),
    ],
)
def test_a_wrong_batch_or_number_of_layers_is_refused(arguments, words):
    with pytest.raises(RequestError, match=words):
        networks.load("lenet5", **arguments)


def test_the_same_problem_is_there_once_and_its_counts_add_up():
    layers = merged(map(problem, [f'{SMALL}n"a:x*2"', f"--dt=f64 {SMALL}", f'{SMALL}n"b:y"', SMALL, f'{SMALL}n"c*0"']))
    assert [(layer.problem.name, layer.count) for layer in layers] == [("a:x*5", 5), ("", 1)]
    found = networks.problems_of(["resnet18", "resnet50"])
    stem = [one for one in found if one.kernel_height == 7]
    assert [one.name for one in stem] == ["resnet18:conv1*2"]
    assert sum(one.count for one in found) == 73


def test_layers_without_a_name_are_called_by_their_file_and_place(tmp_path):
    (tmp_path / "my net.txt").write_text(f'{SMALL} mb1ic4ih9oc2kh3n"*3" mb1ic5ih9oc2kh3n"five"')
    names = [layer.problem.name for layer in networks.load(tmp_path / "my net.txt")]
    assert names == ["my_net.txt:1", "my_net.txt:2*3", "five"]


def test_a_file_called_like_a_network_is_read_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lenet5").write_text(SMALL)
    assert len(networks.load("lenet5")) == 2
    assert len(networks.load("./lenet5")) == len(networks.load(Path("lenet5").resolve())) == 1


def kind(layer: Layer) -> tuple[bool, bool, bool, bool]:
    one = layer.problem
    grouped = one.groups > 1
    return grouped, grouped and one.group_channels == 1, one.weights_shape[2:] == (1, 1), one.stride != (1, 1)


@pytest.mark.parametrize("number", [50, 1000, *(pytest.param(number, marks=pytest.mark.long) for number in (20, 200))])
def test_a_sample_has_kinds_and_sizes_in_proportion_to_how_often_they_occur(number):
    suite = networks.suite("timm")
    sample = suite.sample(number)
    assert sample == suite.sample(number)
    assert len(sample.layers) == number
    assert set(sample.layers) <= set(suite.layers)
    wanted: Counter[tuple[bool, ...]] = Counter()
    for layer in suite.layers:
        wanted[kind(layer)] += layer.count * number / suite.occurrences
    found = Counter(map(kind, sample.layers))
    for one, expected in wanted.items():
        assert abs(found[one] - expected) <= max(2, 0.1 * number), one
    everything = sorted(layer.problem.multiply_adds for layer in suite.layers for _ in range(layer.count))
    some = sorted(layer.problem.multiply_adds for layer in sample.layers)
    for part in (0.25, 0.5, 0.75):
        middle = some[int(part * number)]
        below = sum(size < middle for size in everything) / len(everything)
        assert abs(below - part) < 0.15


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 50))
def test_a_sample_has_as_many_layers_as_were_asked_for_and_those_that_occur_most(counts, number):
    layers = [Layer(problem(f"mb1ic{place}ih9oc2kh3"), count) for place, count in enumerate(counts, 1)]
    sample = Suite("some", tuple(layers)).sample(number)
    assert len(sample.layers) == min(number, len(layers))
    for layer in layers:
        assert layer in sample.layers or layer.count * number <= sum(counts)


def test_networks_are_loaded_from_many_threads():
    names = [name for name in NETWORKS if name != "timm"] * 4  # eight times thousands of lines would take seconds
    networks._listed.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(networks.load, names))
    assert found == [networks.load(name) for name in names]


def test_the_library_offers_networks_and_loads_little_for_them():
    assert convbench.networks is networks
    watch = (
        "import sys, convbench; convbench.networks.load('resnet50', mb=1); "
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch], capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout.split()
    assert not {"numpy", "numba", "scipy", "rich", "click"} & set(done)


def test_a_request_takes_networks_in_any_form(tmp_path):
    (tmp_path / "net").write_text(f"{SMALL} mb1ic4ih9oc2kh3")
    suite = networks.suite(tmp_path / "net")
    specs = [make_spec(network=given) for given in (str(tmp_path / "net"), tmp_path / "net", suite, [suite], (suite,))]
    assert specs.count(specs[0]) == 5
    assert [problem(one).name for one in specs[0].problems] == ["net:1", "net:2"]
    both = make_spec(network=[suite, "lenet5"], mb=3, layers=1)
    assert [problem(one).batch for one in both.problems] == [3, 3]
    assert len(make_spec(SMALL, network=suite).problems) == 2  # one is the network's own
    assert problem(make_spec(SMALL, mb=5).problems[0]).batch == 5
    assert Spec.from_json(json.loads(json.dumps(both.to_json()))) == both


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"network": "nope"}, ["unknown network 'nope'", "resnet50", "file or folder"]),
        ({"network": 7}, ["network=7"]),
        ({"network": {"lenet5": 1}}, ["network="]),
        ({"network": ["lenet5", None]}, ["network=None"]),
        ({"network": ["lenet5", "lenet5"]}, ["lenet5,lenet5", "once"]),
        ({"network": "lenet5", "mb": 0}, ["mb=0"]),
        ({"network": "lenet5", "layers": -1}, ["layers=-1"]),
        ({"mb": 4}, ["mb=4", "name one"]),
        ({"layers": 4, "problems": SMALL}, ["layers=4", "name a network"]),
        ({"network": "vgg16", "mb": 10**7}, ["GiB are free"]),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(request_, words):
    with pytest.raises(RequestError) as raised:
        make_spec(**request_)
    for word in words:
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sweeps_of_networks_take_less_time_a_cell_and_others_as_much_as_ever():
    assert make_spec(SMALL).timing == make_spec().timing == Timing()
    timing = make_spec(network="lenet5").timing
    assert timing.min_seconds < Timing().min_seconds
    assert timing.min_samples == Timing().min_samples


def test_a_network_is_swept_and_gone_on_with(tmp_path, simulated):
    simulated.law = lambda cores: 0.1 / cores
    request = {"network": "lenet5", "mb": 2, "executors": "simulated", "algorithms": "direct", "cores": 1, "runs": 2}
    spec = replace_timing(make_spec(**request))
    run_sweep(spec, tmp_path / "sweep", time_limit=0)
    found = resume_sweep(tmp_path / "sweep", request)
    assert Counter(problem(record.problem).name for record in found.records) == {"lenet5:c1": 2, "lenet5:c3": 2}
    assert {problem(record.problem).batch for record in found.records} == {2}
    assert found.header["spec"]["problems"] == [str(layer.problem) for layer in networks.load("lenet5", mb=2)]
    for change in ({"mb": 3}, {"layers": 1}, {"network": "lenet-printed"}):
        with pytest.raises(RequestError, match=r"not what the sweep in .* began with") as raised:
            same_spec(spec, {**request, **change}, where="here")
        assert len(str(raised.value)) < 1000


def replace_timing(spec: Spec) -> Spec:
    """The spec without limits of the machine, which a simulated one does not have."""
    import dataclasses

    return dataclasses.replace(spec, timing=replace(spec.timing, peak_repetitions=0))


def test_the_command_lists_networks(convbench):
    done = convbench("networks")
    assert done.returncode == 0
    assert done.stderr == ""
    for name in NETWORKS:
        assert f"\n{name} " in done.stdout
    found = json.loads(convbench("networks", "--json", "--mb", 2).stdout)["networks"]
    assert [one["name"] for one in found] == list(NETWORKS)
    assert all(one["distinct"] == len(one["layers"]) for one in found)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_command_lists_a_networks_layers_on_eighty_columns(convbench, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    done = convbench("networks", name, "--layers", 25)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "op/B" in done.stdout
    assert "\nin all " in done.stdout
    assert max(map(len, convbench("networks").stdout.splitlines())) <= 80


def test_the_command_says_what_a_layer_is_for_programs(convbench):
    found = json.loads(convbench("networks", "alexnet", "--json", "--mb", 4).stdout)
    first = found["layers"][0]
    one = problem(first["problem"])
    assert (first["name"], first["count"], one.batch) == ("alexnet:conv1", 1, 4)
    assert (first["multiply_adds"], first["bytes"]) == (one.multiply_adds, one.bytes)
    assert first["intensity"] == pytest.approx(2 * one.multiply_adds / one.bytes)
    assert found["multiply_adds"] == sum(layer["count"] * layer["multiply_adds"] for layer in found["layers"])


def test_the_command_says_what_is_left_out_of_files_on_standard_error(convbench, tmp_path):
    (tmp_path / "net").write_text(f"{SMALL} ic3id9oc2kd3 ic3id9oc2kd5 --dt=bf16 {SMALL}")
    done = convbench("networks", tmp_path / "net")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [" ".join(line.split()[:3]) for line in lines] == ["skipped: 2 problems", "skipped: 1 problem"]
    sweep = convbench("sweep", "--network", tmp_path / "net", "--cores", 4096)
    assert sweep.returncode == 2
    assert sweep.stderr.startswith(done.stderr)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["networks", "nope"], "unknown network 'nope'"),
        (["networks", ""], "network=''"),
        (["networks", "lenet5", "--mb", "0"], "mb=0"),
        (["networks", "lenet5", "--mb", "many"], "'many'"),
        (["networks", "lenet5", "--layers", "0"], "layers=0"),
        (["sweep", "--network", "nope"], "unknown network 'nope'"),
        (["sweep", "--network", ""], "network=''"),
        (["sweep", "--network", "lenet5", "--network", "lenet5"], "once"),
        (["sweep", "--mb", "3"], "name one"),
        (["sweep", "--layers", "3"], "name a network"),
        (["versus", "--network", "nope"], "unknown network 'nope'"),
        (["versus", "--network", "lenet5", "--mb", "-1"], "mb=-1"),
    ],
)
def test_the_command_line_refuses_in_one_line(convbench, tmp_path, words, named):
    done = convbench(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("convbench: error: ")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert not list((tmp_path / "here").iterdir())


def test_a_wrong_line_is_named_on_the_command_line(convbench, tmp_path):
    (tmp_path / "net").write_text(f"{SMALL}\n  ic3oops\n")
    for words in (["networks", tmp_path / "net"], ["sweep", "--network", tmp_path]):
        done = convbench(*words)
        assert done.returncode == 2
        assert f"{(tmp_path / 'net').resolve()}:2:6: cannot read problem 'ic3oops'" in done.stderr
