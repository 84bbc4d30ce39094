"""The report card: computed by hand, and what holds for every table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.errors import RequestError
from convbench.problem import Problem
from convbench.select.judging.baselines import baselines, one_split
from convbench.select.judging.neighbours import REACH, neighbours
from convbench.select.judging.picker import MODELS, Pick
from convbench.select.judging.report_card import TIE, Card, as_data, report_card, report_cards
from convbench.select.judging.splittings import SPLITTINGS
from convbench.select.judging.table import Table


def problem(channels: int, name: str = "") -> Problem:
    return Problem(height=9, width=9, out_channels=4, kernel_height=3, kernel_width=3, channels=channels, name=name)


def table_of(rows: Sequence[Sequence[float | None]], names: Sequence[str], problems: Sequence[Problem] = ()) -> Table:
    """A table of given seconds; by default the n-th problem has n channels."""
    several = problems or [problem(number) for number in range(1, len(rows) + 1)]
    return Table.of(
        {
            one: {name: [] if seconds is None else [seconds] for name, seconds in zip(names, row, strict=True)}
            for one, row in zip(several, rows, strict=True)
        },
        names,
    )


def first(_table: Table) -> Pick:
    """Picks the first candidate that can."""
    return lambda _problem, able: able[0]


def test_a_card_by_hand():
    taken, fastest = np.array([1.0, 1.01, 2.1, 6.0]), np.array([1.0, 1.0, 2.0, 4.0])
    card = Card.of(taken, fastest, np.ones(4))
    assert card.problems == 4
    assert card.top_1 == 0.5  # the second is a tie
    assert card.within_5_percent == 0.75
    assert card.mean_regret == pytest.approx((0.01 + 0.05 + 0.5) / 4)
    assert card.worst_regret == pytest.approx(0.5)
    assert card.of_oracle == pytest.approx(8 / 10.11)
    assert card.of_oracle_geometric == pytest.approx((1.01 * 1.05 * 1.5) ** -0.25)


def test_a_weighted_card_by_hand():
    card = Card.of(np.array([2.0, 3.0]), np.array([1.0, 3.0]), np.array([1.0, 3.0]))
    assert (card.problems, card.top_1, card.mean_regret, card.worst_regret) == (2, 0.75, 0.25, 1.0)
    assert card.of_oracle == pytest.approx(10 / 11)
    assert card.of_oracle_geometric == pytest.approx(2**-0.25)


def test_a_tie_is_a_share_and_not_more():
    taken = np.array([1 + TIE - 1e-9, 1 + TIE + 1e-9])
    assert Card.of(taken, np.ones(2), np.ones(2)).top_1 == 0.5


def test_a_report_card_by_hand():
    problems = [problem(1, "a:x*3"), problem(2, "a:y"), problem(3, "b:z")]
    table = table_of([[1.0, 2.0], [3.0, 2.0], [4.0, 1.0]], ["A", "B"], problems)
    card = report_card(table, "layer", folds=3, pickers={"first": first})
    marks = card.marks
    assert (card.held_out, card.splits, list(card.models)) == ("layer", 3, ["first"])
    assert marks.card.top_1 == pytest.approx(1 / 3)
    assert marks.card.mean_regret == pytest.approx((0.5 + 3.0) / 3)
    assert marks.weighted.mean_regret == pytest.approx((0.5 + 3.0) / 5)
    assert [(miss.problem.name, miss.picked, miss.fastest, miss.regret) for miss in marks.misses] == [
        ("b:z", "A", "B", 3.0),
        ("a:y", "A", "B", 0.5),
    ]
    assert marks.declined == 0
    assert list(card.baselines) == ["always-A", "always-B", "best-single", "one-split", "oracle"]
    assert card.baselines["always-B"].card.mean_regret == pytest.approx(1 / 3)
    assert card.baselines["always-A"].card == marks.card
    assert card.baselines["oracle"].card == Card(3, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0)


def test_a_model_sees_nothing_of_what_is_held_out():
    problems = [problem(channels, f"{net}:c{channels}") for channels in range(1, 6) for net in ("a", "b")]
    problems.append(problem(6, "a:c6"))
    problems.append(problem(7))
    table = table_of([[1.0, 2.0]] * len(problems), ["A", "B"], problems)
    seen: list[tuple[set[Problem], Problem]] = []

    def watch(training: Table) -> Pick:
        def pick(one: Problem, able: Sequence[int]) -> int:
            seen.append((set(training.problems), one))
            return able[0]

        return pick

    for held_out in SPLITTINGS:
        seen.clear()
        tested = table.problems
        if held_out == "network":
            tested = tuple(one for one in table.problems if one.name)
        report_card(table, held_out, pickers={"watch": watch})
        assert sorted(one.name for _, one in seen) == sorted(one.name for one in tested)  # each once
        for known, one in seen:
            assert one not in known
            if held_out != "random":
                assert all(other.channels != one.channels for other in known)
            if held_out == "network":
                assert not {other.name[:2] for other in known} & {one.name[:2]}
                assert problem(7) in known


def test_where_there_is_one_network_or_one_shape_nothing_can_be_held_out():
    table = table_of([[1.0, 2.0]] * 2, ["A", "B"], [problem(1, "a:x"), problem(1, "a:y")])
    with pytest.raises(RequestError, match="only 1 different shape"):
        report_card(table, "layer")
    with pytest.raises(RequestError, match=r"1 network with .*alexnet:conv1"):
        report_card(table, "network")
    cards = report_cards(table, "random")
    assert list(cards) == ["random", "layer", "network"]
    assert isinstance(cards["layer"], str)


def test_what_is_wrong_is_refused():
    table = table_of([[1.0, 2.0]] * 3, ["A", "B"])
    with pytest.raises(RequestError, match=r"held-out='year' is not known; choose from layer, network, random"):
        report_cards(table, "year")
    with pytest.raises(RequestError, match="folds=1 is not allowed"):
        report_cards(table, folds=1)
    with pytest.raises(RequestError, match="seed=-1"):
        report_cards(table, seed=-1)
    with pytest.raises(RequestError, match="2 candidates or more, and there is A"):
        report_cards(table_of([[1.0]] * 3, ["A"]))
    with pytest.raises(RequestError, match="2 candidates or more, and there is none"):
        report_cards(Table.of({}))
    with pytest.raises(RequestError, match="nothing to choose; measure more"):
        report_cards(table_of([[1.0, None], [None, 1.0]], ["A", "B"]))
    with pytest.raises(RequestError, match="none of the 2 problems to judge by has the times"):
        report_cards(table, judged=[problem(50), problem(60)])


def test_a_problem_that_one_candidate_can_do_is_learned_from_and_not_judged_by():
    table = table_of([[1.0, 2.0], [1.0, 2.0], [None, 5.0]], ["A", "B"])
    sizes: list[int] = []

    def count(training: Table) -> Pick:
        sizes.append(len(training.problems))
        return first(training)

    assert report_card(table, "layer", pickers={"count": count}).marks.card.problems == 2
    assert sizes == [2, 2]


def test_where_a_model_has_no_answer_the_best_single_candidate_is_taken_and_counted():
    table = table_of([[1.0, 2.0], [1.0, 2.0], [3.0, 2.0]], ["A", "B"])
    card = report_card(table, "layer", pickers={"none": lambda _table: lambda _problem, _able: None})
    assert card.marks.declined == 3
    assert card.marks.card == card.baselines["best-single"].card


def test_a_pick_that_cannot_is_an_error_of_the_model():
    table = table_of([[1.0, 2.0, None]] * 2, ["A", "B", "C"])
    with pytest.raises(ValueError, match="column 2 was picked"):
        report_card(table, "layer", pickers={"wrong": lambda _table: lambda _problem, _able: 2})


def test_the_best_single_candidate_falls_back_where_it_cannot():
    """C is far the best where it can; where it cannot, B, which always can, is better than A."""
    rows = [[4.0, 2.0, 1.0]] * 4 + [[4.0, 2.0, None]] * 2 + [[4.0, 2.0, 1.0]]
    table = table_of(rows, ["A", "B", "C"])
    pick = baselines(table)["best-single"](table)
    assert pick(problem(1), [0, 1, 2]) == 2
    assert pick(problem(1), [0, 1]) == 1
    assert pick(problem(1), [0]) == 0
    assert report_card(table, "layer").baselines["best-single"].card.worst_regret == 0


def test_always_takes_a_forms_best_executor_and_cores():
    names = ["direct/serial/1", "direct/threads/2", "fft/threads/2"]
    table = table_of([[4.0, 2.0, 1.0], [1.0, 3.0, 1.0], [9.0, 2.0, 1.0]], names)
    pick = baselines(table)["always-direct"](table)
    assert pick(problem(1), [0, 1, 2]) == 1
    assert pick(problem(1), [0, 2]) == 0
    assert pick(problem(1), [2]) == 2


def test_the_fixed_order_is_that_of_the_preference_on_the_most_cores():
    names = ["unrolled/threads/2", "direct/serial/1", "direct/threads/4", "direct/threads/2", "winograd/processes/4"]
    table = table_of([[1.0] * 5] * 2, names)
    pick = baselines(table)["fixed-order"](table)
    assert pick(problem(1), [0, 1, 2, 3, 4]) == 2
    assert pick(problem(1), [0, 1, 3, 4]) == 3
    assert pick(problem(1), [0, 1, 4]) == 1
    assert pick(problem(1), [0, 4]) == 0
    assert pick(problem(1), [4]) == 4
    assert "fixed-order" not in baselines(table_of([[1.0] * 2], ["DIRECT", "UNROLL"]))


def test_the_one_split_finds_the_threshold_that_made_the_times():
    rows = [[1.0, 2.0] if channels <= 6 else [3.0, 1.0] for channels in range(1, 13)]
    table = table_of(rows, ["A", "B"])
    pick = one_split(table)
    assert [pick(one, [0, 1]) for one in table.problems] == [0] * 6 + [1] * 6
    assert pick(problem(100), [0]) == 0
    assert report_card(table, "layer", folds=12).baselines["one-split"].card.mean_regret < 0.3


def test_the_one_split_is_the_best_single_candidate_where_nothing_separates():
    table = table_of([[1.0, 2.0]] * 4, ["A", "B"])
    assert [one_split(table)(problem(9), [0, 1]), one_split(table)(problem(9), [1])] == [0, 1]


def test_neighbours_by_hand():
    """Of two neighbours, the nearer one has the greater weight; a candidate is known by those that it ran on."""
    problems = [problem(8), problem(16), problem(64)]
    table = table_of([[1.0, 4.0, None], [1.0, 1.5, None], [8.0, 1.0, 2.0]], ["A", "B", "C"], problems)
    pick = neighbours(table, nearest=1)
    assert [pick(problem(channels), [0, 1, 2]) for channels in (8, 12, 50)] == [0, 0, 1]
    assert pick(problem(8), [1, 2]) == 2
    assert neighbours(table, nearest=3)(problem(30), [0, 1]) == 1
    nobody = table_of([[1.0, None]] * 2, ["A", "B"])
    assert neighbours(nobody)(problem(1), [1]) == 1


def test_neighbours_look_further_for_a_candidate_that_is_measured_seldom():
    count = 3 * REACH
    rows = [[2.0, 1.0 if channels == count else None] for channels in range(1, count + 1)]
    table = table_of(rows, ["A", "B"])
    assert neighbours(table)(problem(1), [0, 1]) in (0, 1)
    assert neighbours(table)(problem(count), [1]) == 1


def test_as_data_is_json_whose_top_is_the_model_held_out_as_asked():
    problems = [problem(channels, f"{net}:c") for channels, net in ((1, "a"), (2, "a"), (3, "b"), (4, "b"))]
    table = table_of([[1.0, 2.0], [3.0, 2.0], [4.0, 1.0], [1.0, 1.2]], ["A", "B"], problems)
    data = json.loads(json.dumps(as_data(report_cards(table, "network")), allow_nan=False))
    assert data["held_out"] == "network"
    assert data["model"] == MODELS.names[0]
    assert list(data["splittings"]) == ["layer", "network", "random"]
    top = {name: data[name] for name in ("problems", "top_1", "within_5_percent", "mean_regret", "worst_regret")}
    of_model = data["splittings"]["network"]["models"][data["model"]]
    assert top == {name: of_model[name] for name in top}
    assert data["baselines"]["oracle"]["mean_regret"] == 0
    assert {"weighted", "declined", "worst"} <= set(of_model)
    assert as_data(report_cards(table_of([[1.0, 2.0]] * 3, ["A", "B"])))["splittings"]["network"].keys() == {"reason"}


times = st.one_of(st.none(), st.floats(1e-9, 1e3))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to twelve problems in networks, some of the same shape, and up to five candidates, in no order."""
    count, width = draw(st.integers(3, 12)), draw(st.integers(2, 5))
    rows = [draw(st.lists(times, min_size=width, max_size=width)) for _ in range(count)]
    for row in rows[:3]:
        row[:2] = [row[0] or 1.0, row[1] or 2.0]
    names = draw(st.lists(st.sampled_from(["a:x", "b:x", "c:x*5", ""]), min_size=count, max_size=count))
    problems = [
        problem(1 + number // 2 * 3, f"{name[:1]}:{number}{name[3:]}" if name else str(number))
        for number, name in enumerate(names)
    ]
    every = ["direct/serial/1", "direct/threads/2", "fft/threads/2", "winograd/threads/2", "mine"]
    return table_of(rows, every[:width], problems)


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.long)])
def test_every_card_is_possible_and_the_oracle_has_no_regret(examples):
    settings(max_examples=examples)(given(tables())(assert_possible))()


