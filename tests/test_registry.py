"""Tables of things by name."""

from __future__ import annotations

import pytest

from convbench.algorithms import ALGORITHMS
from convbench.errors import RequestError
from convbench.executors import EXECUTORS
from convbench.registry import Entry, Table
from convbench.report import REPORTS


def test_a_name_that_is_listed_twice_raises():
    with pytest.raises(ValueError, match="algorithm a is listed twice"):
        Table("algorithm", [Entry("a", "x:y", ""), Entry("a", "x:z", "")])


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(RequestError) as error:
        EXECUTORS["gpus"]
    assert str(error.value) == "unknown executor 'gpus'; choose from serial, threads, processes, gpu, dask, mpi"


@pytest.mark.parametrize("name", [None, 1, ["serial"], {}, b"serial", "", "serial "])
def test_what_is_no_name_is_answered_as_well(name):
    assert name not in EXECUTORS
    with pytest.raises(
        RequestError, match=r"^unknown executor .+; choose from serial, threads, processes, gpu, dask, mpi$"
    ):
        EXECUTORS[name]


@pytest.mark.parametrize("table", [ALGORITHMS, EXECUTORS, REPORTS], ids=lambda table: table.kind)
def test_everything_that_is_listed_can_be_loaded_and_says_what_it_is(table):
    for entry in table.entries:
        assert table[entry.name] is not None
        assert entry.summary


def test_the_textbook_loops_are_measured_only_when_asked_for():
    assert "naive" in ALGORITHMS
    assert "naive" not in ALGORITHMS.defaults
