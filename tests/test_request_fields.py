"""What follows from the fields of a request: options, arguments, sweep.json and its shape; and the order of cells."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from conftest import Convbench

import convbench
from convbench.analysis.differences import differences
from convbench.api import SweepCall
from convbench.cli import cli
from convbench.cli.options import options
from convbench.errors import RequestError
from convbench.measure.spec import Spec, make_spec, same_spec
from convbench.measure.sweep import resume_sweep
from convbench.precision import PRECISIONS
from convbench.registry import Entry
from convbench.request import Call, Request, forms
from convbench.request.field import Field, Option, called_with, fields_of, shapes
from convbench.request.stored import StoredSpec
from convbench.results.header import SPEC
from convbench.results.store import Store, load
from convbench.shape import TEXT, Fields, check

PROBLEMS = ("mb2ic3ih9iw9oc2oh7ow7kh3kw3", "mb2ic2ih9iw9oc2oh7ow7kh3kw3")
BEFORE = {
    "problems": list(PROBLEMS),
    "algorithms": ["direct", "naive"],
    "executors": ["serial", "threads"],
    "cores": [1, 2],
    "peers": [],
    "runs": 2,
    "precision": None,
    "scaling": "strong",
    "cache": "hot",
    "allow_tf32": False,
    "seed": 5,
    "source": None,
    "kernels": "gabor",
    "timing": {
        "sample_seconds": 0.01,
        "min_samples": 3,
        "max_samples": 30,
        "min_seconds": 0.6,
        "max_seconds": 2.0,
        "max_warmups": 6,
        "warmup_seconds": 1.5,
        "settled": 0.1,
        "wake_seconds": 0.2,
        "peak_repetitions": 10,
    },
    "cell_limit": 600.0,
}
"""What the version before there was another order wrote."""
ORDER_BEFORE = [
    (PROBLEMS[1], "naive", "serial", 1),
    (PROBLEMS[1], "direct", "serial", 1),
    (PROBLEMS[1], "direct", "threads", 2),
    (PROBLEMS[0], "direct", "serial", 1),
    (PROBLEMS[0], "naive", "threads", 2),
    (PROBLEMS[0], "direct", "threads", 2),
    (PROBLEMS[0], "direct", "threads", 1),
    (PROBLEMS[0], "naive", "threads", 1),
    (PROBLEMS[0], "naive", "serial", 1),
    (PROBLEMS[1], "direct", "threads", 1),
    (PROBLEMS[1], "naive", "threads", 2),
    (PROBLEMS[1], "naive", "threads", 1),
]
"""The order of its first run, as that version had it."""
ASKED = {"algorithms": "direct,naive", "executors": "serial,threads", "cores": (1, 2), "runs": 2, "seed": 5}


def as_json(spec: Spec) -> dict[str, object]:
    return json.loads(json.dumps(spec.to_json()))


def test_a_spec_of_before_is_read_and_written_as_it_was_and_measured_in_the_order_in_which_it_was():
    spec = Spec.from_json(BEFORE)
    assert as_json(spec) == BEFORE
    assert spec.shuffle == "cells"
    assert spec.order(0) == ORDER_BEFORE


def test_a_sweep_of_before_is_gone_on_with_in_the_order_in_which_it_began(tmp_path, simulated):
    simulated.law = lambda cores: 0.1 / cores
    changes = {"executors": ["simulated"], "timing": {**BEFORE["timing"], "peak_repetitions": 0}}
    began = {**BEFORE, **changes}
    with Store.create(tmp_path / "sweep", {"spec": began, "machine": {}, "versions": {}}):
        pass
    request = {"problems": PROBLEMS, **ASKED, "executors": "simulated", "allow_tf32": False, "arithmetic": "exact"}
    resume_sweep(tmp_path / "sweep", request)
    found = load(tmp_path / "sweep")
    spec = Spec.from_json(began)
    for run in range(2):
        assert [record.cell for record in found.records if record.run == run] == spec.order(run)
    assert found.header["spec"] == began


def test_a_new_spec_differs_from_one_of_before_in_nothing_but_the_order():
    spec = make_spec(PROBLEMS, **ASKED)
    assert as_json(spec) == {**BEFORE, "shuffle": "problems"}
    assert Spec.from_json(as_json(spec)) == spec
    assert spec.for_workers() == Spec.from_json(BEFORE).to_json()


@pytest.mark.parametrize("scaling", ["strong", "weak"])
def test_problems_are_shuffled_and_the_cells_of_each(scaling):
    problems = [f"mb1ic1ih{height}iw9oc2kh3kw3" for height in range(9, 19)]
    spec = make_spec(problems, **{**ASKED, "scaling": scaling})
    orders = [spec.order(run) for run in range(8)]
    cells = spec.cells()
    inside, across = set(), set()
    for order in orders:
        assert sorted(order) == sorted(cells)
        changes = sum(one[0] != other[0] for one, other in itertools.pairwise(order))
        assert changes == len({cell[0] for cell in cells}) - 1, "the cells of a problem follow one another"
        across.add(tuple(dict.fromkeys(cell[0] for cell in order)))
        inside.add(tuple(cell[1:] for cell in order if cell[0] == spec.problems[0]))
    assert len(across) == len(orders)
    assert len(inside) > len(orders) / 2
    assert Spec.from_json(as_json(spec)).order(3) == orders[3]
    assert dataclasses.replace(spec, seed=6).order(0) != orders[0]


def test_each_field_that_the_command_line_offers_is_one_of_its_options_and_an_argument_of_the_library():
    offered = {name for name, field in fields_of(Call).items() if field.option is not None}
    beside = {"resume", "against", "fail_above"}
    assert {option.name for option in cli.commands["sweep"].params} == offered | beside
    arguments = inspect.signature(convbench.sweep).parameters
    assert list(arguments) == [*fields_of(Call), "on_progress"] == list(fields_of(SweepCall))
    assert str(arguments["cores"]) == "cores: 'int | str | Iterable[int] | None' = None"
    positional = [name for name, one in arguments.items() if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional == ["problems"]
    for name, field in fields_of(Call).items():
        assert f"        {name}: {field.text[:20]}" in str(convbench.sweep.__doc__)
    assert list(inspect.signature(make_spec).parameters) == list(fields_of(Request))


def test_a_request_holds_one_form_of_each_value_and_is_not_changed():
    request = Request("ic3ih9oc2kh3", algorithms="direct", cores=2, precision="1%")
    assert (request.problems, request.algorithms, request.cores) == (("ic3ih9oc2kh3",), ("direct",), (2,))
    assert request.precision == 0.01
    assert request == dataclasses.replace(request, cores=[2])
    assert hash(request) == hash(dataclasses.replace(request))
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.cores = (1,)


@dataclass(unsafe_hash=True, kw_only=True)
class Longer(StoredSpec):
    """A spec with another field."""

    mood: Field[str | None, str] = Field(
        lambda name, value: forms.word(("calm", "wild"))(name, value or "calm"),
        None,
        "How it feels.",
        option=Option("How it feels.", "calm", "calm|wild"),
        stored=TEXT,
        optional=True,
    )


def test_a_field_is_added_by_one_entry(capsys):
    """The command line, arguments, JSON both ways, its shape, and what older versions read."""
    older = make_spec(PROBLEMS, **ASKED).to_json()
    spec = Longer.from_json(older)
    assert spec.mood == "calm"
    assert spec.to_json() == older, "what is as before is not written"
    wild = dataclasses.replace(spec, mood="wild")
    assert wild.to_json() == {**older, "mood": "wild"}
    assert Longer.from_json(wild.to_json()) == wild
    with pytest.raises(RequestError, match="use the convbench that wrote it"):
        StoredSpec.from_json(wild.to_json())
    with pytest.raises(ValueError, match="mood, which is not text"):
        check({"mood": 1}, Fields(shapes(Longer)), "")

    @called_with(Longer)
    def feel(spec: Longer) -> str:
        return spec.mood

    assert feel(PROBLEMS, source=None, mood="wild") == "wild"
    assert "mood: 'str | None' = None" in str(inspect.signature(feel))

    @click.command()
    @options(Longer, "cores", "mood")
    def command(**said: object) -> None:
        click.echo(sorted(said.items()))

    command.main(["--mood", "wild", "--cores", "1,2"], standalone_mode=False)
    assert capsys.readouterr().out == "[('cores', (1, 2)), ('mood', 'wild')]\n"
    command.main(["--help"], standalone_mode=False)
    assert "--mood calm|wild  How it feels.  [default: calm]" in capsys.readouterr().out
    with pytest.raises(RequestError, match="mood='sad' is not known; choose from calm, wild"):
        command.main(["--mood", "sad"], standalone_mode=False)


def test_the_shape_of_a_stored_spec_is_that_of_the_fields_which_are_stored():
    of_clusters = ("scheduler", "scheduler_file", "threads_per_worker", "workers_on")
    assert set(SPEC.known) == {*BEFORE, "arithmetic", "memory_limit", "networks", "shuffle", *of_clusters}
    check(BEFORE, SPEC, "")


@pytest.mark.parametrize("call", [make_spec, convbench.sweep])
@pytest.mark.parametrize(
    ("words", "named", "says"),
    [
        ((), {"nothing": 1}, "got an unexpected keyword argument 'nothing'"),
        ((PROBLEMS, "direct"), {}, "too many positional arguments"),
        ((PROBLEMS,), {"problems": PROBLEMS}, "multiple values for argument 'problems'"),
    ],
)
def test_an_argument_that_is_unknown_is_told_of_the_function_that_was_called(call, words, named, says):
    with pytest.raises(TypeError, match=rf"^{call.__name__}\(\): {says}"):
        call(*words, **named)


def test_sweeps_that_do_not_say_their_order_are_compared_as_what_they_were():
    now = as_json(make_spec(PROBLEMS, **ASKED))
    before = {name: value for name, value in now.items() if name != "shuffle"}
    assert differences({"spec": before}, {"spec": now}) == ["shuffle: cells -> problems"]
    assert differences({"spec": before}, {"spec": before}) == []


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a precision that is neither exact nor TF32."""
    monkeypatch.setitem(
        PRECISIONS._entry_of, "half", Entry("half", "nowhere:HALF", "factors rounded to half precision")
    )
    return "half"