def assert_possible(table: Table) -> None:
    for held_out in SPLITTINGS:
        try:
            card = report_card(table, held_out, folds=4)
        except RequestError:
            assert held_out == "network"
            continue
        for marks in (*card.models.values(), *card.baselines.values()):
            for one in (marks.card, marks.weighted):
                assert 0 <= one.mean_regret <= one.worst_regret * (1 + 1e-12)
                assert 0 <= one.top_1 <= one.within_5_percent <= 1 + 1e-12
                assert 0 < one.of_oracle <= 1 + 1e-12
                assert 0 < one.of_oracle_geometric <= 1 + 1e-12
                assert 1 + one.mean_regret >= 1 / one.of_oracle_geometric * (1 - 1e-12)
                assert math.isfinite(one.worst_regret)
        assert card.baselines["oracle"].card.worst_regret == 0
        assert card.baselines["oracle"].card.top_1 == pytest.approx(1)


@pytest.mark.parametrize("examples", [4, pytest.param(24, marks=pytest.mark.long)])
def test_the_order_of_rows_changes_nothing(examples):
    @settings(max_examples=examples)
    @given(tables(), st.randoms(use_true_random=False))
    def compare(table, random):
        order = list(range(len(table.problems)))
        random.shuffle(order)
        one, other = (report_cards(rows, "layer", folds=3) for rows in (table, table.rows(order)))
        assert as_data(one) == as_data(other)

    compare()


def test_the_seed_decides_which_problem_is_in_which_part():
    rows = [[1.0, 2.0 + channels % 3] if channels % 2 else [2.0, 1.0] for channels in range(1, 16)]
    table = table_of(rows, ["A", "B"])
    cards = [as_data(report_cards(table, seed=seed)) for seed in (0, 0, 1)]
    assert cards[0] == cards[1]
    assert cards[0] != cards[2]
