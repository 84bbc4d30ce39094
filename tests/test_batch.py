"""Batch files as benchdnn writes them: what they hold, and that whatever else they hold is one clear line."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from benchdnn_shapes import sizes, stated_by
from hypothesis import given
from hypothesis import strategies as st

from convbench import networks
from convbench.arguments import LONGEST_NAME
from convbench.errors import RequestError
from convbench.networks import files
from convbench.problem import Problem, batch
from convbench.problem.batch import BatchError, read_batch
from convbench.problem.batch_options import IGNORED

SMALL = "mb1ic3ih9oc2kh3"
OTHER = "mb1ic4ih9oc2kh3"


def refused(text: str, **included: str) -> str:
    """Why a text is refused; empty where it is read."""
    try:
        read(text, **included)
    except BatchError as error:
        return str(error)
    return ""


def read(text: str, **included: str) -> batch.Batch:
    """The problems of a text that may include others by name."""

    def include(_: str, name: str) -> tuple[str, str]:
        if name not in included:
            raise RequestError(f"--batch={name} is not there")
        return name, included[name]

    return read_batch("file", text, include)


def written(text: str, **included: str) -> list[str]:
    return [str(problem) for problem in read(text, **included).problems]


def plain(*descriptors: str) -> list[str]:
    return [str(Problem.parse(one)) for one in descriptors]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", []),
        ("# nothing\n\n   \t\n", []),
        (f"{SMALL}\n{OTHER}", [SMALL, OTHER]),
        (f"{SMALL} {OTHER}", [SMALL, OTHER]),
        (f"\t{SMALL}  \r\n{OTHER}\t\r\n", [SMALL, OTHER]),
        (f"{SMALL} # {OTHER}\n#{OTHER}\n{OTHER}", [SMALL, OTHER]),
        (f"--mb=4\n{SMALL}\n--mb=0\n{SMALL}", ["mb4ic3ih9oc2kh3", SMALL]),
        (f"--mb=2,16 {SMALL}", ["mb2ic3ih9oc2kh3", "mb16ic3ih9oc2kh3"]),
        (f"--mb= {SMALL}", [SMALL]),
        ("ic3ih9oc2kh3", ["mb2ic3ih9oc2kh3"]),
        (f"--dir=BWD_D,BWD_W {SMALL}", [f"--dir=BWD_D {SMALL}", f"--dir=BWD_W {SMALL}"]),
        (f"--dir=FWD_B,FWD_D,FWD_I,fwd_d {SMALL}", [SMALL]),  # which are one problem
        (f"--dir=BWD_W,BWD_WB {SMALL}", [f"--dir=BWD_W {SMALL}"]),
        (f"--dt=f64,f32:f32:f32,f32 {SMALL}", [f"--dt=f64 {SMALL}", SMALL]),
        (f"--cfg=f32_wino {SMALL}", [SMALL]),
        (f"--mb=4 --dir=BWD_D --dt=f64 --reset {SMALL}", [SMALL]),
        (f"--match=.*kh3.* {SMALL} mb1ic3ih9oc2kh5", [SMALL]),
        (f'--match=.*ic[34]ih9.* {SMALL} mb1ic5ih9oc2kh3 --match= mb1ic5ih9oc2kh3n"x"', [SMALL, 'mb1ic5ih9oc2kh3n"x"']),
        (f"--match=a+b {SMALL}n(a+b) {OTHER}n(aab)", [f"{SMALL}n(a+b)"]),  # a basic expression
        (f"--conv -v1 --stag=axb,any --attr-post-ops=sum+relu --alg=wino --mode=P {SMALL}", [SMALL]),
        (f"--attr-post-ops=, \\\n   sum:0.5, \\\n # and\n  relu\n{SMALL}", [SMALL]),
        (f"--mb=2,\\\n16 {SMALL}", ["mb2ic3ih9oc2kh3", "mb16ic3ih9oc2kh3"]),
        ("mb1ic3oc2_iw9kw3", ["mb1ic3ih1iw9oc2kh1kw3"]),
        (f"{SMALL}n{OTHER}n", [f"{SMALL}n{OTHER}n"]),
        (f'{SMALL}n"" {SMALL}n', [SMALL, SMALL]),
        ("mb1ic3id0ih9oc2kh3sd1pd0", [SMALL]),  # says nothing of depth
    ],
)
def test_what_a_file_holds(text, problems):
    assert written(text) == plain(*problems)


def test_options_go_on_into_included_files_and_out_of_them():
    found = written(f"--mb=3 --batch=other {SMALL}", other=f"{OTHER} --mb=5")
    assert found == plain("mb3ic4ih9oc2kh3", "mb5ic3ih9oc2kh3")


def test_what_is_not_2d_or_of_another_dtype_is_counted():
    found = read(f"ic3id9ih9iw9oc2kd3kh3kw3 --dt=f32,bf16,u8:s8:u8 {SMALL} --cfg=u8s8f32 {SMALL} ic3id9oc2kd3")
    assert [str(problem) for problem in found.problems] == plain(SMALL)
    assert dict(found.skipped) == {
        "3-D; 2-D and 1-D ones are measured": 2,
        "of another data type; f32 and f64 are measured": 3,
    }


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("ic3", "1:1", ["'ic3'", "ih"]),
        (f"{SMALL}\n\n  ic3ih9oc2kx3", "3:12", ["'kx3'"]),
        (f"{SMALL} oc2ih9ic3kh3oops", "1:29", ["'oops'"]),
        (f"{SMALL}n'a b'", "1:16", ["n'a"]),
        (f'{SMALL}n"a', "1:16", ['n"a']),
        ("ic3ih9oc2kh11", "1:1", ["does not fit"]),
        ("g2ic3ih9oc2kh3", "1:1", ["groups=2"]),
        ("g0ic3ih9oc2kh3", "1:1", ["groups=0"]),
        ("ic3oc2", "1:1", ["ih"]),
        ("mb99999999999999999999ic3ih9oc2kh3", "1:22", ["cannot read"]),
        ("mb9000000000000000000ic3ih9oc2kh3", "1:1", ["bytes"]),
        ("--dir=SIDEWAYS", "1:1", ["SIDEWAYS", "FWD_D"]),
        ("--dir=FWD_D,", "1:1", ["FWD_D"]),
        ("--dt=f23", "1:1", ["f23", "f32"]),
        ("--dt=u8:s8:", "1:1", ["f32"]),
        ("--cfg=U8", "1:1", ["--dt="]),
        ("--mb=-1", "1:1", ["--mb=-1", "from 0 up"]),
        ("--mb=1,,2", "1:1", ["whole numbers"]),
        ("--mb=1.5", "1:1", ["--mb=1.5"]),
        ("--match=[", "1:1", ["--match=["]),
        ("--match=x.*y.*z", "1:1", ["one *"]),
        ("--match=[[:alpha:]]", "1:1", ["plain brackets"]),
        ("--match=\\(a*\\)*", "1:1", ["without"]),
        ("--deconv", "1:1", ["'--deconv'", "--dir"]),
        ("--dri=BWD_D", "1:1", ["'--dri=BWD_D'"]),
        ("-x", "1:1", ["'-x'"]),
        ("--batch=", "1:1", ["names no file"]),
        ("--batch=gone", "1:1", ["gone"]),
        (f'{SMALL}n"a*{"9" * 30}"', "1:1", ["times"]),
        ("\x1b[31mred", "1:1", ["\\x1b"]),
        ("<html>", "1:1", ["'<html>'"]),
    ],
)
def test_a_wrong_line_is_named_with_file_line_and_column(text, place, words):
    with pytest.raises(BatchError) as raised:
        read(text)
    assert str(raised.value).startswith(f"file:{place}: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    for word in words:
        assert word in str(raised.value)


def test_a_wrong_line_of_an_included_file_is_named_by_that_file():
    with pytest.raises(BatchError, match=r"^other:2:1: cannot read problem 'oops'"):
        read("--batch=other", other=f"{SMALL}\noops")


def test_files_that_include_themselves_are_refused():
    with pytest.raises(BatchError, match=r"^other:1:1: --batch=file includes itself"):
        read("--batch=other", other="--batch=file", file="")
    with pytest.raises(BatchError, match=r"^file:1:1: --batch=file includes itself"):
        read("--batch=file", file="--batch=file")


def test_files_are_not_nested_without_end():
    chain = {str(number): f"--batch={number + 1}" for number in range(100)}
    with pytest.raises(BatchError, match="--batch=19 is included through 20 others"):
        read("--batch=0", **chain)


def test_files_that_include_one_another_again_and_again_come_to_an_end(monkeypatch):
    monkeypatch.setattr(batch, "MOST_WORDS", 10_000)
    levels = {str(number): f"--batch={number + 1} " * 10 for number in range(10)}
    with pytest.raises(BatchError, match="more than 10000 words"):
        read("--batch=0", **levels, **{"10": SMALL})


def test_a_million_lines_are_read_or_refused_soon(monkeypatch):
    begin = time.monotonic()
    assert read("# a comment\n" * 1_000_000).problems == []
    monkeypatch.setattr(batch, "MOST_PROBLEMS", 2_000)
    with pytest.raises(BatchError, match=r"^file:2001:1: more than 2000 problems"):
        read(f"{SMALL}\n" * 1_000_000)
    with pytest.raises(BatchError, match=r"^file:1:"):
        read(" ".join(["--mb=" + ",".join(map(str, range(1, 1000))), *[SMALL] * 10]))
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "line", ["x", "n", '"', "\\", "g1", "ic3ih9oc2kh3_", "--mb=1,", "--match=", "#", "9", "--dt=f32:"]
)
def test_a_line_of_a_megabyte_is_read_or_refused_in_a_short_line(line):
    text = line * (2**20 // len(line))
    begin = time.monotonic()
    assert len(refused(text)) < 1000
    read(f'{SMALL}n"{"a" * 2**20}"')
    read("a\\\n" * 0 + "--attr-scales=\\\n" + "x\\\n" * 200_000)  # one word in many pieces
    assert time.monotonic() - begin < 60


def test_names_that_are_too_long_are_cut_and_keep_their_multiplicity():
    (long,) = read(f'{SMALL}n"{"a*5&" * 100}b*7"').problems
    assert len(long.name) == LONGEST_NAME
    assert long.count == 7


WORDS = [
    *(SMALL, OTHER, 'mb1ic3iw9oc2kw3n"a:b*4"', "ic3id9oc2kd3", "oops", "--mb=1,4", "--mb=0", "--mb=x", "--reset"),
    *("--dir=BWD_D,FWD_B", "--dt=f64,bf16", "--alg=wino", "--match=.*kh3.*", "--batch=other"),
    *("# end\n", "\n", "\\\n", "\r\n", "\t"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_whatever_is_read_is_printed_so_that_it_reads_the_same_again(text):
    included = {"other": f"--mb=7 {OTHER}"}
    if error := refused(text, **included):
        assert re.match(r"(file|other):\d+:\d+: ", error)
        return
    found = read(text, **included)
    assert written("\n--reset\n".join(map(str, found.problems))) == [str(problem) for problem in found.problems]
    assert all(Problem.parse(str(problem)) == problem for problem in found.problems)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_its_place(text):
    error = refused(text)
    assert not error or re.match(r"file:\d+:\d+: ", error)


ENTRIES = ("g", "mb", "ic", "oc", "ih", "iw", "oh", "ow", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")


@given(st.dictionaries(st.sampled_from(ENTRIES), st.integers(0, 12), min_size=4), st.randoms())
def test_a_descriptor_that_parses_has_the_sizes_that_it_states(entries, random):
    stated = list(entries.items())
    random.shuffle(stated)
    text = "_".join(f"{entry}{value}" for entry, value in stated)
    try:
        problem = Problem.parse(text)
    except RequestError:
        return
    assert Problem.parse(str(problem)) == problem
    found = sizes(problem)
    flat = not any(value for entry, value in entries.items() if entry.endswith("h") and (entry, value) != ("sh", 1))
    for entry, value in entries.items():
        says_nothing = entry in ("oh", "ow") and not value
        dropped = entry in ("ph", "pw") and value > found[entry]  # padding that no output reads
        square = entry.endswith("w") and not value
        assert found[entry] == value or says_nothing or dropped or square
    if flat:
        assert (problem.height, problem.kernel_height, problem.output_height) == (1, 1, 1)


def test_no_option_is_both_read_and_ignored():
    for option in ("batch", "dir", "dt", "mb", "match", "reset", "cfg"):
        assert option not in IGNORED


def folder(path: Path, **contents: str | bytes) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def descriptors(found: networks.Suite) -> list[str]:
    return [str(replace(layer.problem, name="")) for layer in found.layers]


def test_an_included_file_lies_beside_the_including_one_or_beside_the_first(tmp_path, monkeypatch):
    folder(tmp_path, first="--batch=below/second", third=OTHER)
    folder(tmp_path / "below", second="--batch=fourth --batch=third", fourth=SMALL)
    monkeypatch.chdir(folder(tmp_path / "here", third="oops"))  # not beside the current folder
    assert descriptors(networks.suite(tmp_path / "first")) == plain(SMALL, OTHER)
    assert descriptors(networks.suite("../first")) == plain(SMALL, OTHER)


def test_an_included_file_may_be_named_by_a_link_or_by_its_whole_path(tmp_path):
    folder(tmp_path, first=f"--batch={tmp_path}/second", second="--batch=link")
    (tmp_path / "link").symlink_to("first")
    with pytest.raises(BatchError, match="includes itself"):
        networks.suite(tmp_path / "first")


def test_a_folder_is_all_files_in_it_that_hold_problems(tmp_path):
    place = folder(
        tmp_path / "set",
        shapes_a=f"{SMALL}n'a*2'",
        shapes_b=f"--batch=shapes_a\n{OTHER}\n",  # which is read by itself
        test_all="--dt=f64\n--batch=shapes_a\n--batch=shapes_b\n",
        README="What these files are.\n",
        picture=bytes(range(256)),
        **{".hidden": "ic3ih9oc2kh5"},
    )
    folder(place / "more", shapes_c="ic3ih9oc2kh7")
    found = networks.suite(place)
    assert descriptors(found) == plain(SMALL, OTHER)
    assert [layer.count for layer in found.layers] == [2, 1]
    folder(place, shapes_d="ic3ih9oc2kh5oops")
    with pytest.raises(BatchError, match=r"shapes_d:1:13: cannot read"):
        networks.suite(place)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no problem"),
        (b"# nothing", "holds no problem"),
        (b"ic3id9oc2kd3", "skipped: 1 x 3-D"),
        (bytes(range(256)), "no text"),
        (b"\xff\xfe" + "ic3ih9oc2kh3".encode("utf-16-le"), "no text"),
        (b"ic3ih9\0oc2kh3", "no text"),
        (b"\x89PNG\r\n\x1a\n", "no text"),
    ],
)
def test_a_file_without_problems_is_refused(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RequestError, match=re.escape(words)) as raised:
        networks.suite(tmp_path / "file")
    assert "\n" not in str(raised.value)


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path):
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert descriptors(networks.suite(tmp_path / "file")) == plain(SMALL)


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    empty = folder(tmp_path / "empty")
    for place, words in [
        (tmp_path / "gone", "unknown network"),
        (tmp_path / "circle", "unknown network"),
        ("x" * 5000, "unknown network"),
        ("a\0b", "network="),
        ("", "network="),
        (7, "network=7"),
        (None, "network=None"),
        (tmp_path / "pipe", "is no file"),
        (Path("/dev/zero"), "is no file"),
        (empty, "holds no problem"),
    ]:
        with pytest.raises(RequestError, match=re.escape(words)):
            networks.suite(place)
    folder(tmp_path, file=f"--batch=pipe {SMALL}", wide=f"--batch=empty {SMALL}")
    for name in ("file", "wide"):
        with pytest.raises(BatchError, match=rf"{name}:1:1: .* is no file"):
            networks.suite(tmp_path / name)
    monkeypatch.setattr(files, "LARGEST_FILE", 10)
    with pytest.raises(RequestError, match="more than 10 bytes"):
        networks.suite(tmp_path / "file")


def test_a_file_or_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder(tmp_path, file=SMALL)
    monkeypatch.setattr(Path, "open", forbidden)
    monkeypatch.setattr(Path, "iterdir", forbidden)
    for place in (tmp_path / "file", tmp_path):
        with pytest.raises(RequestError, match=r"cannot be read \(Permission denied\)"):
            networks.suite(place)


@pytest.mark.parametrize(
    ("word", "stated"),
    [
        ('g2_ic32oc64_iw27kw2_n"1d:g8"', {"g": 2, "ic": 32, "oc": 64, "iw": 27, "kw": 2}),
        ("--mb=2,16", None),
        ("add:f32:per_oc+dw:k3s1p1:s8,", None),
        ("ic3id9oc2kd3", None),
    ],
)
def test_what_a_descriptor_states(word, stated):
    assert stated_by(word) == stated
