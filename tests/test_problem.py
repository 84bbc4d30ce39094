"""Problems: what follows from their shapes, and benchdnn's notation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.arguments import whole_number
from convbench.errors import ConvbenchError, RequestError
from convbench.problem import Problem

EXPERIMENT = 'mb1ic1ih720iw1280oc128oh710ow1270kh11kw11n"multicore"'


def test_the_experiment_has_the_shapes_and_the_work_that_the_paper_says():
    problem = Problem(height=720, width=1280, out_channels=128, kernel_height=11, kernel_width=11, name="multicore")
    assert str(problem) == EXPERIMENT
    assert Problem.parse(EXPERIMENT) == problem
    assert (problem.output_height, problem.output_width) == (710, 1270)
    assert problem.flops == 2 * 128 * 710 * 1270 * 121
    assert problem.bytes == 4 * (720 * 1280 + 128 * 121 + 128 * 710 * 1270)
    assert problem.count == 1


@pytest.mark.parametrize(
    ("descriptor", "output", "padding"),
    [
        ('g1mb1ic3ih227oc96kh11sh4ph0n"alexnet:conv1"', (55, 55), ((0, 0), (0, 0))),
        ('g2mb256ic96ih27oc256oh27kh5ph2n"alexnet:conv2"', (27, 27), ((2, 2), (2, 2))),
        ('g1mb50ic3ih224iw224oc64oh112ow112kh7kw7sh2sw2ph3pw3n"resnet_50:conv1"', (112, 112), ((3, 3), (3, 3))),
        ("mb1ic4ih10oc4oh10kh3", (10, 10), ((1, 1), (1, 1))),  # ph from oh
        ("mb1ic4ih10oc4kh3", (8, 8), ((0, 0), (0, 0))),  # neither: no padding
        ("mb1ic4ih10oc4oh10kh4", (10, 10), ((1, 2), (1, 2))),  # an odd zero goes behind
        ("mb1ic4ih10iw20oc4oh10ow20kh3kw5ph1pw2", (10, 20), ((1, 1), (2, 2))),
        ("mb1_ic4ih10_oc4_kh3dh1", (6, 6), ((0, 0), (0, 0))),  # dilation counts from 0, underscores separate
        ("mb1ic256ih56iw56oc512oh28ow28kh1kw1sh2sw2ph0pw0", (28, 28), ((0, 0), (0, 0))),  # pixels left unread
    ],
)
def test_what_a_descriptor_leaves_out_is_deduced_as_benchdnn_deduces_it(descriptor, output, padding):
    problem = Problem.parse(descriptor)
    assert (problem.output_height, problem.output_width) == output
    assert problem.padding == padding
    assert Problem.parse(str(problem)) == problem


def test_a_descriptor_without_mb_means_two_as_in_benchdnn():
    assert Problem.parse("ic64ih56oc64kh3ph1").batch == 2


def test_options_before_the_descriptor_are_read_and_written():
    problem = Problem.parse("--conv --dir=BWD_W --dt=f64:f64:f64 --mb=7 mb1ic3ih9oc5kh3")
    assert (problem.direction, problem.dtype, problem.batch) == ("backward_weights", "float64", 7)
    assert str(problem).startswith("--dir=BWD_W --dt=f64 mb7")
    assert Problem.parse(str(problem)) == problem


def test_a_trailing_star_in_the_name_says_how_often_a_network_has_the_layer():
    assert Problem.parse('mb50ic64ih56oc256oh56kh1ph0n"resnet_50:res2a_branch1*4"').count == 4


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    small, tiny = st.integers(1, 40), st.integers(1, 4)
    kernel, dilation = (draw(tiny), draw(tiny)), (draw(tiny), draw(tiny))
    extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    groups = draw(tiny)
    return Problem(
        height=extent[0] + draw(small),
        width=extent[1] + draw(small),
        out_channels=groups * draw(tiny),
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        batch=draw(tiny),
        channels=groups * draw(tiny),
        groups=groups,
        stride=(draw(tiny), draw(tiny)),
        padding=tuple((draw(st.integers(0, 9)), draw(st.integers(0, 9))) for _ in "yx"),
        dilation=dilation,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        direction=draw(st.sampled_from(["forward", "backward_data", "backward_weights"])),
        name=draw(st.sampled_from(["", "net:conv1", "net:conv1*3", "n1"])),
    )


@given(problems())
def test_every_problem_prints_a_descriptor_that_parses_back(problem):
    assert Problem.parse(str(problem)) == problem
    assert hash(Problem.parse(str(problem))) == hash(problem)


@given(problems())
def test_dropped_padding_changes_no_output(problem):
    (top, bottom), (left, right) = problem.padding
    size = (problem.height + top + bottom, problem.width + left + right)
    output = [(s - e) // t + 1 for s, e, t in zip(size, problem.kernel_extent, problem.stride, strict=True)]
    assert problem.output_shape == (problem.batch, problem.out_channels, *output)


def test_same_padding_gives_the_input_size_over_the_stride():
    for stride in (1, 2, 3):
        problem = Problem(
            height=10, width=11, out_channels=1, kernel_height=3, kernel_width=4, stride=stride, padding="same"
        )
        assert (problem.output_height, problem.output_width) == (-(-10 // stride), -(-11 // stride))


def test_numpy_integers_are_integers():
    problem = Problem(
        height=np.int64(9), width=np.int32(9), out_channels=1, kernel_height=3, kernel_width=3, padding=np.int8(1)
    )
    assert problem.output_height == 9
    assert type(problem.height) is int


SHAPE = {"height": 9, "width": 9, "out_channels": 4, "kernel_height": 3, "kernel_width": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height=0"),
        ({"height": 2.5}, "height=2.5"),
        ({"batch": True}, "batch=True"),
        ({"kernel_width": 10}, "does not fit"),
        ({"stride": (1, 2, 3)}, "stride=(1, 2, 3)"),
        ({"stride": 0}, "stride=0"),
        ({"padding": "around"}, "'valid' or 'same'"),
        ({"padding": -1}, "padding=-1"),
        ({"padding": 1.5}, "padding=1.5"),
        ({"padding": None}, "padding=None"),
        ({"padding": [[1, 2], [3]]}, "padding=[[1, 2], [3]]"),
        ({"padding": ((1.5, 2), (0, 0))}, "padding=((1.5, 2), (0, 0))"),
        ({"padding": "12"}, "padding='12'"),
        ({"padding": {1: 2, 3: 4}}, "padding={1: 2, 3: 4}"),
        ({"padding": 2**40}, "from 0 to 2147483647"),
        ({"stride": 2.5}, "stride=2.5"),
        ({"stride": (1, 0)}, "stride=(1, 0)"),
        ({"stride": "12"}, "stride='12'"),
        ({"stride": True}, "stride=True"),
        ({"stride": np.array([1, 2, 3])}, "stride=array([1, 2, 3])"),
        ({"stride": 2**63}, "stride=9223372036854775808"),
        ({"dilation": None}, "dilation=None"),
        ({"dilation": [1, None]}, "dilation=[1, None]"),
        ({"groups": 0}, "groups=0"),
        ({"groups": 1.5}, "groups=1.5"),
        ({"groups": None}, "groups=None"),
        ({"height": None}, "height=None"),
        ({"height": "9"}, "height='9'"),
        ({"height": [9]}, "height=[9]"),
        ({"height": 10**5000}, "height=<int that cannot be printed>"),
        ({"height": 2**62}, "the input of shape (1, 1, 4611686018427387904, 9)"),
        ({"out_channels": 2**60}, "has at most 9223372036854775807"),
        ({"batch": np.True_}, "batch=np.True_"),
        ({"batch": np.ones((3, 3))}, "batch=array([[1., 1., 1.], [1., 1., 1.], [1., 1., 1.]])"),
        ({"dtype": ["float32"]}, "dtype=['float32']"),
        ({"dtype": None}, "dtype=None"),
        ({"direction": {}}, "direction={}"),
        ({"name": None}, "name=None"),
        ({"name": "bell\a"}, "unprintable"),
        ({"name": "n" * 201}, "at most 200 characters"),
        ({"groups": 3}, "groups=3"),
        ({"dtype": "float16"}, "float32, float64"),
        ({"direction": "sideways"}, "forward, backward_data, backward_weights"),
        ({"name": "two words"}, "none of them a space"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(change, words):
    with pytest.raises(RequestError, match=r".+") as error:
        Problem(**{**SHAPE, **change})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "descriptor",
    [
        "",
        "nonsense",
        "ic3ih5oc2",  # no kernel
        "ic3ih5oc2kh3id4",  # 3-D
        "ic3ih5oc2kh3kw3",  # kw, but not iw
        "mb1ic1ih10oc1oh5kh3ph0",  # oh contradicts the rest
        "--dt=f16 ic3ih5oc2kh3",
        "--dir=UP ic3ih5oc2kh3",
        "--what ic3ih5oc2kh3",
        "g2ic3ih5oc2kh3",
        "ic3ih5oc2kh3sh0",
        "ic3ih" + "9" * 5000 + "oc2kh3",
        "ic3ih9223372036854775808oc2kh3",
        "--mb=" + "9" * 5000 + " ic3ih5oc2kh3",
        "--mb=² ic3ih5oc2kh3",
        "ic3ih٣oc2kh3",
        "ic3ih5oc2kh3n\ud800",
        'ic3ih5oc2kh3n"line*' + "9" * 5000 + '"',
        "\0",
        None,
        b"ic3ih5oc2kh3",
        7,
    ],
)
def test_a_descriptor_that_makes_no_sense_is_one_clear_error(descriptor):
    with pytest.raises(ConvbenchError) as error:
        Problem.parse(descriptor)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "descriptor", ["mb1ic1ih720iw1280oc128kh11kw11", "mb2ic3ih227oc96kh11sh4ph2", "ic4ih9oc4kh3ph1dh1"]
)
def test_a_grown_problem_has_that_many_times_the_rows(descriptor):
    problem = Problem.parse(descriptor)
    assert problem.grown(1) == problem
    for times in (2, 3, 8):
        grown = problem.grown(times)
        assert grown.output_height == times * problem.output_height
        assert grown.output_width == problem.output_width
        assert grown.flops == times * problem.flops
        assert Problem.parse(str(grown)) == grown


numbers = st.integers() | st.integers(-3, 12) | st.integers(-3, 12).map(np.int64) | st.floats() | st.booleans()
odd = numbers | st.none() | st.text() | st.binary() | st.complex_numbers() | st.just(np.float32(2)) | st.just(object())
values = st.recursive(
    odd,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 3) | st.text(), inner, max_size=3)
        | st.lists(st.integers(-1, 4), max_size=4).map(np.array)
        | st.lists(st.integers(-1, 4), max_size=4).map(lambda items: (item for item in items))
    ),
    max_leaves=5,
)
FIELDS = [*SHAPE, "batch", "channels", "groups", "stride", "padding", "dilation", "dtype", "direction", "name"]


@given(st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3))
def test_any_value_makes_a_problem_or_is_refused_in_one_line(change):
    try:
        problem = Problem(**{**SHAPE, **change})
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017  # most values are refused, and some make a problem
        return
    assert Problem.parse(str(problem)) == problem
    assert problem.bytes > 0
    assert problem.count >= 0


@given(values | st.from_regex(r"(--[a-z]{2,3}=\w* ?)?([a-z]{1,2}[0-9]{1,4}){1,9}(n[\"']?\w*[\"']?)?", fullmatch=True))
def test_any_descriptor_makes_a_problem_or_is_refused_in_one_line(descriptor):
    try:
        problem = Problem.parse(descriptor)
    except RequestError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert Problem.parse(str(problem)) == problem


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (np.int64(1), ((1, 1), (1, 1))),
        ([1, 2], ((1, 1), (2, 2))),
        (np.array([1, 2]), ((1, 1), (2, 2))),
        (np.array([[1, 2], [0, 1]]), ((1, 2), (0, 1))),
        ((1, (0, 2)), ((1, 1), (0, 2))),
    ],
)
def test_padding_may_be_written_in_any_sequence(padding, expected):
    assert Problem(**SHAPE, padding=padding).padding == expected


@pytest.mark.parametrize("value", [2.0, np.float32(2), True, "2", None, [2], 1, 2**63])
def test_a_whole_number_is_an_integer_in_range(value):
    allowed = f"from 2 to {2**63 - 1}" if value == 2**63 else "from 2 up"
    with pytest.raises(RequestError, match=rf"^cores=.+ is not allowed; give a whole number {allowed}$"):
        whole_number("cores", value, least=2)
    assert whole_number("cores", np.uint8(2), least=2) == 2
