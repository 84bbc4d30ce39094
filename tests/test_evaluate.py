"""`convbench evaluate`, and the report's page on which form wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import assert_refused

from convbench.problem import Problem
from convbench.report import winners
from convbench.report.content import Material
from convbench.report.selection import section
from convbench.report.write import write_report
from convbench.results.record import Record
from convbench.results.store import Sweep
from convbench.select.judging.report_card import report_card
from convbench.select.judging.table import Table

HEADER = {"spec": {"problems": [], "algorithms": ["direct", "winograd"], "executors": ["serial"]}}


def descriptor(channels: int) -> str:
    network = "a" if channels < 5 else "b"
    return str(Problem.parse(f'mb1ic{channels}ih12oc4kh3n"{network}:c{channels}*2"'))


def records(count: int, **more: object) -> tuple[Record, ...]:
    """Two forms; `winograd` wins where there are more than six channels."""
    return tuple(
        Record(run=0, order=0, problem=descriptor(n), executor="serial", cores=1, status="ok", samples=(t,), **words)
        for n in range(1, count + 1)
        for words, t in (
            ({"algorithm": "direct", **more}, 0.001 * n),
            ({"algorithm": "winograd", **more}, 0.001 * (n if n < 3 else 1.5 * n if n <= 6 else 0.5 * n)),
        )
    )


def stored(directory: Path, measured: tuple[Record, ...]) -> Path:
    directory.mkdir()
    header = {"schema": 1, "machine": {}, "versions": {}, "started": "", **HEADER}
    (directory / "sweep.json").write_text(json.dumps(header))
    (directory / "results.jsonl").write_text("".join(record.to_json() + "\n" for record in measured))
    return directory


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return stored(tmp_path / "sweep", records(10))


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "times.csv"
    rows = [f"mb1ic{n}ih12oc4kh3,{n},{13 - n}" for n in range(1, 13)]
    path.write_text("\n".join(["problem,DIRECT,UNROLL", *rows, "mb1ic1ih9oc4kh3,1,", "mb1ic2ih9oc4kh3,,"]))
    return path


def test_a_sweeps_card_for_programs(convbench, sweep):
    done = convbench("evaluate", sweep, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    assert data["held_out"] == "layer"
    assert data["problems"] == 10
    for name in ("mean_regret", "worst_regret", "within_5_percent", "top_1"):
        assert data[name] >= 0
        assert data["baselines"]["always-direct"][name] >= 0
    assert data["baselines"]["always-direct"]["mean_regret"] == pytest.approx(0.4)  # twice the time in four of ten
    assert data["baselines"]["fixed-order"]["worst_regret"] == pytest.approx(0.5)
    assert data["splittings"]["network"]["splits"] == 2
    assert convbench("evaluate", sweep, "--json").stdout == done.stdout


def test_anybodys_table_at_a_terminal(convbench, csv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = convbench("evaluate", "--table", csv, "--held-out", "random", "--folds", 4, "--seed", 3)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    titles = [line for line in done.stdout.splitlines() if line.startswith("Held out")]
    assert titles == [
        "Held out at random: 12 problems in 4 parts; regrets",
        "Held out by layer: 12 problems in 4 parts; regrets",
    ]
    for words in ("neighbours", "always-DIRECT", "always-UNROLL", "best-single", "one-split", "oracle", "of oracle"):
        assert words in done.stdout
    assert "fixed-order" not in done.stdout
    assert "not held out by network: the problems name 0 networks" in done.stderr
    assert "left out: 1 problem without" in done.stderr
    assert "not judged by: 1 problem with" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ["DIR", "--table"]),
        (("--table", "{csv}", "{sweep}"), ["give one of them"]),
        (("--table", "nothing.csv"), ["nothing.csv cannot be read"]),
        (("--table", ""), ["table=''"]),
        (("nowhere",), ["nowhere"]),
        (("--table", "{csv}", "--held-out", "year"), ["held-out='year'", "layer, network, random"]),
        (("--table", "{csv}", "--held-out", "network"), ["0 networks", "2 or more"]),
        (("--table", "{csv}", "--folds", "1"), ["folds=1", "from 2 to 1000"]),
        (("--table", "{csv}", "--folds", "two"), ["two"]),
        (("--table", "{csv}", "--seed", "-1"), ["seed=-1"]),
        (("{empty}",), ["2 candidates or more"]),
    ],
)
def test_what_is_wrong_is_one_line(convbench, sweep, csv, tmp_path, words, said):
    empty = stored(tmp_path / "empty", ())
    given = [word.format(sweep=sweep, csv=csv, empty=empty) for word in words]
    assert_refused(convbench("evaluate", *given), *said)


def test_a_problem_that_a_form_cannot_compute_is_in_the_table_all_the_same():
    rows = {f"mb1ic{channels}ih12oc4kh3": (1.0, 2.0, None) for channels in range(1, 6)}
    rows |= {"mb1ic1ih100000oc1kh99999": (1.0, 2.0, None), "mb1ic3ih9oc4kh3sh2": (1.0, 2.0, 3.0)}
    names = ("direct/serial/1", "unrolled/serial/1", "winograd/serial/1")
    times = {
        Problem.parse(text): {name: [] if each is None else [each] for name, each in zip(names, row, strict=True)}
        for text, row in rows.items()
    }
    assert report_card(Table.of(times, names), "layer").marks.card.problems == len(rows)


def page(measured: tuple[Record, ...], **spec: object) -> Material:
    return Material(Sweep(Path(), {}, measured), spec)


def test_the_page_has_cards_the_worst_picks_and_the_picture(tmp_path):
    made = section(page(records(10)))
    names = [table.name for table in made.tables]
    assert names[:3] == ["report-card-layer", "report-card-network", "report-card-random"]
    assert names[3:] in ([], ["worst-picks-layer"])  # none where every pick is the fastest
    assert [row[0] for row in made.tables[0].rows][-1] == "oracle"
    assert [figure.name for figure in made.figures] == ["which-form-wins"]
    write_report(Sweep(tmp_path, HEADER, records(10)), tmp_path)
    assert "## Which form wins" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "figures" / "which-form-wins.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "material",
    [
        page(records(4)),  # too few problems
        page(tuple(record for record in records(10) if record.algorithm == "direct")),
        page(records(10, peer=True)),
        page(records(10), scaling="weak"),
        page(()),
    ],
)
def test_there_is_no_page_where_there_is_nothing_to_choose(material):
    made = section(material)
    assert not made.text
    assert not made.tables
    assert not made.figures


def test_there_is_no_picture_where_no_problem_was_measured_in_two_forms():
    every = records(12)
    apart = tuple(one for one in every if (one.algorithm == "direct") == (int(one.problem[5:].partition("ih")[0]) < 7))
    made = section(page(apart))
    assert not made.figures
    assert not made.tables


def test_a_mark_is_where_the_problem_is_and_hollow_where_another_form_is_close():
    rows = {
        "mb1ic64ih10oc8kh1": ("1 x 1", 64, 100, "direct", False),
        "mb2ic3ih12oc8kh3": ("3 x 3", 27, 200, "direct", True),
        "g8mb1ic8ih9oc8kh3": ("depthwise", 8, 49, "fft", False),
        "g2mb1ic4ih9oc8kh5": ("other kernels", 50, 25, "fft", False),
    }
    seconds = {
        "mb1ic64ih10oc8kh1": {"direct/serial/1": [3.0], "direct/threads/2": [1.0], "fft/threads/2": [1.2]},
        "mb2ic3ih12oc8kh3": {"direct/threads/2": [1.0], "fft/threads/2": [1.05]},
        "g8mb1ic8ih9oc8kh3": {"direct/serial/1": [2.0], "fft/threads/2": [1.0]},
        "g2mb1ic4ih9oc8kh5": {"direct/serial/1": [2.0], "fft/threads/2": [1.0]},
        "mb1ic4ih9oc8kh5": {"direct/serial/1": [2.0]},
    }
    table = Table.of({Problem.parse(text): times for text, times in seconds.items()})
    found = [(mark.panel.title, mark.x, mark.y, mark.form, mark.is_close) for mark in winners.marks(table)]
    assert found == list(rows.values())
    drawn = winners.draw(table)
    assert [axes.get_title() for axes in drawn.axes] == ["1 x 1", "3 x 3", "depthwise", "other kernels"]
    entries = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert entries == ["direct", "fft", "hollow: another within 5%"]