def test_what_products_are_computed_in_is_stored_as_versions_read_it_that_knew_no_more_than_tf32(half):
    cell = (PROBLEMS[0], "direct", "serial", 1)
    for request, arithmetic in (
        ({}, "exact"),
        ({"allow_tf32": False}, "exact"),
        ({"arithmetic": "exact"}, "exact"),
        ({"allow_tf32": True}, "tf32"),
        ({"arithmetic": "tf32"}, "tf32"),
        ({"arithmetic": "tf32", "allow_tf32": True}, "tf32"),
        ({"arithmetic": half}, half),
    ):
        spec = make_spec(PROBLEMS, **ASKED, **request)
        stored = as_json(spec)
        assert (spec.arithmetic, spec.allow_tf32) == (arithmetic, arithmetic == "tf32")
        assert stored["allow_tf32"] is (arithmetic == "tf32")
        assert stored.get("arithmetic") == (half if arithmetic == half else None)
        assert Spec.from_json(stored) == spec
        assert spec.candidate(cell).precision == arithmetic
        assert same_spec(spec, request, "there") == spec


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"arithmetic": "exact", "allow_tf32": True}, "allow_tf32=True is short for arithmetic=tf32"),
        ({"arithmetic": "octuple"}, "unknown precision 'octuple'; choose from exact, tf32"),
        ({"arithmetic": ""}, "unknown precision ''"),
        ({"arithmetic": 1}, "unknown precision 1"),
    ],
)
def test_a_wrong_arithmetic_is_one_line(request_, says):
    with pytest.raises(RequestError) as refused:
        make_spec(PROBLEMS, **request_)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("simulated", "brief")
def test_the_command_line_names_an_arithmetic(convbench: Convbench, tmp_path: Path):
    words = ["--problem", PROBLEMS[0], "--algorithms", "naive", "--executors", "simulated", "--runs", 1]
    done = convbench("sweep", *words, "--arithmetic", "tf32", "--output", tmp_path / "sweep")
    assert done.returncode == 0, done.stderr
    spec = load(tmp_path / "sweep").header["spec"]
    assert spec["allow_tf32"] is True
    assert "arithmetic" not in spec
    again = convbench("sweep", "--resume", "--output", tmp_path / "sweep", "--allow-tf32")
    assert again.returncode == 0, again.stderr
    refused = convbench("sweep", "--resume", "--output", tmp_path / "sweep", "--arithmetic", "exact")
    assert refused.returncode == 2
    assert "arithmetic=exact is not what the sweep in" in refused.stderr
