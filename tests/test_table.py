"""Tables of times: from a sweep's records, and from CSV files that anybody may have written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from convbench.errors import RequestError, UnavailableError
from convbench.plans import Candidate
from convbench.problem import Problem
from convbench.results.record import Record
from convbench.select.contenders import candidate_of, name_of
from convbench.select.judging import table_file
from convbench.select.judging.table import (
    Table,
    form_of,
    from_records,
)
from convbench.select.judging.table_file import read_table
from convbench.select.judging.tuned import tuned_table

ONE = 'mb1ic3ih9oc4kh3n"alexnet:conv1*2"'
TWO = 'mb1ic5ih9oc4kh3n"vgg16:conv1"'


def record(problem: str, algorithm: str, seconds: tuple[float, ...] = (1.0,), **more: object) -> Record:
    words = {"run": 0, "order": 0, "executor": "threads", "cores": 2, "status": "ok", "samples": seconds, **more}
    return Record(problem=str(Problem.parse(problem)), algorithm=algorithm, **words)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "times.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(table: Table) -> list[list[float | None]]:
    return [[None if math.isnan(value) else float(value) for value in row] for row in table.seconds]


def test_a_cell_is_the_median_over_runs_of_the_runs_mean():
    records = [
        record(ONE, "direct", (1.0, 3.0), run=0),
        record(ONE, "direct", (5.0,), run=1),
        record(ONE, "direct", (3.0,), run=2),
        record(ONE, "fft", (4.0,), executor="serial", cores=1),
        record(TWO, "direct", (6.0,)),
    ]
    table = from_records(records)
    assert table.candidates == ("direct/threads/2", "fft/serial/1")
    assert cells(table) == [[3.0, 4.0], [6.0, None]]
    assert table.networks == ("alexnet", "vgg16")
    assert list(table.counts) == [2, 1]
    assert list(table.fastest) == [3.0, 6.0]
    assert table.regrets[0, 1] == pytest.approx(1 / 3)


def test_other_libraries_bounds_and_oversubscribed_cells_are_no_candidates():
    records = [
        record(ONE, "direct"),
        record(ONE, "torch", executor="library", peer=True),
        record(ONE, "cublas", bound=True),
        record(ONE, "unrolled", cores=64, flags=("oversubscribed",)),
        record(ONE, "winograd", (), status="skipped", reason="why"),
        record(TWO, "direct", (), status="failed"),
    ]
    table = from_records(records)
    assert table.candidates == ("direct/threads/2",)
    assert [problem.name for problem in table.problems] == ["alexnet:conv1*2"]


def test_the_rows_of_a_table_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        from_records([record(ONE, "direct")]).seconds[0, 0] = 1


def test_names_of_candidates():
    assert candidate_of("direct/threads/2") == Candidate("direct", "threads", 2)
    assert name_of(Candidate("direct", "threads", 2)) == "direct/threads/2"
    for name in (
        "DIRECT",
        "direct/threads",
        "direct/threads/0",
        "direct/cloud/2",
        "other/threads/2",
        "direct/threads/x",
    ):
        assert candidate_of(name) is None
    assert form_of("other/threads/2") == "other"
    assert form_of("UNROLL") == "UNROLL"
    assert form_of("a/b") == "a/b"


def test_a_machine_that_was_not_tuned_says_what_to_do():
    with pytest.raises(UnavailableError, match="--table CSV"):
        tuned_table()


QUOTED = ONE.replace('"', '""')


@pytest.mark.parametrize(
    "text",
    [
        f'problem,DIRECT,UNROLL\n"{QUOTED}",0.5,0.25\n{TWO},1e-1,\n',
        f'\ufeffproblem,DIRECT,UNROLL\r\n"{QUOTED}",0.5,0.25\r\n"{TWO.replace(chr(34), chr(34) * 2)}",.1,nan\r\n',
        f'Problem; DIRECT ;UNROLL\n"{QUOTED}";0,5;0,25\n{TWO};0,1;inf\n',
        f"\n\nDIRECT\tproblem\tUNROLL\n0.5\t{ONE}\t0.25\n\n0.1\t{TWO}\tNaN",
        f"problem,DIRECT,UNROLL\r{ONE},0.5,0.25\r{TWO},0.1,Infinity\r",
    ],
)
def test_a_file_is_read_whatever_wrote_it(tmp_path, text):
    table = read_table(written(tmp_path, text))
    assert table.problems == (Problem.parse(ONE), Problem.parse(TWO))
    assert table.candidates == ("DIRECT", "UNROLL")
    assert cells(table) == [[0.5, 0.25], [0.1, None]]


def test_rows_of_one_problem_are_measurements_of_one_row_and_rows_without_a_time_are_left_out(tmp_path):
    other_words = 'mb1ic3ih9iw9oc4oh7ow7kh3kw3n"alexnet:conv1*2"'
    text = f"problem,A,B\n{ONE},1,\n{other_words},3,5\n{ONE},2,nan\n{TWO},,inf\n"
    table = read_table(written(tmp_path, text))
    assert cells(table) == [[2.0, 5.0]]
    assert table.left_out == 1


GOOD = f"problem,A,B\n{ONE},1,2\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is empty", "problem"]),
        ("\n \n", ["is empty"]),
        ("problem,A,B\n", ["has no time"]),
        (f"problem,A,B\n{ONE},,\n", ["has no time"]),
        ("layer,A\nx,1\n", ["line 1", "no column 'problem'", "layer, A"]),
        (f"problem,problem,A\n{ONE},{ONE},1\n", ["2 columns 'problem'"]),
        (f"problem,A,A\n{ONE},1,2\n", ["line 1", "several columns 'A'"]),
        (f"problem,A,\n{ONE},1,2\n", ["column 3 ''"]),
        (f"problem,A\x1b[31m\n{ONE},1\n", ["column 2 'A\\x1b[31m'"]),
        (f"problem\n{ONE}\n", ["0 candidates"]),
        (f"{GOOD}{TWO},x,1\n", ["line 3, column A", "'x' is no number"]),
        (f"{GOOD}{TWO},1,-2\n", ["line 3, column B", "'-2'", "from 1e-12 to 1e9"]),
        (f"{GOOD}{TWO},0,1\n", ["line 3, column A", "'0'"]),
        (f"{GOOD}{TWO},-inf,1\n", ["'-inf'"]),
        (f"{GOOD}{TWO},1e300,1\n", ["'1e300'"]),
        (f"{GOOD}{TWO},1_000,1\n", ["'1_000'"]),
        (f"{GOOD}{TWO},1\n", ["line 3", "2 cells where the header has 3"]),
        (f"{GOOD}{TWO},1,2,3\n", ["line 3", "4 cells"]),
        (f"{GOOD}nonsense,1,2\n", ["line 3, column problem", "'nonsense'"]),
        (f"{GOOD},1,2\n", ["line 3, column problem"]),
        (f"{GOOD}mb1ic3ih9id9oc4kh3,1,2\n", ["line 3, column problem", "3-D"]),
        (f'{GOOD}"{ONE}",1,2\n', ["line 3", "CSV"]),
        (f'{GOOD}"abc,1,2\n', ["line 3", "CSV"]),
        (f"{GOOD}{'x' * 200_000},1,2\n", ["line 3", "CSV"]),
        (f"{GOOD}a\0b,1,2\n", ["line 3"]),
        (f"{GOOD}{TWO},ä,2\n".encode("latin-1"), ["line 3 is not text in UTF-8"]),
        (GOOD.encode("utf-16"), ["line 1 is not text in UTF-8"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["not text"]),
    ],
)
def test_a_wrong_file_is_refused_in_a_line_that_names_the_place(tmp_path, content, words):
    path = written(tmp_path, content)
    with pytest.raises(RequestError) as refused:
        read_table(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_a_table_that_was_written_the_other_way_round_is_refused_soon(tmp_path):
    names = ",".join(f"mb1ic{channels}ih9oc4kh3" for channels in range(1, 200_001))
    with pytest.raises(RequestError, match="line 1 has 200000 candidates; give 1 to 200"):
        read_table(written(tmp_path, f"problem,{names}\n"))


def test_a_file_that_is_none_or_too_large_is_refused(tmp_path, monkeypatch):
    for path in (tmp_path / "nothing.csv", tmp_path):
        with pytest.raises(RequestError, match="cannot be read"):
            read_table(path)
    path = written(tmp_path, GOOD + f"{TWO},1,2\n")
    for limit, words in {
        "MOST_ROWS": "over 1 rows",
        "MOST_CANDIDATES": "give 1 to 1",
        "MOST_BYTES": "over 1 bytes",
    }.items():
        with monkeypatch.context() as now:
            now.setattr(table_file, limit, 1)
            with pytest.raises(RequestError, match=words):
                read_table(path)


def test_rows_are_ordered_by_problem_alone():
    table = Table.of(
        {Problem.parse(text): {"A": [1.0], "B": [float(number)]} for number, text in enumerate((TWO, ONE), 1)}
    )
    ordered, other = table.ordered(), table.rows([1, 0]).ordered()
    assert ordered.problems == other.problems
    assert np.array_equal(ordered.seconds, other.seconds)
