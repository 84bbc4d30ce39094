"""What a sweep may be asked for, in which forms, and that everything else is one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convbench
import convbench.api
from convbench import machine
from convbench.errors import RequestError
from convbench.measure import reference, spec
from convbench.measure.spec import Spec, make_spec
from convbench.problem import Problem

DESCRIPTOR = "mb1ic1ih12iw12oc4kh3kw3"
PROBLEM = Problem.parse(DESCRIPTOR)


@pytest.mark.parametrize("problems", [DESCRIPTOR, PROBLEM, [DESCRIPTOR], (PROBLEM,), np.array([DESCRIPTOR])])
@pytest.mark.parametrize(
    "request_",
    [
        {"algorithms": "direct,naive", "executors": "serial, threads", "cores": "1,2", "peers": "scipy"},
        {"algorithms": ["direct", "naive"], "executors": ("serial", "threads"), "cores": [1, 2], "peers": ["scipy"]},
        {
            "algorithms": (name for name in ("direct", "naive")),
            "executors": np.array(["serial", "threads"]),
            "cores": np.array([1, 2]),
            "peers": iter(["scipy"]),
            "runs": np.int64(10),
            "seed": np.uint8(0),
            "allow_tf32": np.False_,
        },
    ],
    ids=["text", "sequences", "others"],
)
def test_a_request_in_any_form_is_the_same_spec(problems, request_):
    if not isinstance(request_["algorithms"], str | list):  # it can be read once
        request_ = {**request_, "algorithms": ("direct", "naive"), "peers": ("scipy",)}
    spec = make_spec(problems, **request_)
    assert spec == make_spec(
        [PROBLEM], algorithms=("direct", "naive"), executors=("serial", "threads"), cores=(1, 2), peers=("scipy",)
    )
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_one_number_of_cores_and_one_name_are_enough():
    spec = make_spec(PROBLEM, cores=2, algorithms="direct", executors="serial", precision=np.float32(0.25))
    assert (spec.cores, spec.algorithms, spec.executors, spec.precision) == ((2,), ("direct",), ("serial",), 0.25)


def test_the_classic_request_is_allowed_on_any_machine():
    assert make_spec(PROBLEM, cores=(1, 2, 4, 8)).cores == (1, 2, 4, 8)
    assert make_spec(PROBLEM, cores=machine.most_cores()).cores == (machine.most_cores(),)


WRONG = {
    "problems": [
        None,
        1,
        b"ic3ih9oc2kh3",
        [None],
        [[DESCRIPTOR]],
        {DESCRIPTOR: 1},
        "",
        ["", PROBLEM],
        [PROBLEM, PROBLEM],
    ],
    "algorithms": [
        1,
        "",
        "direct,direct",
        ["direct", "direct"],
        [],
        [None],
        [["direct"]],
        {"direct"},
        b"direct",
        "fast",
    ],
    "executors": [1, "", "serial,", [None], {"serial": 1}, "gpus", ()],
    "peers": [None, 1, "", [None], "scipy,scipy"],
    "cores": [
        0,
        -1,
        2.0,
        True,
        "two",
        "",
        "1,,2",
        [None],
        [1.5],
        [1, 1],
        [],
        [[1]],
        {1},
        4096,
        [1, 10**9],
        b"1",
        object(),
    ],
    "runs": [0, -1, 1.5, True, None, "3", 10**9],
    "precision": [0, 1, -0.1, float("nan"), float("inf"), "1", "100%", "-1%", "%", True, [0.1], 10**400, 1j],
    "time_limit": [-1, float("nan"), "60", True, [1], 1j],
    "scaling": [None, "", "both", ["strong"], {}],
    "cache": [None, "", "warm", 1],
    "allow_tf32": [None, 1, "yes", []],
    "seed": [-1, 0.5, None, True, "0", 2**63],
    "output": ["", 1, b"out", "nul\0", ["out"]],
    "on_progress": [None, "print", 1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_request_is_one_clear_line_and_measures_nothing(name, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convbench.api, "run_sweep", lambda *_, **__: pytest.fail("it was measured"))
    with pytest.raises(RequestError) as error:
        convbench.sweep(**{"problems": PROBLEM, "cores": 1, name: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("directory", [None, "", 1, b"there", "nul\0", ["there"]])
def test_a_directory_that_can_be_none_is_one_clear_line(directory):
    with pytest.raises(RequestError, match=r"^directory=.+ is not allowed"):
        convbench.load(directory)


scalars = st.none() | st.booleans() | st.integers(-5, 70) | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
anything = st.recursive(
    scalars | st.sampled_from(["direct", "serial", "scipy", "1,2", DESCRIPTOR, "hot", "weak"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers(0, 2), inner, max_size=2),
    max_leaves=4,
)
NAMES = [name for name in WRONG if name not in ("output", "on_progress", "time_limit")]


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=3))
def test_any_request_is_a_spec_or_one_line(request_):
    try:
        spec = make_spec(**{"problems": PROBLEM, **request_})
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017  # most are refused
        return
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "spec", [None, [], 1, {}, {"problems": 1, "timing": {}, "source": None}, {"timing": [], "source": 1}]
)
def test_a_stored_spec_that_is_none_is_one_clear_line(spec):
    with pytest.raises(RequestError, match="use the convbench that wrote it"):
        Spec.from_json(spec)


def test_paths_may_be_paths(picture: Path, bank: Path):
    assert make_spec(image=picture, kernels=bank) == make_spec(image=str(picture), kernels=str(bank))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--resume"], "--resume goes on with the sweep in --output; give the directory"),
        (["--resume", "--against", "python"], "--resume goes on with the sweep in --output; give the directory"),
        (["--against", ""], "against='' is no program; give the path of another environment's python"),
    ],
)
def test_a_sweep_of_nowhere_or_against_nothing_is_one_clear_line(convbench, tmp_path, words, says):
    done = convbench("sweep", "--problem", DESCRIPTOR, "--time-limit", 0, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"convbench: error: {says}\n"
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_that_are_drawn_in_pieces_are_those_that_are_drawn_at_once(monkeypatch, dtype):
    whole = spec._normal(np.random.default_rng(3), (2, 5, 7), dtype, 0.3)
    expected = (np.random.default_rng(3).standard_normal((2, 5, 7)) * 0.3).astype(dtype)
    np.testing.assert_array_equal(whole, expected)
    x, weights = make_spec(PROBLEM, seed=7).data(PROBLEM)
    for piece in (1, 8, 69, 70):
        monkeypatch.setattr(spec, "_DRAWN", piece)
        drawn = spec._normal(np.random.default_rng(3), (2, 5, 7), dtype, 0.3)
        assert drawn.dtype == dtype
        np.testing.assert_array_equal(drawn, expected)
        again = make_spec(PROBLEM, seed=7).data(PROBLEM)
        assert all(map(np.array_equal, again, (x, weights)))


def test_what_the_check_takes_counts_as_memory_that_a_problem_needs(monkeypatch):
    """Enough for the arrays alone is not enough; what is free is used up to nine tenths."""
    problem = Problem.parse("mb1ic1ih500iw500oc1kh3kw3")
    arrays = 4 * (2 * 500 * 500 + 3 * 9 + 498 * 498)
    needed = arrays + reference.memory(problem)
    assert needed > 2 * arrays
    for free, fits in ((2 * arrays, False), (needed / 0.9 - 2, False), (needed / 0.9 + 2, True)):
        monkeypatch.setattr(machine, "free_memory", lambda free=free: free)
        if fits:
            assert make_spec(problem).problems == (str(problem),)
        else:
            with pytest.raises(RequestError, match=r"needs .+ GiB and .+ GiB are free; use a smaller"):
                make_spec(problem)
